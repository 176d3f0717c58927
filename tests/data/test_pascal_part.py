import pickle
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from pycocotools.coco import COCO

from langhops_cli.data.formats.pascal_part import grouped_name, read_pascal_part
from langhops_cli.data.manifests import load_manifest
from langhops_cli.data.prepare import prepare
from langhops_cli.data.verify import Checker
from langhops_cli.errors import DATA, UserError
from tests.data.pascal_files import RAW_PARTS, MatRow, mask, write_mat, write_picture
from tests.data.reading import read_all

SAMPLE = "pascal_part_mat_sample"
DOG: MatRow = ("dog", mask(0, 0, 20, 20), [("head", mask(0, 0, 9, 9)), ("lfpa", mask(10, 10, 15, 15))])
LEFT_OUT = "part that the 93 names leave out (read with --all-names)"


def _write_flat(folder: Path, rows: Sequence[MatRow], name: str = "2008_000001") -> Path:
    write_picture(folder / f"{name}.jpg")
    write_mat(folder / f"{name}.mat", rows)
    return folder


def _write_devkit(folder: Path, lists: dict[str, str], names: Sequence[str]) -> Path:
    voc = folder / "VOCdevkit" / "VOC2010"
    for name in names:
        write_picture(voc / "JPEGImages" / f"{name}.jpg")
        write_mat(folder / "Annotations_Part" / f"{name}.mat", [DOG])
    for path, text in lists.items():
        (voc / "ImageSets" / path).parent.mkdir(parents=True, exist_ok=True)
        (voc / "ImageSets" / path).write_text(text)
    return folder


def _raw_counts(folder: Path) -> tuple[Counter[str], Counter[tuple[str, str]]]:
    """Objects and raw parts of the authentic files, counted by scipy."""
    objects: Counter[str] = Counter()
    parts: Counter[tuple[str, str]] = Counter()
    for path in folder.glob("*.mat"):
        for item in scipy.io.loadmat(path)["anno"][0, 0]["objects"].ravel():
            name = str(item["class"][0])
            objects[name] += 1
            parts.update((name, str(part["part_name"][0])) for part in item["parts"].ravel())
    return objects, parts


def test_all_of_the_authentic_sample_is_read_and_nothing_is_left_out(shared_data: Path) -> None:
    source = read_pascal_part(shared_data / SAMPLE, all_names=True)
    reading = read_all(source)
    objects, raw = _raw_counts(shared_data / SAMPLE)
    assert (objects.total(), raw.total()) == (53, 398)
    assert reading.drops.counts == {}
    spelt = {"table": "dining table", "tvmonitor": "tv monitor"}
    found = Counter(item.object for item in reading.instances if item.part is None)
    assert found == {spelt.get(name, name): count for name, count in objects.items()}
    parts = Counter((item.object, item.part) for item in reading.instances if item.part is not None)
    assert parts.total() == 398
    # Names without side and number, as a second way to group them: what is left of "lfuleg_2" ends in "leg".
    for owner, ending, name in (
        ("dog", "leg", "leg"), ("dog", "pa", "paw"), ("dog", "ear", "ear"), ("dog", "eye", "eye"),
        ("horse", "ho", "hoof"), ("person", "arm", "arm"), ("person", "brow", "eyebrow"),
        ("car", "plate", "license plate"),
    ):  # fmt: skip
        expected = sum(count for (o, spelling), count in raw.items() if o == owner and spelling.endswith(ending))
        assert parts[owner, name] == expected > 0
    assert all(item.part in source.tree[item.object] for item in reading.instances if item.part is not None)
    assert source.splits[0].exhaustive


def test_the_93_names_leave_out_the_rest_and_say_how_much(shared_data: Path) -> None:
    source = read_pascal_part(shared_data / SAMPLE)
    reading = read_all(source)
    assert len(source.tree) == 20
    assert sum(map(len, source.tree.values())) == 93
    _, raw = _raw_counts(shared_data / SAMPLE)
    beyond = {"stern", "engine_1", "engine_2", "frontside", "backside", "rightside", "lfho", "rfho", "rbho", "lebrow"}
    beyond |= {"rebrow", "screen"}
    left_out = sum(count for (_, name), count in raw.items() if name in beyond)
    assert reading.drops.counts == {LEFT_OUT: left_out}
    assert sum(item.part is not None for item in reading.instances) == 398 - left_out
    assert all(item.part in source.tree[item.object] for item in reading.instances if item.part is not None)


