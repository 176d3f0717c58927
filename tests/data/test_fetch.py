"""The files of a dataset: what is there, archives, the Hub, and what is refused."""

import re
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from langhops_cli.data.fetching import download as downloading
from langhops_cli.data.fetching.fetch import FetchReport, fetch
from langhops_cli.data.manifests import Manifest, RemoteFile
from langhops_cli.errors import DATA, ENVIRONMENT
from tests.data.serving import CONTENT, SHA256, Served, Server, manifest, names_in, one, refusal, serve


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(downloading, "SECONDS", 5.0)
    with serve() as running:
        yield running


@pytest.mark.parametrize("facts", [{"size": 4}, {"sha256": SHA256}], ids=["size", "sha256"])
def test_another_file_of_the_name_is_not_replaced(server: Server, tmp_path: Path, facts: dict[str, Any]) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "below/a.bin").write_bytes(b"mine!")
    assert "move it away" in refusal(lambda: fetch(one(server, **facts), tmp_path), DATA)
    assert (tmp_path / "below/a.bin").read_bytes() == b"mine!"
    assert server.seen == []


@pytest.mark.parametrize(
    ("url", "path", "unpack"),
    [
        ("file:///etc/passwd", "a", None),
        ("ftp://example.org/a", "a", None),
        ("hub://owner", "a", None),
        ("http://127.0.0.1/a", "../a", None),
        ("http://127.0.0.1/a", "/tmp/a", None),
        ("http://127.0.0.1/a", "a.zip", "../b"),
    ],
)
def test_odd_addresses_and_places_are_refused(tmp_path: Path, url: str, path: str, unpack: str | None) -> None:
    odd = manifest(RemoteFile(url=url, path=path, unpack=unpack))
    assert "is refused" in refusal(lambda: fetch(odd, tmp_path), DATA)
    assert names_in(tmp_path) == []


def test_a_set_without_files_cannot_be_fetched(tmp_path: Path) -> None:
    assert "here: nowhere" in refusal(lambda: fetch(manifest(), tmp_path), DATA)
    behind = manifest().model_copy(update={"form": "https://a.org/form"})
    assert "here: https://a.org/form (a form)" in refusal(lambda: fetch(behind, tmp_path), DATA)


@pytest.fixture
def packed(server: Server, tmp_path: Path) -> Manifest:
    """Two files, one of them an archive."""
    archive = tmp_path / "made.zip"
    with zipfile.ZipFile(archive, "w") as made:
        made.writestr("annotations/train.json", "{}")
    server.files["a.bin"] = Served()
    server.files["set.zip"] = Served(content=archive.read_bytes())
    return manifest(
        RemoteFile(url=server.url("a.bin"), path="a.bin", sha256=SHA256),
        RemoteFile(url=server.url("set.zip"), path="set.zip", unpack=".", size=archive.stat().st_size),
    )


def test_archives_are_unpacked_once_and_may_go_then(server: Server, tmp_path: Path, packed: Manifest) -> None:
    source = tmp_path / "source"
    first = fetch(packed, source)
    assert first == FetchReport(["a.bin", "set.zip"], unpacked=["set.zip"], kept=["set.zip"])
    assert (source / "annotations/train.json").read_text() == "{}"
    assert fetch(packed, source) == FetchReport(there=["a.bin", "set.zip"], kept=["set.zip"])
    (source / "set.zip").unlink()
    assert fetch(packed, source) == FetchReport(there=["a.bin", "set.zip"])
    assert len(server.seen) == 2
    shutil.rmtree(source / "annotations")
    assert fetch(packed, source).unpacked == ["set.zip"]
    assert (source / "annotations/train.json").is_file()


def test_archives_in_an_archive_are_unpacked_where_they_lie(server: Server, tmp_path: Path) -> None:
    inner, outer = tmp_path / "train.zip", tmp_path / "outer.zip"
    with zipfile.ZipFile(inner, "w") as made:
        made.writestr("train/1.jpg", "picture")
    with zipfile.ZipFile(outer, "w") as made:
        made.write(inner, "set/train.zip")
        made.write(inner, "set/other.zip")
    server.files["set.zip"] = Served(content=outer.read_bytes())
    nested = manifest(
        RemoteFile(url=server.url("set.zip"), path="set.zip", unpack="below", inside=["*/train.zip", "*/tr*.zip"])
    )
    report = fetch(nested, tmp_path / "source")
    assert report.unpacked == report.kept == ["set.zip", "below/set/train.zip"]
    assert (tmp_path / "source/below/set/train/1.jpg").read_text() == "picture"
    assert fetch(nested, tmp_path / "source").unpacked == []


