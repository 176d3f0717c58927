import numpy as np
import pytest
from pycocotools import mask as coco_mask

from langhops_cli.data import parents as module
from langhops_cli.data.masks import area, as_text
from langhops_cli.data.parents import ParentCounts, assign_parents
from langhops_cli.data.records import Drops, InstanceRecord

Box = tuple[int, int, int, int]


def item(
    number: int, name: str, part: str | None, box: Box, *, parent: int | None = None, others: tuple[str, ...] = (),
    crowd: bool = False,
) -> InstanceRecord:  # fmt: skip
    mask = np.zeros((20, 40), np.uint8, order="F")
    mask[box[1] : box[3], box[0] : box[2]] = 1
    return InstanceRecord(number, name, part, as_text(coco_mask.encode(mask)), parent, crowd, others)


def boxed(number: int, name: str, part: str | None, box: Box) -> InstanceRecord:
    return InstanceRecord(number, name, part, None, box=box)


def assign(
    *items: InstanceRecord, union: bool = False
) -> tuple[dict[int, int | None], ParentCounts, list[InstanceRecord], Drops]:
    """The parents of the parts, and all else that comes back."""
    drops = Drops()
    resolved, counts = assign_parents(items, union=union, drops=drops)
    return {row.id: row.parent for row in resolved if row.part is not None}, counts, resolved, drops


LEFT, RIGHT = (0, 0, 20, 20), (20, 0, 40, 20)


def test_the_object_that_holds_at_least_half_of_a_part_is_its_parent() -> None:
    parents, counts, _, _ = assign(
        item(1, "dog", None, LEFT),
        item(2, "dog", None, RIGHT),
        item(3, "cat", None, (0, 0, 40, 20)),
        item(4, "dog", "head", (22, 2, 30, 10)),
        item(5, "dog", "leg", (16, 2, 26, 10)),  # 40 % left, 60 % right
        item(6, "dog", "tail", (14, 12, 20, 18)),
    )
    assert parents == {4: 2, 5: 2, 6: 1}
    assert (counts.by_mask, counts.unknown) == (3, 0)


def test_a_part_that_no_object_of_its_name_holds_has_no_parent_and_is_counted() -> None:
    parents, counts, _, _ = assign(
        item(1, "dog", None, (0, 0, 10, 20)),
        item(2, "dog", "head", (6, 2, 16, 10)),  # 40 % inside
        item(3, "cat", "head", (2, 2, 6, 6)),  # inside, but of a dog
    )
    assert parents == {2: None, 3: None}
    assert counts.unknown == 2


def test_of_two_objects_that_hold_it_all_the_smaller_is_the_parent() -> None:
    parents, _, _, _ = assign(
        item(1, "dog", None, (0, 0, 40, 20)), item(2, "dog", None, (0, 0, 12, 12)), item(3, "dog", "head", (2, 2, 6, 6))
    )
    assert parents == {3: 2}