def test_masks_are_scipys_pixel_by_pixel_after_a_round_trip_through_coco(shared_data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "prepared"
    report, _ = prepare(lambda _: read_pascal_part(shared_data / SAMPLE, all_names=True), folder, inputs={}, workers=1)
    counts = report["splits"]["train"]
    assert (counts["images"], counts["objects"], counts["parts"]) == (18, 53, 398)
    assert counts["parents"] == {"stated": 398, "by_mask": 0, "by_union": 0, "unknown": 0, "stated_but_wrong": 0}
    coco = COCO(folder / "train.json")
    for image in coco.imgs.values():
        path = (shared_data / SAMPLE / image["file_name"]).with_suffix(".mat")
        rows = scipy.io.loadmat(path)["anno"][0, 0]["objects"].ravel()
        expected = Counter(row["mask"].tobytes() for row in rows)
        expected.update(part["mask"].tobytes() for row in rows for part in row["parts"].ravel())
        found = [coco.annToMask(row) for row in coco.imgToAnns[image["id"]]]
        assert Counter(drawn.tobytes() for drawn in found) == expected


def test_every_name_that_pascal_part_has_stands_for_one_of_pascal_part_116_or_for_an_arm() -> None:
    vocabulary = load_manifest("pascal-part-116").vocabulary
    for spelt, raw in RAW_PARTS.items():
        owner = {"pottedplant": "potted plant", "tvmonitor": "tv monitor"}.get(spelt, spelt)
        names = {grouped_name(name) for name in raw.split()}
        published = {name.replace("lower ", "").replace("upper ", "") for name in vocabulary[owner]}
        assert names == published, owner
    # Names that look alike and are not: a chainwheel is no wheel, an eyebrow no eye, "rear" an ear and no rear.
    assert [grouped_name(name) for name in ("chainwheel", "lebrow", "rear", "headlight_2", "hair")] == [
        "chainwheel", "eyebrow", "ear", "headlight", "hair",
    ]  # fmt: skip


def test_no_name_of_a_part_is_lost_on_the_way_whatever_object_has_it(tmp_path: Path) -> None:
    rows = [
        (name, mask(0, 0, 20, 20), [(part, mask(1, 1, 5, 5)) for part in raw.split()])
        for name, raw in RAW_PARTS.items()
    ]
    random.Random(0).shuffle(rows)
    rows.append(("sofa", mask(0, 0, 30, 20), []))
    reading = read_all(read_pascal_part(_write_flat(tmp_path, rows), all_names=True))
    assert reading.drops.counts == {}
    assert len(reading.instances) == len(rows) + sum(len(parts) for _, _, parts in rows)


def test_splits_come_from_the_lists_and_what_they_do_not_match_is_counted(tmp_path: Path) -> None:
    lists = {"Main/train.txt": "a\nb 1\n\nghost\nb\n", "Main/val.txt": "c\n", "Segmentation/train.txt": "c\n"}
    source = read_pascal_part(_write_devkit(tmp_path, lists, ["a", "b", "c", "lone"]))
    assert [(split.name, split.total) for split in source.splits] == [("train", 2), ("val", 1)]
    assert list(read_all(source).by_picture) == ["a.jpg", "b.jpg"]
    assert source.splits[0].image_root == tmp_path / "VOCdevkit/VOC2010/JPEGImages"
    assert {row["reason"]: row["first_ids"] for row in source.splits[0].drops.to_list()} == {
        "picture that stands twice in the list": ["b"],
        "picture of a list without annotations": ["ghost"],
        "annotations that no list names": ["lone"],
    }
    assert source.remarks == [
        "train has 2 pictures; 4,998 were published", "val has 1 pictures; 5,105 were published",
    ]  # fmt: skip


def test_without_lists_all_pictures_are_in_train_and_a_remark_says_so(tmp_path: Path) -> None:
    source = read_pascal_part(_write_devkit(tmp_path, {}, ["b", "a"]))
    assert [(split.name, split.total) for split in source.splits] == [("train", 2)]
    assert [picture.file_name for picture in source.splits[0].pictures()] == ["a.jpg", "b.jpg"]
    assert "no lists" in source.remarks[0]
    assert read_pascal_part(tmp_path / "Annotations_Part").splits[0].total == 2


def test_pictures_may_lie_anywhere_and_the_reader_travels_to_other_processes(tmp_path: Path) -> None:
    _write_devkit(tmp_path / "source", {}, ["a"])
    (tmp_path / "source/VOCdevkit/VOC2010/JPEGImages").rename(tmp_path / "pictures")
    with pytest.raises(UserError, match=r"VOC2010/JPEGImages/a.jpg; name their folder with --images"):
        read_pascal_part(tmp_path / "source")
    (split,) = read_pascal_part(tmp_path / "source", images=tmp_path / "pictures").splits
    read = pickle.loads(pickle.dumps(split.read))
    (picture,) = split.pictures()
    found = read(tmp_path / "pictures/a.jpg", picture, (40, 30)).instances
    assert [(item.id, item.object, item.part, item.parent) for item in found] == [
        (1, "dog", None, None), (2, "dog", "head", 1), (3, "dog", "paw", 1),
    ]  # fmt: skip


def test_names_and_masks_that_cannot_be_used_are_left_out_one_by_one(tmp_path: Path) -> None:
    rows: list[MatRow] = [
        DOG,
        ("unicorn", mask(0, 0, 9, 9), [("horn_1", mask(0, 0, 3, 3)), ("tail", mask(4, 4, 6, 6))]),
        ("cat", mask(0, 0, 0, 0), [("head", mask(0, 0, 3, 3))]),
        ("cow", mask(0, 0, 9, 9, (41, 30)), []),
        ("bus", "no array", []),
        ("car", mask(0, 0, 9, 9), [("wheel_1", mask(0, 0, 0, 0)), ("rudder", mask(0, 0, 1, 1)), ("wheel_2", 1.0)]),
        ("bird", mask(5, 5, 9, 9).astype(float) * np.nan, []),
    ]
    reading = read_all(read_pascal_part(_write_flat(tmp_path, rows)))
    assert [(item.object, item.part) for item in reading.instances] == [
        ("dog", None), ("dog", "head"), ("dog", "paw"), ("cat", "head"), ("car", None),
    ]  # fmt: skip
    assert reading.instances[3].parent is None
    assert reading.drops.counts == {
        "object of an unknown name": 1, "part of an object of an unknown name": 2, "empty mask": 3, "no mask": 1,
        "mask of another size than the picture": 2, "part of an unknown name": 1,
    }  # fmt: skip
    assert reading.drops.first["part of an unknown name"] == ["2008_000001: car 6, rudder"]


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-50])


