import json
import os
import resource
from pathlib import Path
from typing import Any

import pytest

from langhops_cli.data.formats import coco_files
from langhops_cli.data.formats.coco_files import CocoFile, check_file_name, find_annotations, find_image_root
from langhops_cli.errors import DATA, ENVIRONMENT, UserError

CATEGORIES = [{"id": 1, "name": "car"}]


def _image(number: int, **others: Any) -> dict[str, Any]:
    return {"id": number, "file_name": f"{number}.png", "width": 40, "height": 30, **others}


def _write(folder: Path, **tables: Any) -> Path:
    """The tables in the order given; those left out are whole, and stand behind."""
    usual = {"images": [_image(1), _image(2)], "annotations": [], "categories": CATEGORIES}
    path = folder / "train.json"
    path.write_text(json.dumps(tables | {key: value for key, value in usual.items() if key not in tables}))
    return path


def _annotation(number: Any, image: Any = 1, **others: Any) -> dict[str, Any]:
    return {"id": number, "image_id": image, "category_id": 1, **others}


def _ids(file: CocoFile) -> dict[str, list[int]]:
    return {name: [json.loads(text)["id"] for text in texts] for _, name, texts in file.pictures()}


def test_annotations_are_found_by_picture_wherever_they_stand(tmp_path: Path) -> None:
    rows = [_annotation(5, 2), _annotation(3, 1), _annotation(9, 2), _annotation(1, 2)]
    before = CocoFile(_write(tmp_path, annotations=rows))
    assert _ids(before) == {"1.png": [3], "2.png": [5, 9, 1]}, "in the file's order"
    assert len(before) == 2
    after = CocoFile(_write(tmp_path, categories=CATEGORIES, images=[_image(2), _image(1)], annotations=rows))
    assert list(_ids(after)) == ["2.png", "1.png"]
    assert _ids(after) == _ids(before)


def test_pictures_can_be_gone_through_twice_at_once(tmp_path: Path) -> None:
    file = CocoFile(_write(tmp_path, annotations=[_annotation(1), _annotation(2, 2)]))
    pairs = [(one[1], two[1]) for one in file.pictures() for two in file.pictures()]
    assert pairs == [(a, b) for a in ("1.png", "2.png") for b in ("1.png", "2.png")]


def test_rows_keep_what_else_they_say(tmp_path: Path) -> None:
    image = _image(1, neg_category_ids=[4], coco_url="http://x/1.jpg")
    row = _annotation(1, segmentation=[[1.5, float("nan")]], name="größe")
    file = CocoFile(_write(tmp_path, info={"exhaustive": False}, images=[image], annotations=[row]))
    ((found, _, (text,)),) = file.pictures()
    assert found == image
    assert repr(json.loads(text)) == repr(row)
    assert file.info == {"exhaustive": False}
    assert file.categories == CATEGORIES


def test_names_are_those_of_the_first_pictures(tmp_path: Path) -> None:
    file = CocoFile(_write(tmp_path, images=[_image(n) for n in range(30)]))
    assert file.names() == [f"{n}.png" for n in range(20)]
    assert file.names(2) == ["0.png", "1.png"]


def test_names_may_come_from_elsewhere_and_are_checked_all_the_same(tmp_path: Path) -> None:
    images = [{"id": 1, "width": 4, "height": 3, "url": "train/1.jpg"}]
    path = _write(tmp_path, images=images)
    assert CocoFile(path, name_of=lambda row: row["url"]).names() == ["train/1.jpg"]
    with pytest.raises(UserError, match=r"images\[0\] lacks file_name"):
        CocoFile(path)
    with pytest.raises(UserError, match="leads out of the picture folder"):
        CocoFile(path, name_of=lambda row: f"../{row['url']}")


