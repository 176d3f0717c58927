import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from langhops_cli.data.formats.coco_parts import read_coco_parts
from langhops_cli.data.formats.roles import roles_of
from langhops_cli.data.records import Source
from langhops_cli.errors import DATA, UserError
from langhops_cli.vocabulary import clean_name, parse_vocabulary, split_part_name
from tests.data.reading import read_all

Write = Callable[..., Path]
BOX = [[2, 2, 12, 2, 12, 12, 2, 12]]


def _annotate(*categories: int) -> list[dict[str, Any]]:
    return [{"category_id": number, "segmentation": BOX} for number in categories]


def _names(source: Source, split: int = 0) -> list[tuple[str, str | None]]:
    return [(item.object, item.part) for item in read_all(source, split).instances]


def test_parent_ids_make_parts_and_names_are_cleaned(write_coco: Write) -> None:
    source = write_coco(
        _annotate(1, 2, 3),
        [
            {"id": 1, "name": "chest of drawers", "parent_id": None},
            {"id": 2, "name": "chest of drawers's leg", "parent_id": 1},
            {"id": 3, "name": "Big_Knob", "parent_id": 2},
        ],
    )
    records = read_coco_parts(source)
    owner = "chest of drawers"
    assert _names(records) == [(owner, None), (owner, "leg"), (owner, "big knob")]
    assert records.tree == {owner: {"leg": None, "big knob": "leg"}}
    assert records.source_names[owner, "big knob"] == "Big_Knob"


def test_names_are_split_only_where_the_file_states_no_parents(write_coco: Write) -> None:
    names = ["person", "person:arm", "arm chair", "armchair"]
    plain = [{"id": number, "name": name} for number, name in enumerate(names, 1)]
    source = write_coco(_annotate(1, 2, 3, 4), plain)
    assert _names(read_coco_parts(source)) == [
        ("person", None),
        ("person", "arm"),
        ("arm chair", None),
        ("armchair", None),
    ]
    stated = [{**row, "parent_id": None} for row in plain]
    source = write_coco(_annotate(1, 2), stated, folder="stated")
    assert _names(read_coco_parts(source)) == [("person", None), ("person:arm", None)]


def test_spellings_of_one_name_do_not_hide_that_it_is_a_part(write_coco: Write) -> None:
    names = ["Dog", "dog head", "Dog_Head", "dog's  HEAD", "dogma", "hot dog"]
    source = write_coco(_annotate(*range(1, 7)), [{"id": n, "name": name} for n, name in enumerate(names, 1)])
    records = read_coco_parts(source)
    assert _names(records) == [("dog", None), *[("dog", "head")] * 3, ("dogma", None), ("hot dog", None)]
    assert records.merged == ["head"]


def test_many_names_are_split_as_one_by_one() -> None:
    """Every object is only compared to the beginnings of a name; the outcome is that of trying all of them."""
    words = ["car", "red", "tail", "light", "bus", "chest", "of"]
    generator = random.Random(0)
    marks = [" ", "_", "'s ", ":", "\u2019s "]
    names = sorted(
        {generator.choice(marks).join(generator.sample(words, generator.randrange(1, 4))) for _ in range(300)}
    )
    rows = [{"id": number, "name": name} for number, name in enumerate(names)]
    found = roles_of(rows, object_name=None, tree=None)
    cleaned = {clean_name(name) for name in names}
    tops = [name for name in cleaned if split_part_name(name, cleaned - {name}) is None]
    for number, name in enumerate(names):
        assert found[number] == [split_part_name(name, tops) or (clean_name(name), None)]
    assert sum(roles[0][1] is not None for roles in found.values()) > 50


def test_object_makes_every_other_category_its_part(write_coco: Write) -> None:
    names = ["car", "back_left_door", "car:wheel"]
    source = write_coco(_annotate(1, 2, 3), [{"id": n, "name": name} for n, name in enumerate(names, 1)])
    records = read_coco_parts(source, object_name="car")
    assert _names(records) == [("car", None), ("car", "back left door"), ("car", "wheel")]


def test_tree_names_parts_of_objects_and_spells_them(write_coco: Write) -> None:
    names = ["facade", "balcony-fence", "Window", "pane", "street_lamp"]
    source = write_coco(_annotate(1, 2, 3, 4, 5), [{"id": n, "name": name} for n, name in enumerate(names, 1)])
    records = read_coco_parts(source, tree=parse_vocabulary("facade:window(pane),balcony fence"))
    assert _names(records) == [
        ("facade", None), ("facade", "balcony fence"), ("facade", "window"), ("facade", "pane"), ("street lamp", None),
    ]  # fmt: skip
    assert records.tree["facade"] == {"balcony fence": None, "window": None, "pane": "window"}