def _others(path: Path) -> None:
    scipy.io.savemat(path, {"other": 1})


def _no_struct(path: Path) -> None:
    scipy.io.savemat(path, {"anno": np.arange(3)})


def _odd_struct(path: Path) -> None:
    scipy.io.savemat(path, {"anno": {"objects": {"class": "dog", "mask": 1}}})


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (Path.unlink, "does not exist"),
        (lambda path: path.write_bytes(b""), "no MATLAB file"),
        (lambda path: path.write_bytes(b"MATLAB 7.3 MAT-file".ljust(600)), "version 7.3"),
        (_cut, "cut off"),
        (_others, "no file of Pascal-Part"),
        (_no_struct, "no file of Pascal-Part"),
        (_odd_struct, "no file of Pascal-Part"),
        (lambda path: write_mat(path, [("dog", mask(0, 0, 9, 9, (30, 40)), [])]), "mask of another size"),
    ],
)
def test_a_picture_whose_file_is_spoilt_is_left_out_and_not_taken_for_an_empty_one(
    tmp_path: Path, spoil, told: str
) -> None:
    (split,) = read_pascal_part(_write_flat(tmp_path, [DOG])).splits
    spoil(tmp_path / "2008_000001.mat")
    checker = Checker(split.image_root, split.read, union=False, writes=False)
    (checked,) = map(checker, split.pictures())
    assert checked.fault == "annotations that cannot be read"
    (message,) = checked.drops.first["annotations that cannot be read"]
    assert told in message
    assert "2008_000001.mat" in message


def test_a_picture_without_objects_is_one_without_objects(tmp_path: Path) -> None:
    reading = read_all(read_pascal_part(_write_flat(tmp_path, [])))
    assert reading.by_picture == {"2008_000001.jpg": []}
    assert reading.drops.counts == {}


def test_hidden_files_are_counted_and_names_that_climb_are_refused(tmp_path: Path) -> None:
    source = _write_devkit(tmp_path, {}, ["a"])
    (source / "Annotations_Part" / "._a.mat").write_bytes(b"macOS")
    assert read_pascal_part(source).splits[0].drops.first == {"hidden file": ["._a.mat"]}
    _write_devkit(tmp_path, {"Main/train.txt": "a\n../../etc/passwd\n"}, [])
    with pytest.raises(UserError, match="leads out of the picture folder"):
        read_pascal_part(source)


def test_a_folder_without_annotations_says_what_belongs_there(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(UserError, match=r"holds no Annotations_Part/\*.mat") as caught:
            read_pascal_part(folder)
        assert caught.value.code == DATA