def test_of_annotations_with_one_id_the_first_stays(tmp_path: Path) -> None:
    rows = [_annotation(1), _annotation(2), _annotation(1, 2), _annotation(1)]
    file = CocoFile(_write(tmp_path, annotations=rows))
    assert _ids(file) == {"1.png": [1, 2], "2.png": []}
    assert file.drops.to_list() == [{"reason": "annotation id that stands twice", "count": 2, "first_ids": ["1", "1"]}]


@pytest.mark.parametrize("image", [77, "1", None, 1.5, True, [1], {}, 2**63, -(2**70), float("nan")])
def test_annotations_of_no_known_picture_are_counted(tmp_path: Path, image: Any) -> None:
    file = CocoFile(_write(tmp_path, annotations=[_annotation(4, image), _annotation(5)]))
    assert _ids(file) == {"1.png": [5], "2.png": []}
    assert file.drops.first == {"annotation of an unknown picture": ["4"]}


@pytest.mark.parametrize("number", ["1", None, 1.5, True, [1, 2], {"a": 1}, 2**63, float("nan")])
def test_annotations_with_ids_of_other_kinds_are_counted(tmp_path: Path, number: Any) -> None:
    file = CocoFile(_write(tmp_path, annotations=[_annotation(number), _annotation(2**63 - 1), _annotation(-(2**63))]))
    assert _ids(file)["1.png"] == [2**63 - 1, -(2**63)]
    assert file.drops.first == {"annotation id that is no whole number": [str(number)]}


def test_of_what_is_left_out_all_is_counted_and_the_first_ten_are_named(tmp_path: Path) -> None:
    rows = [_annotation(n, 99) for n in range(40)] + [_annotation("x" * 1000, 1)] * 15
    drops = CocoFile(_write(tmp_path, annotations=rows)).drops
    assert drops.counts == {"annotation of an unknown picture": 40, "annotation id that is no whole number": 15}
    assert drops.first["annotation of an unknown picture"] == [str(n) for n in range(10)]
    assert drops.first["annotation id that is no whole number"] == ["x" * 500] * 10


def test_a_picture_with_more_annotations_than_memory_holds_keeps_its_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coco_files, "MOST", 3)
    rows = [_annotation(n, 1 + n % 2) for n in range(9)] + [_annotation(0, 1)] * 4 + [_annotation(50, 99)] * 4
    file = CocoFile(_write(tmp_path, images=[_image(1), _image(2), _image(3)], annotations=rows))
    assert _ids(file) == {"1.png": [0, 2, 4], "2.png": [1, 3, 5], "3.png": []}
    assert file.drops.first["annotation beyond the first 3 of a picture"] == ["6", "8", "7"]
    assert file.drops.counts["annotation beyond the first 3 of a picture"] == 3