def test_a_part_of_several_objects_is_left_to_the_picture(write_coco: Write) -> None:
    source = write_coco(_annotate(3), [{"id": n, "name": name} for n, name in enumerate(["car", "bus", "wheel"], 1)])
    (item,) = read_all(read_coco_parts(source, tree=parse_vocabulary("car:wheel; bus:wheel"))).instances
    assert (item.object, item.part, item.others) == ("car", "wheel", ("bus",))


def test_categories_of_one_name_become_one_and_splits_may_number_them_differently(write_coco: Write) -> None:
    source = write_coco(
        _annotate(0, 7),
        [{"id": 0, "name": "facade"}, {"id": 7, "name": "facade"}, {"id": 8, "name": "car"}],
    )
    write_coco(_annotate(1), [{"id": 1, "name": "car"}], split="val", folder="other")
    shutil.copy(source.parent / "other" / "val.json", source)
    shutil.copytree(source.parent / "other" / "images" / "val", source / "images" / "val")
    records = read_coco_parts(source)
    assert records.merged == ["facade"]
    assert _names(records) == [("facade", None), ("facade", None)]
    assert _names(records, 1) == [("car", None)]


@pytest.mark.parametrize(
    ("train", "images"),
    [
        ("annotations/instances_train2017.json", "train2017"),
        ("annotations/instances_train2017.json", "images/train2017"),
        ("train/_annotations.coco.json", "train"),
        ("train.json", "."),
    ],
)
def test_usual_layouts_are_found(write_coco: Write, tmp_path: Path, train: str, images: str) -> None:
    source = write_coco(_annotate(1), [{"id": 1, "name": "car"}])
    other = tmp_path / "other"
    (other / train).parent.mkdir(parents=True, exist_ok=True)
    (other / images).mkdir(parents=True, exist_ok=True)
    content = json.loads((source / "train.json").read_text())
    content["images"][0]["file_name"] = "1.png"
    (other / train).write_text(json.dumps(content))
    shutil.copy(source / "images/train/1.png", other / images / "1.png")
    (split,) = read_coco_parts(other).splits
    (picture,) = split.pictures()
    assert (split.image_root / picture.file_name).is_file()


def test_bad_annotations_are_dropped_with_reason_and_id(write_coco: Write) -> None:
    rows = [
        *_annotate(1),
        {"category_id": 9, "segmentation": BOX},
        {"category_id": 1, "segmentation": BOX, "image_id": 77},
        {"category_id": 1, "segmentation": [[1, 2, 3, 4]]},
        {"category_id": 1, "segmentation": BOX, "id": 1},
        {"category_id": 1, "segmentation": [*BOX, [1, 2]]},
    ]
    reading = read_all(read_coco_parts(write_coco(rows, [{"id": 1, "name": "car"}])))
    assert [item.id for item in reading.instances] == [1, 6]
    assert reading.drops.first == {
        "unknown category": ["2"],
        "annotation of an unknown picture": ["3"],
        "polygon of fewer than three points": ["4"],
        "annotation id that stands twice": ["1"],
        "polygon of fewer than three points beside whole ones": ["6"],
    }


def test_what_an_annotation_says_may_be_of_any_kind(write_coco: Write) -> None:
    junk: list[Any] = [None, "1", [1], {"a": 1}, float("nan"), 10**30, 1.5]
    rows = [{"category_id": value, "segmentation": BOX} for value in junk]
    rows += [{"category_id": 1, "segmentation": BOX, "parent_id": value, "iscrowd": 0} for value in junk]
    reading = read_all(read_coco_parts(write_coco(rows, [{"id": 1, "name": "car"}])))
    assert [item.id for item in reading.instances] == list(range(8, 15))
    assert {item.parent for item in reading.instances} <= {None, 10**30}
    assert reading.drops.first == {"unknown category": [str(number) for number in range(1, 8)]}


def test_boxes_are_read_where_no_mask_is_given(write_coco: Write) -> None:
    rows = [
        {"category_id": 1, "bbox": [2, 3, 10, 10]},
        {"category_id": 1, "bbox": [2, 3, 10, 10], "segmentation": BOX},
        {"category_id": 1},
    ]
    reading = read_all(read_coco_parts(write_coco(rows, [{"id": 1, "name": "car"}])))
    box, mask = reading.instances
    assert (box.rle, box.box) == (None, (2, 3, 12, 13))
    assert mask.rle is not None
    assert mask.box is None
    assert reading.drops.first == {"no mask": ["3"]}


