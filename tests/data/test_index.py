import json
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from langhops_cli.data.index import INDEX, PreparedDataset
from langhops_cli.errors import DATA, UserError

Prepare = Callable[..., tuple[dict[str, Any], Path]]
Write = Callable[..., Path]
BOX = [[2, 2, 12, 2, 12, 12, 2, 12]]


def test_samples_hold_what_the_annotation_file_says(prepared_dogs: PreparedDataset, dogs: Path) -> None:
    coco = COCO(prepared_dogs.annotation_file)
    sample = prepared_dogs[0]
    assert len(prepared_dogs) == 2
    assert prepared_dogs.image_ids == [1, 2]
    np.testing.assert_array_equal(np.asarray(sample.image), np.asarray(Image.open(dogs / "images/train/1.png")))
    assert sample.name == str(prepared_dogs.image_path(0))
    for item, number in zip([*sample.objects, *sample.parts], range(1, 6), strict=True):
        np.testing.assert_array_equal(item.mask, coco.annToMask(coco.anns[number]))
        left, top, width, height = coco.anns[number]["bbox"]
        assert item.box == (left, top, left + width, top + height)
    assert [item.parent for item in sample.parts] == [0, 1, -1]
    assert prepared_dogs[1].objects == []


def test_a_reduced_sample_is_the_same_picture_smaller(prepared_dogs: PreparedDataset) -> None:
    whole, small = prepared_dogs[0], prepared_dogs.load(0, longest=20)
    assert small.size == (15, 20)
    for large, item in zip([*whole.objects, *whole.parts], [*small.objects, *small.parts], strict=True):
        assert large.mask is not None
        assert item.mask is not None
        np.testing.assert_array_equal(item.mask, large.mask[1::2, 1::2])
        left, top, right, bottom = map(int, item.box)
        assert item.mask[top:bottom, left:right].sum() == item.mask.sum()


def test_the_fingerprint_is_the_reports_and_does_not_depend_on_the_place(
    dogs: Path, prepare_coco: Prepare, tmp_path: Path
) -> None:
    report, folder = prepare_coco(dogs)
    dataset = PreparedDataset(folder, "train")
    assert dataset.fingerprint == report["splits"]["train"]["fingerprint"]
    shutil.move(dogs, tmp_path / "moved")
    again, folder = prepare_coco(tmp_path / "moved")
    assert again["fingerprint"] == report["fingerprint"]
    assert PreparedDataset(folder, "train").fingerprint == dataset.fingerprint
    changed, _ = prepare_coco(tmp_path / "moved", exhaustive=False)
    assert changed["fingerprint"] != report["fingerprint"]


def test_the_index_is_written_once_and_opening_a_set_writes_nothing(dogs: Path, prepare_coco: Prepare) -> None:
    _, folder = prepare_coco(dogs)

    def files() -> dict[str, int]:
        return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}

    before = files()
    assert {f"{INDEX}/train/rows.arrow", f"{INDEX}/train/meta.json"} <= before.keys()
    assert len(PreparedDataset(folder, "train")[0].parts) == 3
    assert files() == before