def test_a_stop_while_unpacking_loses_no_download(server: Server, tmp_path: Path, packed: Manifest) -> None:
    def stop(label: str, done: int, total: int | None) -> None:
        if re.match("unpack", label):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(packed, tmp_path / "source", track=stop)
    assert names_in(tmp_path / "source") == ["a.bin", "set.zip"]
    assert fetch(packed, tmp_path / "source").unpacked == ["set.zip"]
    assert len(server.seen) == 2


class TestHub:
    """Files of the Hub, whose library is replaced."""

    URL = "hub://owner/name/deep/a.bin"

    @pytest.fixture
    def give(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes | Exception], list[tuple[str, ...]]]:
        import huggingface_hub

        def give(what: bytes | Exception) -> list[tuple[str, ...]]:
            asked: list[tuple[str, ...]] = []

            def hf_hub_download(repo_id: str, filename: str, *, repo_type: str, local_dir: Path) -> str:
                asked.append((repo_id, filename, repo_type))
                if isinstance(what, Exception):
                    raise what
                (local_dir / filename).parent.mkdir(parents=True)
                (local_dir / filename).write_bytes(what)
                return str(local_dir / filename)

            monkeypatch.setattr(huggingface_hub, "hf_hub_download", hf_hub_download)
            return asked

        return give

    def test_comes_by_the_library_of_the_hub(self, give: Any, tmp_path: Path) -> None:
        wanted = manifest(RemoteFile(url=self.URL, path="b/c.bin", sha256=SHA256))
        asked = give(CONTENT)
        assert fetch(wanted, tmp_path).fetched == ["b/c.bin"]
        assert asked == [("owner/name", "deep/a.bin", "dataset")]
        assert names_in(tmp_path) == ["b/c.bin"]
        assert (tmp_path / "b/c.bin").read_bytes() == CONTENT
        assert fetch(wanted, tmp_path).there == ["b/c.bin"]
        assert len(asked) == 1

    def test_a_wrong_file_does_not_take_its_name(self, give: Any, tmp_path: Path) -> None:
        give(b"other")
        wanted = manifest(RemoteFile(url=self.URL, path="c.bin", sha256=SHA256))
        assert "sha256" in refusal(lambda: fetch(wanted, tmp_path), DATA)
        assert names_in(tmp_path) == []

    @pytest.mark.parametrize(
        ("kind", "status", "code", "words"),
        [
            ("GatedRepoError", 403, ENVIRONMENT, "licence accepted"),
            ("RepositoryNotFoundError", 404, DATA, "none of that name"),
            ("RemoteEntryNotFoundError", 404, DATA, "no such file"),
            ("HfHubHTTPError", 403, ENVIRONMENT, "does not let you"),
            ("HfHubHTTPError", 500, ENVIRONMENT, "refused"),
            ("LocalEntryNotFoundError", None, ENVIRONMENT, "cannot be reached"),
            ("OfflineModeIsEnabled", None, ENVIRONMENT, "cannot be reached"),
            ("HFValidationError", None, ENVIRONMENT, "refused"),
        ],
    )
    def test_what_it_refuses_is_explained(
        self, give: Any, tmp_path: Path, kind: str, status: int | None, code: int, words: str
    ) -> None:
        from huggingface_hub import errors

        fault = getattr(errors, kind)("told\nat length", **hub_response(status))
        give(fault)
        message = refusal(lambda: fetch(manifest(RemoteFile(url=self.URL, path="c")), tmp_path), code)
        assert words in message and self.URL in message
        assert names_in(tmp_path) == []

    @pytest.mark.parametrize("fault", [OSError(28, "No space left"), OSError(122, "Disk quota exceeded")])
    def test_a_full_disk(self, give: Any, tmp_path: Path, fault: OSError) -> None:
        give(fault)
        wanted = manifest(RemoteFile(url=self.URL, path="c"))
        assert "make room" in refusal(lambda: fetch(wanted, tmp_path), ENVIRONMENT)

    def test_a_folder_that_cannot_be_written_is_the_systems_word(self, give: Any, tmp_path: Path) -> None:
        give(PermissionError(13, "Permission denied", "/x"))
        with pytest.raises(PermissionError):
            fetch(manifest(RemoteFile(url=self.URL, path="c")), tmp_path)


def hub_response(status: int | None) -> dict[str, Any]:
    if status is None:
        return {}
    return {"response": SimpleNamespace(status_code=status, headers={}, request=None)}