def test_what_a_picture_was_searched_for_is_read(write_coco: Write) -> None:
    source = write_coco(_annotate(1), [{"id": 1, "name": "car"}, {"id": 2, "name": "car:door"}], pictures=4)
    content = json.loads((source / "train.json").read_text())
    for image, checked in zip(content["images"], ([2, 1, 2], [], ["1", 7, None, [1]], "1"), strict=True):
        image["checked_category_ids"] = checked
    (source / "train.json").write_text(json.dumps(content))
    (split,) = read_coco_parts(source).splits
    found = [split.read(Path(), picture, (40, 30)).checked for picture in split.pictures()]
    assert found == [(("car", "door"), ("car", None)), (), (), None]


def test_the_folder_that_a_prepared_set_states_is_taken_where_it_is_there(write_coco: Write, tmp_path: Path) -> None:
    source = write_coco(_annotate(1), [{"id": 1, "name": "car"}])
    shutil.move(source / "images", tmp_path / "elsewhere")
    content = json.loads((source / "train.json").read_text())
    for stated in (str(tmp_path / "elsewhere"), "../elsewhere"):
        (source / "train.json").write_text(json.dumps(content | {"info": {"image_root": stated}}))
        assert read_coco_parts(source).splits[0].image_root == (tmp_path / "elsewhere").resolve()
    for stated in (str(tmp_path / "none"), 5, None):
        (source / "train.json").write_text(json.dumps(content | {"info": {"image_root": stated}}))
        with pytest.raises(UserError, match="name the folder with --images"):
            read_coco_parts(source)
    assert read_coco_parts(source, images=tmp_path / "elsewhere").splits[0].total == 1


@pytest.mark.parametrize(
    ("info", "option", "expected"),
    [({}, None, True), ({"exhaustive": False}, None, False), ({"exhaustive": False}, True, True), ({}, False, False)],
)
def test_exhaustive_is_as_the_user_says_else_the_file(
    write_coco: Write, info: dict[str, Any], option: bool | None, expected: bool
) -> None:
    source = write_coco(_annotate(1), [{"id": 1, "name": "car"}], info=info)
    assert read_coco_parts(source, exhaustive=option).splits[0].exhaustive is expected


@pytest.mark.parametrize(
    "name", ["../secret.png", "/etc/secret.png", "a/../../secret.png", "..\\secret.png", "C:\\x.png"]
)
def test_a_picture_outside_the_folder_is_refused(write_coco: Write, name: str) -> None:
    source = write_coco(_annotate(1), [{"id": 1, "name": "car"}])
    content = json.loads((source / "train.json").read_text())
    content["images"][0]["file_name"] = name
    (source / "train.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="leads out of the picture folder"):
        read_coco_parts(source)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("{", "is no JSON"),
        ("[]", "holds no mapping"),
        ("{}", "is no COCO file"),
        ({"categories": None}, "no list of categories"),
        ({"images": [{"id": 1, "file_name": "1.png"}]}, r"images\[0\] lacks height, width"),
        ({"annotations": [{"id": 1}]}, r"annotations\[0\] lacks category_id, image_id"),
        ({"categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}, "the id 1 twice"),
        ({"categories": [{"id": "1", "name": "a"}]}, "must be whole numbers"),
        ({"categories": [{"id": 1, "name": "a", "parent_id": 5}]}, "which is no category"),
        ({"categories": [{"id": 1, "name": "a", "parent_id": 1}]}, "which is below itself"),
    ],
)
def test_malformed_files_are_named(write_coco: Write, change: Any, says: str) -> None:
    source = write_coco(_annotate(1), [{"id": 1, "name": "car"}])
    path = source / "train.json"
    path.write_text(change if isinstance(change, str) else json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(UserError, match=says) as caught:
        read_coco_parts(source)
    assert caught.value.code == DATA
    assert str(caught.value).startswith(str(path))


def test_a_name_of_the_tree_that_is_no_category_is_told(write_coco: Write) -> None:
    source = write_coco(_annotate(1), [{"id": 1, "name": "facade"}, {"id": 2, "name": "window"}])
    with pytest.raises(UserError, match=r"no category for facade door; its categories are: facade, window"):
        read_coco_parts(source, tree=parse_vocabulary("facade:window,door"))


def test_object_and_tree_exclude_each_other(write_coco: Write) -> None:
    source = write_coco(_annotate(1), [{"id": 1, "name": "facade"}])
    with pytest.raises(UserError, match="not both"):
        read_coco_parts(source, object_name="car", tree=parse_vocabulary("facade"))


def test_missing_folders_and_pictures_are_told(write_coco: Write, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no folder"):
        read_coco_parts(tmp_path / "none")
    source = write_coco(_annotate(1), [{"id": 1, "name": "car"}])
    shutil.rmtree(source / "images")
    with pytest.raises(UserError, match="name the folder with --images"):
        read_coco_parts(source)
    (source / "train.json").unlink()
    with pytest.raises(UserError, match="holds no COCO annotations"):
        read_coco_parts(source)