@pytest.mark.parametrize("pairs", [1, 5, 7, 1000])
def test_many_parts_are_compared_in_blocks(monkeypatch: pytest.MonkeyPatch, pairs: int) -> None:
    monkeypatch.setattr(module, "PAIRS", pairs)
    dogs = [item(n, "dog", None, (8 * n, 0, 8 * n + 8, 20)) for n in range(5)]
    heads = [item(10 + n, "dog", "head", (8 * (n % 5) + 2, n // 5, 8 * (n % 5) + 5, n // 5 + 3)) for n in range(17)]
    parents, counts, _, _ = assign(*heads, *dogs)
    assert parents == {10 + n: n % 5 for n in range(17)}
    assert counts.by_mask == 17


def test_boxes_tell_the_parent_where_there_are_no_masks() -> None:
    parents, counts, _, _ = assign(
        boxed(1, "dog", None, LEFT),
        boxed(2, "dog", None, RIGHT),
        boxed(3, "dog", "head", (22, 2, 30, 10)),
        item(4, "dog", "leg", (16, 2, 22, 10)),  # a mask among boxes: two thirds of its box are left
        boxed(5, "cat", "head", (2, 2, 6, 6)),
    )
    assert parents == {3: 2, 4: 1, 5: None}
    assert (counts.by_mask, counts.unknown) == (2, 1)


def test_stated_parents_win_and_parts_of_parts_belong_to_the_object() -> None:
    parents, counts, _, _ = assign(
        item(1, "dog", None, LEFT),
        item(2, "dog", None, RIGHT),
        item(3, "dog", "head", (2, 2, 8, 8), parent=2),
        item(4, "dog", "ear", (2, 2, 4, 4), parent=3),
    )
    assert parents == {3: 2, 4: 2}
    assert counts.stated == 2


def test_stated_parents_that_are_wrong_are_counted_and_found_by_mask() -> None:
    parents, counts, _, _ = assign(
        item(1, "dog", None, LEFT),
        item(2, "cat", None, RIGHT),
        item(3, "dog", "head", (2, 2, 8, 8), parent=2),  # a cat
        item(4, "dog", "leg", (2, 10, 8, 18), parent=99),  # nothing
        item(5, "dog", "tail", (2, 10, 8, 18), parent=5),  # itself
        item(6, "dog", "ear", (2, 2, 4, 4), parent=7),  # each other
        item(7, "dog", "eye", (4, 4, 6, 6), parent=6),
    )
    assert parents == {3: 1, 4: 1, 5: 1, 6: 1, 7: 1}
    assert (counts.contradicted, counts.by_mask) == (5, 5)


def test_a_part_of_several_objects_goes_to_the_one_that_holds_it() -> None:
    _, counts, resolved, drops = assign(
        item(1, "car", None, LEFT),
        item(2, "bus", None, RIGHT),
        item(3, "car", "wheel", (22, 10, 28, 16), others=("bus",)),
    )
    assert [(row.object, row.parent, row.others) for row in resolved if row.part] == [("bus", 2, ())]
    assert (counts.by_mask, drops.counts) == (1, {})


def test_a_part_of_several_objects_that_none_holds_is_left_out() -> None:
    parents, counts, _, drops = assign(
        item(4, "car", "wheel", (2, 10, 8, 16), others=("bus",)), item(5, "bus", None, RIGHT)
    )
    assert (parents, counts.unknown) == ({}, 0)
    assert drops.first == {"part that several objects have and none holds": ["4"]}


def test_union_makes_one_object_of_the_parts_where_a_picture_shows_only_parts() -> None:
    parents, counts, resolved, _ = assign(
        item(1, "car", "door", (0, 0, 10, 10)), item(2, "car", "hood", (5, 0, 15, 10)), union=True
    )
    (made,) = (row for row in resolved if row.part is None)
    assert made.rle is not None
    assert area(made.rle) == 150
    assert parents == {1: made.id, 2: made.id}
    assert made.id < 0, "no id of the source"
    assert (counts.unions, counts.by_union, counts.unknown) == (1, 2, 0)


def test_union_leaves_an_object_that_is_there_alone() -> None:
    parents, counts, resolved, _ = assign(
        item(3, "car", None, LEFT), item(4, "car", "door", (30, 0, 38, 8)), union=True
    )
    assert [row.id for row in resolved if row.part is None] == [3]
    assert (parents, counts.unions, counts.unknown) == ({4: None}, 0, 1)


def test_the_union_of_boxes_is_the_box_around_them_all() -> None:
    parents, _, resolved, _ = assign(
        boxed(-1, "car", "door", (4, 2, 10, 10)),
        boxed(2, "car", "hood", (5, 0, 15, 8)),
        boxed(3, "bus", "door", (20, 4, 25, 9)),
        union=True,
    )
    made = {row.object: row for row in resolved if row.part is None}
    assert (made["car"].box, made["car"].rle) == ((4, 0, 15, 10), None)
    assert made["bus"].box == (20, 4, 25, 9)
    assert parents == {-1: made["car"].id, 2: made["car"].id, 3: made["bus"].id}
    assert len({row.id for row in resolved}) == 5, "made ids are no ids of the source and differ"


def test_crowd_regions_hold_no_parts() -> None:
    parents, _, _, _ = assign(item(1, "dog", None, LEFT, crowd=True), item(2, "dog", "head", (2, 2, 8, 8)))
    assert parents == {2: None}
