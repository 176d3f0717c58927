"""Reading shards, here and on the Hub, and training from them."""

import io
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem

from langhops_cli.data.collate import Batch
from langhops_cli.data.index import PreparedDataset
from langhops_cli.data.sample import Sample
from langhops_cli.data.sampling.mixture import MixedSet, training_loader
from langhops_cli.data.shards import write_shards
from langhops_cli.data.streamed import StreamedDataset
from langhops_cli.errors import DATA, ENVIRONMENT, UserError

from .cars import prepare_cars


@pytest.fixture(scope="module")
def cars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare_cars(tmp_path_factory.mktemp("cars"), pictures=24)


@pytest.fixture(scope="module")
def kept(cars: Path) -> Path:
    """Six row groups of four pictures, in two shards."""
    out = cars.parent / "shards"
    listed, _ = write_shards(cars, out, group=4, shard_bytes=175_000)
    assert [file["groups"] for file in listed["splits"]["train"]["files"]] == [[4, 4, 4, 4], [4, 4]]
    return out


@pytest.fixture
def shards(kept: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    return Path(shutil.copytree(kept, tmp_path / "shards"))


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], list[tuple[int, int]]]:
    """The row groups that were read so far, by all processes: (process, group)."""
    log = tmp_path / "reads.txt"
    read = StreamedDataset._read_group

    def note(self: StreamedDataset, number: int) -> Any:
        with log.open("a") as file:
            file.write(f"{os.getpid()} {number}\n")
        return read(self, number)

    monkeypatch.setattr(StreamedDataset, "_read_group", note)

    def found() -> list[tuple[int, int]]:
        lines = log.read_text().splitlines() if log.exists() else []
        return [(int(process), int(group)) for process, group in map(str.split, lines)]

    return found


def _assert_equal(one: Sample, two: Sample) -> None:
    np.testing.assert_array_equal(np.asarray(one.image), np.asarray(two.image))
    for mine, other in zip([*one.objects, *one.parts], [*two.objects, *two.parts], strict=True):
        np.testing.assert_array_equal(mine.mask, other.mask)
        assert (mine.label, mine.box, mine.parent) == (other.label, other.box, other.parent)
    plain = [item.name for item in fields(Sample) if item.name not in ("name", "image", "objects", "parts")]
    assert [getattr(one, name) for name in plain] == [getattr(two, name) for name in plain]


@pytest.mark.parametrize("longest", [None, 24])
def test_a_streamed_set_is_the_prepared_one(cars: Path, kept: Path, longest: int | None) -> None:
    prepared, streamed = PreparedDataset(cars, "train"), StreamedDataset(kept, "train")
    assert len(streamed) == len(prepared) == 24
    assert streamed.groups == [4] * 6
    assert streamed.vocabulary.to_dict() == prepared.vocabulary.to_dict()
    assert (streamed.exhaustive, streamed.fingerprint) == (prepared.exhaustive, prepared.fingerprint)
    assert streamed.name == "shards/train"
    places = {number: place for place, number in enumerate(prepared.image_ids)}
    for index in range(24):
        sample = streamed.load(index, longest=longest)
        _assert_equal(sample, prepared.load(places.pop(sample.image_id), longest=longest))
        assert sample.name.startswith(f"{kept}/train/0000")
        assert sample.size == ((96, 96) if longest is None else (24, 24))
    assert not places
    for index in (-1, 24):
        with pytest.raises(IndexError):
            streamed[index]


def test_neighbours_cost_one_read_and_two_groups_are_held(kept: Path, reads: Callable[..., Any]) -> None:
    dataset = StreamedDataset(kept, "train")
    for index in (0, 3, 1, 4, 2, 5, 7, 0):
        dataset[index]
    assert [group for _, group in reads()] == [0, 1]
    dataset[8]  # in the place of the group that was not asked for longest
    dataset[0]
    dataset[4]
    assert [group for _, group in reads()] == [0, 1, 2, 1]


class _Counted(LocalFileSystem):  # type: ignore[misc]
    """Counts the bytes that leave it."""

    cachable = False
    left = 0

    def _open(self, path: str, *_: Any, **__: Any) -> io.FileIO:
        system = self

        class Counting(io.FileIO):
            def read(self, size: int | None = -1, /) -> bytes:
                content = super().read(size)
                system.left += len(content)
                return content

        return Counting(path)