def test_a_file_changed_by_hand_is_refused_and_can_be_prepared_from(dogs: Path, prepare_coco: Prepare) -> None:
    _, folder = prepare_coco(dogs)
    content = json.loads((folder / "train.json").read_text())
    content["annotations"].pop()
    (folder / "train.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=rf"langhops prepare coco-parts --source {folder} --name NAME") as caught:
        PreparedDataset(folder, "train")
    assert caught.value.code == DATA
    folder.rename(folder.with_name("edited"))
    _, again = prepare_coco(folder.with_name("edited"))
    assert len(PreparedDataset(again, "train")[0].parts) == 2


def test_preparing_and_opening_is_silent_and_needs_no_network(
    dogs: Path, prepare_coco: Prepare, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("tried to reach the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    PreparedDataset(prepare_coco(dogs)[1], "train")
    assert capfd.readouterr() == ("", "")


def test_names_that_may_be_there_unannotated_are_unsure(write_coco: Write, prepare_coco: Prepare) -> None:
    categories = [
        {"id": 1, "name": "dog", "parent_id": None},
        {"id": 2, "name": "cat", "parent_id": None},
        {"id": 3, "name": "head", "parent_id": 1},
    ]
    rows: list[dict[str, Any]] = [
        {"category_id": 1, "segmentation": BOX},
        {"category_id": 3, "segmentation": BOX, "parent_id": 1},
        {"category_id": 2, "segmentation": BOX, "iscrowd": 1},
    ]
    source = write_coco(rows, categories)
    sample = PreparedDataset(prepare_coco(source)[1], "train")[0]
    assert [item.label for item in sample.objects] == [0]
    assert (sample.unsure_objects, sample.unsure_parts) == ({1}, set())
    sample = PreparedDataset(prepare_coco(source, exhaustive=False)[1], "train")[0]
    assert (sample.unsure_objects, sample.unsure_parts) == ({0, 1}, {0})


def test_a_name_taken_out_of_the_hierarchy_is_not_read(prepared_dogs: PreparedDataset) -> None:
    (prepared_dogs.root / "hierarchy.yaml").write_text("dog:\n")
    sample = PreparedDataset(prepared_dogs.root, "train")[0]
    assert (len(sample.objects), len(sample.parts)) == (2, 0)
    (prepared_dogs.root / "hierarchy.yaml").write_text("zebra:\n")
    with pytest.raises(UserError, match="shares no name"):
        PreparedDataset(prepared_dogs.root, "train")


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("hierarchy.yaml", None, "is missing"),
        ("hierarchy.yaml", "dog: [", "is no YAML"),
        ("hierarchy.yaml", "dog: 3", "expected parts"),
        ("train.json", None, "has no split 'train'"),
        ("train.json", "{", "was changed after its set was prepared"),
        ("index/train/meta.json", None, "is missing or broken; prepare the set again"),
        ("index/train/meta.json", "{", "is missing or broken; prepare the set again"),
        ("index/train/rows.arrow", None, "cannot be read"),
        ("index/train/rows.arrow", "no arrow", "cannot be read"),
    ],
)
def test_a_broken_set_is_told(prepared_dogs: PreparedDataset, name: str, content: str | None, says: str) -> None:
    path = prepared_dogs.root / name
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(UserError, match=says) as caught:
        PreparedDataset(prepared_dogs.root, "train")
    assert caught.value.code == DATA


def test_missing_sets_and_splits_are_told(prepared_dogs: PreparedDataset, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="make it with `langhops prepare`"):
        PreparedDataset(tmp_path / "none", "train")
    with pytest.raises(UserError, match=r"has no split 'test' \(it has: train\)"):
        PreparedDataset(prepared_dogs.root, "test")


def test_a_picture_that_changed_since_is_told(prepared_dogs: PreparedDataset) -> None:
    Image.new("RGB", (50, 30)).save(prepared_dogs.image_path(0))
    with pytest.raises(UserError, match=r"1\.png has 50 x 30 pixels, its annotation 40 x 30"):
        prepared_dogs[0]
    prepared_dogs.image_path(0).unlink()
    with pytest.raises(UserError, match=r"1\.png does not exist"):
        prepared_dogs[0]


def test_a_climbing_path_in_a_prepared_file_is_refused(dogs: Path, prepare_coco: Prepare) -> None:
    _, folder = prepare_coco(dogs)
    content = json.loads((folder / "train.json").read_text())
    content["images"][0]["file_name"] = "../../secret.png"
    (folder / "train.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="was changed after"):
        PreparedDataset(folder, "train")
    with pytest.raises(UserError, match="leads out of the picture folder"):
        prepare_coco(folder)
