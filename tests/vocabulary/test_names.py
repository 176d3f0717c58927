import json

import pytest

from langhops_cli.vocabulary import clean_name, split_part_name


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("Car Tier", "car tire"),
        ("Bicycle Tier", "bicycle tire"),
        ("Cake Tier", "cake tier"),
        ("trash_can", "trash can"),
        ("back_left_door", "back left door"),
        ("car_(automobile)", "car (automobile)"),
        ("  T-shirt ", "t-shirt"),
        ("Balcony__Fence", "balcony fence"),
        ("ÉTOILE", "étoile"),
    ],
)
def test_names_become_clean_english(source, name):
    assert clean_name(source) == name
    assert clean_name(name) == name


@pytest.mark.parametrize(
    ("source", "objects", "expected"),
    [
        ("person's arm", ["person"], ("person", "arm")),
        ("person\u2019s arm", ["person"], ("person", "arm")),
        ("chest of drawers's leg", ["chest", "chest of drawers"], ("chest of drawers", "leg")),
        ("door's door frame", ["door"], ("door", "door frame")),
        ("bird's nest's rim", ["bird's nest"], ("bird's nest", "rim")),
        ("armchair's leg", ["chair"], None),
        ("chest of drawers's leg", ["chest"], None),
        ("car_(automobile):bumper", ["car_(automobile)"], ("car_(automobile)", "bumper")),
        ("trash_can:inner_side", ["trash can"], ("trash can", "inner side")),
        ("trash_can:", ["trash can"], None),
        ("Car Back Bumper", ["car"], ("car", "back bumper")),
        ("Car Tier", ["car"], ("car", "tire")),
        ("Quadruped Head", ["Quadruped"], ("Quadruped", "head")),
        ("dining_table_leg", ["dining", "dining table"], ("dining table", "leg")),
        ("dining table", ["dining", "dining table"], None),
        ("bird's nest", ["bird", "bird's nest"], None),
        ("carpet edge", ["car"], None),
        ("wheel", ["car"], None),
        ("", ["car"], None),
    ],
)
def test_a_part_name_splits_at_whole_known_objects_only(source, objects, expected):
    assert split_part_name(source, objects) == expected


def test_all_part_names_of_ade20k_find_the_parent_that_the_annotations_state(shared_data):
    categories = json.loads((shared_data / "ade20k_part_234_subset" / "train.json").read_text())["categories"]
    objects = {item["id"]: item["name"] for item in categories if item["parent_id"] is None}
    parts = [item for item in categories if item["parent_id"] is not None]
    assert (len(objects), len(parts)) == (44, 234)
    wrong = {
        item["name"]: found
        for item in parts
        if (found := split_part_name(item["name"], objects.values())) is None or found[0] != objects[item["parent_id"]]
    }
    assert wrong == {}
    assert all(split_part_name(name, objects.values()) is None for name in objects.values())


def test_all_part_names_of_paco_split_as_the_data_set_writes_them(shared_data):
    categories = json.loads((shared_data / "authentic_annotations" / "paco_category_info.json").read_text())
    objects = {item["name"] for item in categories if ":" not in item["name"]}
    parts = [item["name"] for item in categories if ":" in item["name"]]
    assert (len(objects), len(parts)) == (75, 456)
    for source in parts:
        owner, part = source.split(":")
        assert split_part_name(source, objects) == (owner, part.replace("_", " "))
        # The same name in words alone must find the same object.
        assert split_part_name(source.replace(":", " "), objects) == (owner, part.replace("_", " "))


def test_object_names_of_lvis_stay_apart_when_cleaned(shared_data):
    categories = json.loads((shared_data / "authentic_annotations" / "lvis_val_100.json").read_text())["categories"]
    names = [item["name"] for item in categories]
    assert len({clean_name(name) for name in names}) == len(names) == 1230
