"""Every manifest is whole, true to the command line, and has its reader."""

import re
import shlex
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import pytest
import yaml
from typer.main import get_command

from langhops_cli.cli.app import app
from langhops_cli.data.fetching.layout import missing
from langhops_cli.data.manifests import Manifest, load_manifest, manifest_names
from langhops_cli.errors import UserError
from langhops_cli.vocabulary.names import clean_name

NAMES = sorted(path.stem for path in (Path(__file__).parents[2] / "data_manifests").glob("*.yaml"))


@pytest.fixture(params=NAMES)
def manifest(request: pytest.FixtureRequest) -> Manifest:
    return load_manifest(request.param)


def test_every_dataset_has_a_reader_and_every_reader_a_dataset() -> None:
    from langhops_cli.data.registry import READERS

    assert READERS.keys() == set(manifest_names())


def test_there_is_no_manifest_of_another_name() -> None:
    assert "shapes" in manifest_names() == NAMES
    with pytest.raises(UserError, match=r"no dataset is called 'nothing'; known are .*shapes"):
        load_manifest("nothing")


def test_the_file_is_called_as_the_dataset(manifest: Manifest, request: pytest.FixtureRequest) -> None:
    assert manifest.name == request.node.callspec.params["manifest"]
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", manifest.name)


def test_texts_are_lines(manifest: Manifest) -> None:
    texts = [manifest.title, manifest.summary, manifest.source, manifest.licence, manifest.citation or "x"]
    for text in [*texts, *manifest.notes, *manifest.tree]:
        assert text.strip() and "\n" not in text and text.isprintable() and text == text.rstrip()


def test_the_command_line_takes_the_command(manifest: Manifest) -> None:
    words = shlex.split(manifest.command)
    assert words[:3] == ["langhops", "prepare", manifest.name]
    command = get_command(app)
    for word in words[1:3]:
        command = command.commands[word]  # type: ignore[attr-defined]
    assert command.make_context(manifest.name, words[3:]).args == []


def test_addresses_are_of_servers(manifest: Manifest) -> None:
    for url in [manifest.form] if manifest.form else []:
        assert urlsplit(url).scheme in ("http", "https") and urlsplit(url).hostname
    for file in manifest.files:
        parts = urlsplit(file.url)
        assert parts.scheme in ("http", "https", "hub") and parts.netloc
        assert parts.scheme != "hub" or len(file.url.split("/")) >= 5


def test_files_have_places_and_checksums_are_some(manifest: Manifest) -> None:
    places = [file.path for file in manifest.files]
    assert len(set(places)) == len(places)
    for file in manifest.files:
        for name in (file.path, file.unpack or ".", *file.inside):
            path = PurePosixPath(name)
            assert not path.is_absolute() and ".." not in path.parts
        assert file.size is None or file.size > 0
        for checksum, length in ((file.sha256, 64), (file.md5, 32)):
            assert checksum is None or re.fullmatch(rf"[0-9a-f]{{{length}}}", checksum)
        if file.unpack is not None:
            assert file.path.endswith((".zip", ".tar", ".tar.gz", ".tgz"))


def test_names_are_clean_and_differ(manifest: Manifest) -> None:
    objects = list(manifest.vocabulary)
    for names in (objects, *manifest.vocabulary.values()):
        assert len(set(names)) == len(names)
        assert [name for name in names if clean_name(name) != name] == []


def test_counts_are_those_of_the_names(manifest: Manifest) -> None:
    if not manifest.vocabulary:
        return
    parts = sum(map(len, manifest.vocabulary.values()))
    assert manifest.objects in (None, len(manifest.vocabulary))
    assert manifest.parts in (None, parts, len({part for names in manifest.vocabulary.values() for part in names}))


def test_names_are_not_written_twice_in_the_file(manifest: Manifest) -> None:
    # YAML itself keeps the last of two equal keys and says nothing.
    path = Path(__file__).parents[2] / "data_manifests" / f"{manifest.name}.yaml"

    def look(node: yaml.Node) -> None:
        if isinstance(node, yaml.MappingNode):
            keys = [key.value for key, _ in node.value]
            assert len(set(keys)) == len(keys)
            for _, value in node.value:
                look(value)
        elif isinstance(node, yaml.SequenceNode):
            for value in node.value:
                look(value)

    look(yaml.compose(path.read_text(encoding="utf-8")))


def test_the_tree_can_be_read(manifest: Manifest, tmp_path: Path) -> None:
    lacking = missing(manifest, tmp_path)
    assert (manifest.kind == "generated") == (manifest.tree == [])
    assert bool(lacking) == bool(manifest.tree)  # in an empty folder
    for pattern in [pattern for told in lacking for pattern in told.split(" or ")]:
        assert not pattern.startswith(("/", "~")) and "..." not in pattern.split("/")[:-1]
        assert re.fullmatch(r"[^\s:\\,]+", re.sub(r"\{[^{}]*\}", "", pattern)), f"{pattern!r} is no path"
        for name in pattern.split("/"):
            assert not re.fullmatch(r"[A-Z]{4,}", name), f"{pattern!r}: write <{name.lower()}> for what varies"


def test_splits_have_pictures(manifest: Manifest) -> None:
    assert all(split.images is None or split.images > 0 for split in manifest.splits.values())