@pytest.mark.parametrize(
    ("tables", "says"),
    [
        ({"images": {}}, "no list of images"),
        ({"annotations": None}, "no list of annotations"),
        ({"categories": "car"}, "no list of categories"),
        ({"images": [3]}, r"images\[0\] lacks all keys"),
        ({"annotations": [_annotation(1), []]}, r"annotations\[1\] lacks all keys"),
        ({"annotations": [{"id": 1, "image_id": 1}]}, r"annotations\[0\] lacks category_id"),
        ({"images": [_image(1), _image(1)]}, "images has the id 1 twice"),
        ({"images": [_image("1")]}, "images has the id '1'; ids must be whole numbers"),  # type: ignore[arg-type]
        ({"images": [_image(True)]}, "images has the id True"),
        ({"images": [_image(2**64)]}, "ids must be whole numbers"),
        ({"images": [_image(1, width=0)]}, r"images\[0\] is 0 x 30 pixels"),
        ({"images": [_image(1, height="30")]}, r"images\[0\] is 40 x '30' pixels"),
        ({"images": [_image(1, width=float("nan"))]}, r"images\[0\] is nan x 30 pixels"),
        ({"images": [_image(1, file_name=None)]}, "file_name is None; it must be a path"),
        ({"images": [_image(1, file_name="")]}, "it must be a path"),
        ({"categories": [{"id": 1}]}, r"categories\[0\] lacks name"),
        ({"categories": [{"id": 1, "name": 5}]}, r"categories\[0\] has the name 5"),
        ({"categories": [{"id": 1, "name": " _ "}]}, r"categories\[0\] has the name ' _ '"),
        ({"categories": [{"id": [1], "name": "car"}]}, r"categories has the id \[1\]"),
        ({"categories": [{"id": 1, "name": "car", "parent_id": [1]}]}, r"categories has the id \[1\]"),
        ({"categories": [*CATEGORIES, *CATEGORIES]}, "categories has the id 1 twice"),
    ],
)
def test_what_makes_a_file_unusable_is_told(tmp_path: Path, tables: dict[str, Any], says: str) -> None:
    path = _write(tmp_path, **tables)
    with pytest.raises(UserError, match=says) as caught:
        CocoFile(path)
    assert caught.value.code == DATA
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_table_that_stands_twice_is_told(tmp_path: Path) -> None:
    path = tmp_path / "train.json"
    one, two = json.dumps([_annotation(1)]), json.dumps([_annotation(2)])
    path.write_text(f'{{"images": {json.dumps([_image(1)])}, "annotations": {one}, "annotations": {two}}}')
    with pytest.raises(UserError, match="several lists of annotations"):
        CocoFile(path)


@pytest.mark.parametrize(
    "name", ["../a.png", "a/../../b.png", "/etc/a.png", "..", "..\\a.png", "\\\\server\\a.png", "C:\\a.png", "c:a.png"]
)
def test_names_that_lead_out_are_refused(name: str) -> None:
    with pytest.raises(UserError, match="leads out of the picture folder; refused"):
        check_file_name(Path("x.json"), name)


@pytest.mark.parametrize(
    ("name", "path"), [("a.png", "a.png"), ("./a//b.png", "a/b.png"), ("a\\b.png", "a/b.png"), ("a..b.png", "a..b.png")]
)
def test_names_below_the_folder_are_kept(name: str, path: str) -> None:
    assert check_file_name(Path("x.json"), name) == path


def test_files_of_apple_are_no_annotations_and_several_are_told(tmp_path: Path) -> None:
    (tmp_path / "annotations").mkdir()
    for name in ("instances_train2017.json", "._instances_train2017.json"):
        (tmp_path / "annotations" / name).touch()
    assert find_annotations(tmp_path) == {"train": tmp_path / "annotations/instances_train2017.json"}
    (tmp_path / "annotations/instances_train2014.json").touch()
    with pytest.raises(UserError, match=r"several files for train: .*2014.json, .*2017.json; name one with --train"):
        find_annotations(tmp_path)


def test_one_missing_picture_does_not_hide_the_folder(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images/2.png").touch()
    names = ["x" * 300 + ".png", "nul\0.png", "1.png", "2.png"]
    assert find_image_root(tmp_path / "train.json", tmp_path, "train", names) == (tmp_path / "images").resolve()
    with pytest.raises(UserError, match=r"found no picture of train.json \(such as 1.png\)"):
        find_image_root(tmp_path / "train.json", tmp_path, "train", ["1.png"])


def _large(folder: Path) -> Path:
    """Annotations of 5 MB, which is more than is held in memory."""
    return _write(folder, annotations=[_annotation(n, note="x" * 1000) for n in range(5000)])


def test_what_is_kept_on_disk_has_no_name_so_that_a_killed_run_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SQLITE_TMPDIR", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    file = CocoFile(_large(tmp_path))
    assert len(_ids(file)["1.png"]) == 5000
    assert os.listdir(tmp_path / "scratch") == []


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    path = _large(tmp_path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, before[1]))
    try:
        with pytest.raises(UserError, match=r"cannot be kept by picture in a temporary file .*; make room") as caught:
            CocoFile(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.code == ENVIRONMENT
