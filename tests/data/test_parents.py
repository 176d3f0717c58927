from pathlib import Path

import numpy as np
from pycocotools import mask as coco_mask

from langhops_cli.data.masks import area, as_text
from langhops_cli.data.parents import assign_parents
from langhops_cli.data.records import InstanceRecord, PictureRecord, SplitRecords

Box = tuple[int, int, int, int]


def item(
    number: int, name: str, part: str | None, box: Box, *, parent: int | None = None, others: tuple[str, ...] = (),
    crowd: bool = False, image: int = 1,
) -> InstanceRecord:  # fmt: skip
    mask = np.zeros((20, 40), np.uint8, order="F")
    mask[box[1] : box[3], box[0] : box[2]] = 1
    return InstanceRecord(number, image, name, part, as_text(coco_mask.encode(mask)), parent, crowd, others)


def split(*items: InstanceRecord) -> SplitRecords:
    pictures = [PictureRecord(number, f"{number}.png", 40, 20) for number in (1, 2)]
    return SplitRecords("train", Path(), True, pictures, list(items))


def parents(records: SplitRecords) -> dict[int, int | None]:
    return {row.id: row.parent for row in records.instances if row.part is not None}


LEFT, RIGHT = (0, 0, 20, 20), (20, 0, 40, 20)


def test_the_object_that_holds_at_least_half_of_a_part_is_its_parent() -> None:
    records = split(
        item(1, "dog", None, LEFT),
        item(2, "dog", None, RIGHT),
        item(3, "cat", None, (0, 0, 40, 20)),
        item(4, "dog", "head", (22, 2, 30, 10)),
        item(5, "dog", "leg", (16, 2, 26, 10)),  # 40 % left, 60 % right
        item(6, "dog", "tail", (14, 12, 20, 18)),
    )
    counts = assign_parents(records, union=False)
    assert parents(records) == {4: 2, 5: 2, 6: 1}
    assert (counts.by_mask, counts.unknown) == (3, 0)


def test_a_part_that_no_object_of_its_name_holds_has_no_parent_and_is_counted() -> None:
    records = split(
        item(1, "dog", None, (0, 0, 10, 20)),
        item(2, "dog", "head", (6, 2, 16, 10)),  # 40 % inside
        item(3, "cat", "head", (2, 2, 6, 6)),  # inside, but of a dog
    )
    counts = assign_parents(records, union=False)
    assert parents(records) == {2: None, 3: None}
    assert counts.unknown == 2


def test_of_two_objects_that_hold_it_all_the_smaller_is_the_parent() -> None:
    records = split(
        item(1, "dog", None, (0, 0, 40, 20)), item(2, "dog", None, (0, 0, 12, 12)), item(3, "dog", "head", (2, 2, 6, 6))
    )
    assign_parents(records, union=False)
    assert parents(records) == {3: 2}


def test_stated_parents_win_and_parts_of_parts_belong_to_the_object() -> None:
    records = split(
        item(1, "dog", None, LEFT),
        item(2, "dog", None, RIGHT),
        item(3, "dog", "head", (2, 2, 8, 8), parent=2),
        item(4, "dog", "ear", (2, 2, 4, 4), parent=3),
    )
    counts = assign_parents(records, union=False)
    assert parents(records) == {3: 2, 4: 2}
    assert counts.stated == 2


def test_stated_parents_that_are_wrong_are_counted_and_found_by_mask() -> None:
    records = split(
        item(1, "dog", None, LEFT),
        item(2, "cat", None, RIGHT),
        item(3, "dog", "head", (2, 2, 8, 8), parent=2),  # a cat
        item(4, "dog", "leg", (2, 10, 8, 18), parent=99),  # nothing
        item(5, "dog", "tail", (2, 10, 8, 18), parent=5),  # itself
    )
    counts = assign_parents(records, union=False)
    assert parents(records) == {3: 1, 4: 1, 5: 1}
    assert (counts.contradicted, counts.by_mask) == (3, 3)


def test_a_part_of_several_objects_goes_to_the_one_that_holds_it() -> None:
    records = split(
        item(1, "car", None, LEFT),
        item(2, "bus", None, RIGHT),
        item(3, "car", "wheel", (22, 10, 28, 16), others=("bus",)),
        item(4, "car", "wheel", (2, 10, 8, 16), others=("bus",), image=2),
    )
    assign_parents(records, union=False)
    assert [(row.object, row.parent) for row in records.instances if row.part] == [("bus", 2)]
    assert records.drops.ids == {"part that several objects have and none holds": ["4"]}


def test_union_makes_one_object_of_the_parts_where_a_picture_shows_only_parts() -> None:
    records = split(
        item(1, "car", "door", (0, 0, 10, 10)),
        item(2, "car", "hood", (5, 0, 15, 10)),
        item(3, "car", None, LEFT, image=2),
        item(4, "car", "door", (30, 0, 38, 8), image=2),
    )
    counts = assign_parents(records, union=True)
    (made,) = (row for row in records.instances if row.part is None and row.image_id == 1)
    assert area(made.rle) == 150
    assert parents(records) == {1: made.id, 2: made.id, 4: None}
    assert made.id not in {1, 2, 3, 4}
    assert (counts.unions, counts.by_union, counts.unknown) == (1, 2, 1)


def test_crowd_regions_hold_no_parts() -> None:
    records = split(item(1, "dog", None, LEFT, crowd=True), item(2, "dog", "head", (2, 2, 8, 8)))
    assign_parents(records, union=False)
    assert parents(records) == {2: None}
