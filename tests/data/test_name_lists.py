"""The parser of part names on every list of the field: no part may get a wrong parent."""

import json
from collections.abc import Collection
from pathlib import Path

import pytest

from langhops_cli.data.manifests import load_manifest, manifest_names
from langhops_cli.vocabulary import clean_name, split_part_name

FIXED = [name for name in manifest_names() if any(load_manifest(name).vocabulary.values())]


def wrong_parents(parts: dict[str, tuple[str, str]], objects: Collection[str]) -> dict[str, object]:
    """Names whose parse differs from the parent and the part that are known.

    Args:
        parts: the name as a source spells it -> its object and part.
        objects: all objects of the source.
    """
    found = {name: split_part_name(name, objects) for name in parts}
    return {name: found[name] for name, wanted in parts.items() if found[name] != wanted}


@pytest.mark.parametrize("spelling", ["{0}'s {1}", "{0}\u2019s {1}", "{0}:{1}", "{0} {1}"])
@pytest.mark.parametrize("name", FIXED)
def test_fixed_lists(name: str, spelling: str) -> None:
    """The manifests hold objects and parts apart; spelt as sources do, they must come apart the same way."""
    vocabulary = load_manifest(name).vocabulary
    parts = {spelling.format(owner, part): (owner, part) for owner, parts in vocabulary.items() for part in parts}
    assert len(parts) == sum(map(len, vocabulary.values()))
    assert wrong_parents(parts, vocabulary) == {}
    assert not any(split_part_name(owner, vocabulary) for owner in vocabulary)


def test_the_large_lists_are_among_them() -> None:
    sizes = {name: sum(map(len, load_manifest(name).vocabulary.values())) for name in FIXED}
    published = {"ade20k-part-234": 234, "partimagenet": 40, "pascal-part-116": 116, "pascal-part": 93, "paco": 456}
    assert {"ade20k-part-234", "partimagenet"} <= set(sizes)
    assert {name: count for name, count in sizes.items() if name in published} == {
        name: count for name, count in published.items() if name in sizes
    }


def test_paco(shared_data: Path) -> None:
    """PACO's parts say themselves what they are: supercategory PART, and the object up to the only colon."""
    rows = json.loads((shared_data / "authentic_annotations/paco_category_info.json").read_text())
    objects = [row["name"] for row in rows if row["supercategory"] != "PART"]
    parts = {row["name"]: row["name"].split(":") for row in rows if row["supercategory"] == "PART"}
    assert (len(objects), len(parts)) == (75, 456)
    assert all(len(pieces) == 2 and pieces[0] in objects for pieces in parts.values())
    wanted = {name: (owner, part.replace("_", " ")) for name, (owner, part) in parts.items()}
    assert wrong_parents(wanted, objects) == {}
    assert not any(split_part_name(name, objects) for name in objects)


@pytest.mark.parametrize("name", ["ade20k_part_234_subset", "face_parts", "clothing_parts"])
def test_shared_sets_that_state_their_parents(shared_data: Path, name: str) -> None:
    for split in ("train", "val"):
        rows = json.loads((shared_data / name / f"{split}.json").read_text())["categories"]
        by_id = {row["id"]: row["name"] for row in rows}
        objects = [row["name"] for row in rows if row["parent_id"] is None]
        parts = [row for row in rows if row["parent_id"] is not None]
        assert objects
        assert parts
        for row in parts:
            owner = by_id[row["parent_id"]]
            parsed = split_part_name(row["name"], objects)
            spelt_in_full = clean_name(row["name"]).startswith((f"{owner} ", f"{owner}'s "))
            # A name that does not begin with its object must not be given to another one.
            assert (parsed[0] if parsed else None) == (owner if spelt_in_full else None), row["name"]
            if parsed is not None:
                assert clean_name(row["name"]) in (f"{owner} {parsed[1]}", f"{owner}'s {parsed[1]}")


@pytest.mark.parametrize("name", ["car_parts", "facade_parts"])
def test_shared_sets_whose_names_are_bare(shared_data: Path, name: str) -> None:
    """Names such as "front_left_door" or "shop" begin with no object: they have none by their spelling."""
    for split in ("train", "val"):
        rows = json.loads((shared_data / name / f"{split}.json").read_text())["categories"]
        assert len(rows) > 5
        assert not any(split_part_name(row["name"], ["car", "facade", "person"]) for row in rows)


def test_names_that_hold_another_object_within_a_word_or_behind_the_first() -> None:
    """What substrings get wrong: 55 of the pairs of ADE20K-Part-234 alone."""
    vocabulary = load_manifest("ade20k-part-234").vocabulary
    names = [f"{owner} {part}" for owner, parts in vocabulary.items() for part in parts]
    misled = [name for name in names if sum(owner in name for owner in vocabulary) > 1]
    assert len(misled) > 50
    for owner, parts in vocabulary.items():
        for part in parts:
            assert split_part_name(f"{owner}'s {part}", vocabulary) == (owner, part)
    assert split_part_name("armchair's leg", ["chair"]) is None
    assert split_part_name("pool table bed", ["bed", "table"]) is None