@pytest.fixture
def hub(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> _Counted:
    """The Hub, with a data set someone/cars, as a folder on this disk."""
    folder = tmp_path / "hub" / "datasets" / "someone" / "cars@abc123"
    folder.parent.mkdir(parents=True)
    shards.rename(folder)
    system = _Counted()

    def download(repo_id: str, name: str, *, repo_type: str, revision: str) -> str:
        source = tmp_path / "hub" / f"{repo_type}s" / f"{repo_id}@{revision}" / name
        if not source.exists():
            response = SimpleNamespace(headers={}, status_code=404, request=None)
            raise huggingface_hub.errors.RemoteEntryNotFoundError("404", response=response)  # type: ignore[arg-type]
        return str(source)

    monkeypatch.setattr(huggingface_hub, "HfFileSystem", lambda: DirFileSystem(str(tmp_path / "hub"), system))
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", lambda _, repo_id: SimpleNamespace(sha="abc123"))
    monkeypatch.chdir(tmp_path)
    return system


def test_a_set_of_the_hub_is_read_by_ranges(cars: Path, hub: _Counted) -> None:
    streamed, prepared = StreamedDataset("someone/cars", "train"), PreparedDataset(cars, "train")
    assert streamed.name == "someone/cars/train"
    sample = streamed[5]
    assert sample.name.startswith("someone/cars/train/00000-of-00002.parquet: train/")
    _assert_equal(sample, prepared[prepared.image_ids.index(sample.image_id)])
    whole = sum(path.stat().st_size for path in Path("hub").rglob("*.parquet"))
    assert 0 < hub.left < whole / 2


def test_what_the_hub_lacks_is_told(hub: _Counted) -> None:
    folder = Path("hub/datasets/someone/cars@abc123")
    (folder / "shards.json").rename(folder / "other.json")
    with pytest.raises(
        UserError, match=r"someone/cars on the Hub has no shards\.json, so it holds no shards"
    ) as caught:
        StreamedDataset("someone/cars", "train")
    assert caught.value.code == DATA
    (folder / "other.json").rename(folder / "shards.json")
    dataset = StreamedDataset("someone/cars", "train")
    next((folder / "train").iterdir()).unlink()
    with pytest.raises(UserError, match=r"someone/cars lacks train/0000\d-of-00002\.parquet"):
        StreamedDataset("someone/cars", "train")
    with pytest.raises(UserError, match=r"cannot be read \(.*\); run the same command again"):
        list(dataset)


def test_a_hub_out_of_reach_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="someone/cars is no folder here, and the Hub cannot be reached") as caught:
        StreamedDataset("someone/cars", "train")
    assert caught.value.code == ENVIRONMENT
    assert "\n" not in str(caught.value)


