"""Writing a prepared set as Parquet shards."""

import errno
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from langhops_cli.data import shards
from langhops_cli.data.index import PreparedDataset, open_rows
from langhops_cli.data.shards import card, write_shards
from langhops_cli.errors import DATA, UserError

from .cars import prepare_cars

TINY = {"group": 4, "shard_bytes": 60_000}


@pytest.fixture(scope="module")
def cars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare_cars(tmp_path_factory.mktemp("cars"), pictures=18, val=3)


def _state(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))}


def test_shards_hold_the_index_and_the_pictures_as_they_are(cars: Path, tmp_path: Path) -> None:
    listed, written = write_shards(cars, tmp_path / "out", **TINY)
    assert written
    assert json.loads((tmp_path / "out" / "shards.json").read_text()) == listed
    for split in ("train", "val"):
        dataset = PreparedDataset(cars, split)
        files = listed["splits"][split]["files"]
        paths = sorted((tmp_path / "out" / split).iterdir())
        assert [f"{split}/{path.name}" for path in paths] == [file["name"] for file in files]
        rows: list[dict[str, Any]] = []
        for file in files:
            parquet = pq.ParquetFile(tmp_path / "out" / file["name"])
            counts = [parquet.metadata.row_group(n).num_rows for n in range(parquet.num_row_groups)]
            assert counts == file["groups"]
            assert (tmp_path / "out" / file["name"]).stat().st_size == file["size"]
            rows += parquet.read().to_pylist()
        for row in rows:
            picture = row.pop("image")
            assert picture["path"] == row["file_name"]
            assert picture["bytes"] == (dataset.image_root / row["file_name"]).read_bytes()
        expected = open_rows(cars, split).to_list()
        assert sorted(rows, key=lambda row: row["image_id"]) == expected
        assert listed["splits"][split]["fingerprint"] == dataset.fingerprint
    assert (tmp_path / "out" / "hierarchy.yaml").read_text() == (cars / "hierarchy.yaml").read_text()


def test_shards_and_row_groups_end_in_time(cars: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def groups(out: str, **options: int) -> list[list[int]]:
        listed, _ = write_shards(cars, tmp_path / out, **options)
        return [file["groups"] for file in listed["splits"]["train"]["files"]]

    assert groups("one", group=4) == [[4, 4, 4, 4, 2]]
    assert groups("each", group=4, shard_bytes=1) == [[4], [4], [4], [4], [2]]
    assert groups("all") == [[18]]
    monkeypatch.setattr(shards, "GROUP_BYTES", 1)
    assert groups("large", group=4, shard_bytes=10**9) == [[1] * 18]


def test_the_order_is_shuffled_and_always_the_same(cars: Path, tmp_path: Path) -> None:
    def order(out: str, **options: int) -> list[int]:
        listed, _ = write_shards(cars, tmp_path / out, **options)
        files = [file["name"] for file in listed["splits"]["train"]["files"]]
        return [number for name in files for number in pq.read_table(tmp_path / out / name)["image_id"].to_pylist()]

    first = order("one", group=4)
    assert sorted(first) == list(range(1, 19))
    assert first != sorted(first)
    assert order("two", group=5, shard_bytes=1) == first


def test_written_again_only_when_something_is_different(cars: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first, _ = write_shards(cars, out, **TINY)
    before = _state(out)
    assert write_shards(cars, out, **TINY) == (first, False)
    assert _state(out) == before
    other, written = write_shards(cars, out, group=3)
    assert written
    assert other["splits"]["train"]["files"][0]["groups"] == [3] * 6
    next((out / "train").iterdir()).unlink()
    assert write_shards(cars, out, group=3) == (other, True)
    assert write_shards(cars, out, group=3) == (other, False)


@pytest.mark.parametrize("fault", ["interrupted", "no space", "gone", "changed"])
def test_a_fault_leaves_what_was_there_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, capfd: pytest.CaptureFixture[str]
) -> None:
    cars = prepare_cars(tmp_path, pictures=9)
    out = tmp_path / "place" / "out"
    write_shards(cars, out, group=4)
    before = _state(out)
    picture = PreparedDataset(cars, "train").image_path(4)
    write = shards._ShardWriter.write
    track: Any = shards.quietly
    kind: type[BaseException] = UserError
    says = None
    if fault == "interrupted":
        kind = KeyboardInterrupt

        def track(items: Iterable[Any], *, label: str, total: int) -> Iterable[Any]:
            yield from (item for item, _ in zip(items, range(6), strict=False))
            raise KeyboardInterrupt
    elif fault == "no space":
        says = r"out cannot be written \(No space left on device\)"

        def write_some(self: Any, rows: list[Any]) -> None:
            if self._groups:
                raise OSError(errno.ENOSPC, "No space left on device")
            write(self, rows)

        monkeypatch.setattr(shards._ShardWriter, "write", write_some)
    elif fault == "gone":
        says = f"{picture} cannot be read"
        picture.unlink()
    else:
        says = f"{picture} has 50 x 30 pixels, its annotation 96 x 96"
        Image.new("RGB", (50, 30)).save(picture)
    with pytest.raises(kind, match=says) as caught:
        write_shards(cars, out, group=3, track=track)
    assert "\n" not in str(caught.value)
    assert _state(out) == before
    assert [path.name for path in out.parent.iterdir()] == ["out"]
    assert capfd.readouterr() == ("", "")


def test_other_things_are_not_replaced(cars: Path, tmp_path: Path) -> None:
    def refused(root: Path, out: Path, says: str) -> None:
        with pytest.raises(UserError, match=says) as caught:
            write_shards(root, out)
        assert caught.value.code == DATA

    refused(cars, cars, "holds other things")
    refused(tmp_path, tmp_path / "out", "is no prepared set")
    (tmp_path / "file").write_text("mine")
    refused(cars, tmp_path / "file", "holds other things")
    write_shards(cars, tmp_path / "out")
    (tmp_path / "out" / ".git").mkdir()
    write_shards(cars, tmp_path / "out")  # the same: nothing to do, nothing in the way
    with pytest.raises(UserError, match=r"holds other things \(\.git\)"):
        write_shards(cars, tmp_path / "out", group=2)
    assert (tmp_path / "file").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    assert write_shards(cars, tmp_path / "empty")[1]


def test_the_datasets_library_streams_them(cars: Path, tmp_path: Path) -> None:
    import datasets

    out = tmp_path / "out"
    write_shards(cars, out, **TINY)
    prepared = PreparedDataset(cars, "train")
    places = {number: place for place, number in enumerate(prepared.image_ids)}
    seen = []
    for row in datasets.load_dataset(str(out), split="train", streaming=True):
        place = places[row["image_id"]]
        with Image.open(prepared.image_path(place)) as picture:
            np.testing.assert_array_equal(np.asarray(row["image"]), np.asarray(picture))
        assert len(row["counts"]) == len(row["category"]) == 2
        seen.append(place)
    assert sorted(seen) == list(range(18))
    assert len(list(datasets.load_dataset(str(out), split="val", streaming=True))) == 3


def test_a_split_without_pictures_is_not_on_the_card(cars: Path, tmp_path: Path) -> None:
    """The `datasets` library refuses a folder whose card names files that are not there."""
    listed, _ = write_shards(cars, tmp_path / "out")
    listed["splits"]["val"]["files"] = []
    listed["splits"]["train-2"] = listed["splits"]["train"]
    text = card(shards.ShardList.model_validate(listed))
    assert "val/" not in text
    assert "split: train_2" in text