def test_a_connection_lost_on_the_way_is_told(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = StreamedDataset(kept, "train")

    class Lost:
        closed = False

        def __enter__(self) -> "Lost":
            return self

        def __exit__(self, *_: object) -> None: ...

        def seek(self, *_: int) -> int:
            return 0

        def tell(self) -> int:
            return 10**5

        def read(self, *_: int) -> bytes:
            raise huggingface_hub.errors.HTTPError("the peer hung up\nand more")

    monkeypatch.setattr(LocalFileSystem, "open", lambda *_, **__: Lost())
    with pytest.raises(UserError, match=r"00000-of-00002\.parquet cannot be read \(the peer hung up and more\)"):
        dataset[0]


def _change(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("breaks", "says"),
    [
        (lambda out: shutil.rmtree(out), r"shards does not exist; give a folder of shards or a Hub id"),
        (lambda out: (out / "shards.json").unlink(), r"shards has no shards\.json, so it holds no shards"),
        (lambda out: (out / "shards.json").write_text("{"), r"shards\.json is broken"),
        (lambda out: (out / "shards.json").write_text("[]"), r"shards\.json is broken"),
        (lambda out: _change(out / "shards.json", lambda c: c.update(format=2)), r"is of format 2, .* reads 1"),
        (lambda out: _change(out / "shards.json", lambda c: c["splits"]["train"].pop("files")), r"train\.files"),
        (
            lambda out: _change(
                out / "shards.json", lambda c: c["splits"]["train"]["files"][0].update(name="../../etc/1-of-1.parquet")
            ),
            r"is broken at splits\.train\.files\.0\.name",
        ),
        (
            lambda out: _change(out / "shards.json", lambda c: c["splits"]["train"]["files"][0].update(groups=[-4])),
            r"is broken at splits\.train\.files\.0\.groups",
        ),
        (lambda out: (out / "hierarchy.yaml").unlink(), r"hierarchy\.yaml is missing"),
        (lambda out: (out / "hierarchy.yaml").write_text("zebra:\n"), "shares no name with"),
        (lambda out: next((out / "train").iterdir()).unlink(), r"lacks train/0000\d-of-00002\.parquet, which its"),
        (lambda out: shutil.rmtree(out / "train"), r"lacks train/00000-of-00002\.parquet and 1 more"),
    ],
)
def test_a_broken_folder_is_told_at_once(shards: Path, breaks: Callable[[Path], Any], says: str) -> None:
    breaks(shards)
    with pytest.raises(UserError, match=says) as caught:
        StreamedDataset(shards, "train")
    assert caught.value.code == DATA
    assert "\n" not in str(caught.value)


def test_a_missing_split_is_told(kept: Path) -> None:
    with pytest.raises(UserError, match=r"has no split 'test' \(it has: train\)"):
        StreamedDataset(kept, "test")


def test_a_shard_that_is_damaged_or_another_is_told(shards: Path) -> None:
    dataset = StreamedDataset(shards, "train")
    first, second = sorted((shards / "train").iterdir())
    content = first.read_bytes()
    first.write_bytes(content[:-2000])
    with pytest.raises(UserError, match=r"00000-of-00002\.parquet cannot be read \(.+\); copy it anew"):
        dataset[0]
    first.write_bytes(b"")
    with pytest.raises(UserError, match=r"00000-of-00002\.parquet cannot be read"):
        dataset[0]
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"image_id": [1, 2, 3, 4]}), first)
    with pytest.raises(UserError, match=r"00000-of-00002\.parquet is not what shards\.json says"):
        dataset[0]
    table = pq.read_table(second)
    place = table.schema.get_field_index("parent")
    bad = table.slice(0, 4).set_column(place, table.schema.field("parent"), pa.array([[]] * 4, pa.list_(pa.int64())))
    pq.write_table(bad, first)
    with pytest.raises(UserError, match=r"has annotations that cannot be read"):
        dataset[0]


def _pixels(batches: list[Batch]) -> list[torch.Tensor]:
    return [batch.pictures.pixels for batch in batches]


@pytest.mark.parametrize("workers", [0, 2])
def test_the_loader_reads_each_row_group_once_an_epoch(kept: Path, reads: Callable[..., Any], workers: int) -> None:
    dataset = StreamedDataset(kept, "train")
    batches = list(training_loader([MixedSet(dataset)], batch_size=2, size=64, steps=12, workers=workers))
    names = [target.name for batch in batches for target in batch.targets]
    assert len(set(names)) == len(names) == 24
    assert sorted(group for _, group in reads()) == list(range(6))
    assert Counter(Counter(process for process, _ in reads()).values()) == ({3: 2} if workers else {6: 1})


def test_the_loader_goes_on_where_it_was(kept: Path, cars: Path) -> None:
    def load(**options: int) -> list[torch.Tensor]:
        sets = [MixedSet(StreamedDataset(kept, "train"), 2), MixedSet(PreparedDataset(cars, "train"), 1)]
        return _pixels(list(training_loader(sets, batch_size=3, size=64, steps=7, workers=2, **options)))

    whole = load()
    rest = load(start_step=3)
    assert len(whole) == 7
    assert all(torch.equal(one, two) for one, two in zip(whole[3:], rest, strict=True))
    assert not torch.equal(whole[0], whole[2])


def test_a_shard_that_cannot_be_read_stops_training_with_one_line(shards: Path) -> None:
    dataset = StreamedDataset(shards, "train")
    for path in (shards / "train").iterdir():
        path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(UserError, match=r"\.parquet cannot be read") as caught:
        list(training_loader([MixedSet(dataset)], batch_size=2, size=64, steps=2, workers=1))
    assert caught.value.code == DATA
