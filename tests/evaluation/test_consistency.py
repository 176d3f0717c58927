"""How results hang together, by hand: squares on a picture of 120 x 120 pixels whose shares can be counted."""

from __future__ import annotations

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from langhops_cli.evaluation.consistency import Consistency, ConsistencyFigures
from langhops_cli.evaluation.instances.stream import scored_pictures

from .scenes import annotation, random_scene, result, truth

CAR, DOG, WHEEL, DOOR, HEAD = 1, 2, 3, 4, 5
LEFT, RIGHT = (0, 0, 40, 40), (60, 0, 40, 40)


def measure(annotations, results, *, min_score=0.25, categories=(), pictures=1) -> ConsistencyFigures:
    content = truth(annotations, pictures=pictures)
    content["categories"] += list(categories)
    seen = scored_pictures(content, results)
    counter = Consistency(seen.categories, min_score=min_score)
    for picture in seen:
        counter.see(picture)
    return counter.result()


def named(number, *args, **more):
    """A result with an id; `parent_id` where given."""
    return {**result(1, *args), "id": number, **more}


TWO_CARS = [
    annotation(1, CAR, *LEFT),
    annotation(1, CAR, *RIGHT),
    annotation(1, WHEEL, 0, 20, 20, 20, parent_id=1),
    annotation(1, WHEEL, 60, 20, 20, 20, parent_id=2),
]


def test_all_right():
    figures = measure(
        TWO_CARS,
        [
            named(1, CAR, 0.9, *LEFT),
            named(2, CAR, 0.8, *RIGHT),
            named(3, WHEEL, 0.7, 60, 20, 20, 20, parent_id=2),
            named(4, WHEEL, 0.6, 0, 20, 20, 20, parent_id=1),
        ],
    )
    assert (figures.parent_known, figures.parent_right, figures.parent_match) == (2, 2, 1.0)
    assert (figures.orphans, figures.containment, figures.annotated_containment) == (0.0, 1.0, 1.0)
    for level in (figures.objects, figures.parts):
        assert (level.annotated, level.results, level.matched, level.osi, level.usi) == (2, 2, 2, 0.0, 0.0)
    assert (figures.inferred, figures.boxes, figures.notes()) == (0, False, [])


def test_every_kind_of_wrong_parent_is_told():
    """Two wheels, four results on two cars: only the first two wheels match; one has the other car, one none."""
    figures = measure(
        [*TWO_CARS, annotation(1, DOOR, 20, 0, 20, 20, parent_id=1), annotation(1, DOOR, 80, 0, 20, 20, parent_id=2)],
        [
            named(1, CAR, 0.9, *LEFT),
            named(2, CAR, 0.8, *RIGHT),
            named(3, CAR, 0.7, 0, 0, 40, 36),  # of the left car too: matched to nothing
            named(4, WHEEL, 0.6, 0, 20, 20, 20, parent_id=2),  # the other car's
            named(5, WHEEL, 0.6, 60, 20, 20, 20, parent_id=None),  # nobody's
            named(6, DOOR, 0.6, 20, 0, 20, 20, parent_id=3),  # of one that matches nothing
            named(7, DOOR, 0.6, 80, 0, 20, 20, parent_id=2),
            named(8, DOOR, 0.3, 100, 100, 10, 10, parent_id=1),  # matches nothing itself
        ],
    )
    counts = figures.parent_right, figures.parent_other, figures.parent_unmatched, figures.parent_missing
    assert (figures.parent_known, counts, figures.parent_match) == (4, (1, 1, 1, 1), 0.25)
    assert figures.orphans == pytest.approx(1 / 5)
    # The wheel of the other car and the far door lie outside their parents, two doors inside.
    assert figures.containment == pytest.approx((0 + 1 + 1 + 0) / 4)
    assert (figures.objects.results, figures.objects.matched, figures.parts.matched) == (3, 2, 4)


def test_what_a_match_leaves_out_and_takes_too_much():
    """40 x 40 against 40 x 50: IoU 0.8; of the result nothing lies outside, a fifth of the car is left out."""
    figures = measure(
        [annotation(1, CAR, 0, 0, 40, 50), annotation(1, WHEEL, 0, 0, 20, 20, parent_id=1)],
        [named(1, CAR, 0.9, *LEFT), named(2, WHEEL, 0.9, 0, 0, 25, 20, parent_id=1)],
    )
    assert (figures.objects.osi, figures.objects.usi) == (0.0, pytest.approx(0.2))
    assert (figures.parts.osi, figures.parts.usi) == (pytest.approx(0.2), 0.0)


def test_containment_is_a_share_of_the_part():
    figures = measure(
        [annotation(1, CAR, *LEFT), annotation(1, WHEEL, 30, 0, 20, 20, parent_id=1)],
        [named(1, CAR, 0.9, *LEFT), named(2, WHEEL, 0.9, 35, 0, 20, 20, parent_id=1)],
    )
    assert figures.containment == pytest.approx(5 / 20)
    assert figures.annotated_containment == pytest.approx(10 / 20)


def test_results_below_the_score_are_not_there():
    """A part whose parent is below it is an orphan, and its parent is not the matched one."""
    results = [named(1, CAR, 0.4, *LEFT), named(2, WHEEL, 0.6, 0, 20, 20, 20, parent_id=1)]
    low, high = (measure(TWO_CARS, results, min_score=score) for score in (0.4, 0.5))
    assert (low.objects.results, low.parent_match, low.orphans) == (1, 1.0, 0.0)
    assert (high.objects.results, high.parent_match, high.orphans, high.containment) == (0, 0.0, 1.0, None)
    assert measure(TWO_CARS, results, min_score=0.7).parent_match is None


def test_the_better_score_takes_the_instance_and_crowds_are_left_out():
    figures = measure(
        [annotation(1, CAR, *LEFT), annotation(1, CAR, *RIGHT, iscrowd=1)],
        [named(1, CAR, 0.5, *LEFT), named(2, CAR, 0.9, 0, 0, 40, 30), named(3, CAR, 0.9, *RIGHT)],
    )
    assert (figures.objects.annotated, figures.objects.matched) == (1, 1)
    assert figures.objects.usi == pytest.approx(0.25)


def test_the_same_object_under_another_name_is_no_match():
    figures = measure(TWO_CARS, [named(1, DOG, 0.9, *LEFT), named(2, WHEEL, 0.9, 0, 20, 20, 20, parent_id=1)])
    assert (figures.parent_unmatched, figures.parent_match, figures.containment) == (1, 0.0, 1.0)


def test_parents_of_another_systems_file_are_looked_for():
    """The car that holds most of the wheel, not the dog that holds all of it, nor the car that holds none."""
    results = [
        result(1, CAR, 0.9, *LEFT),
        result(1, CAR, 0.8, *RIGHT),
        result(1, DOG, 0.9, 0, 0, 120, 120),
        result(1, WHEEL, 0.6, 0, 20, 20, 20),
        result(1, WHEEL, 0.6, 55, 20, 20, 20),
        result(1, HEAD, 0.6, 0, 100, 10, 10),
        result(1, DOOR, 0.6, 0, 100, 10, 10),
    ]
    figures = measure(TWO_CARS, results)
    assert (figures.inferred, figures.parent_match) == (4, 1.0)
    assert figures.orphans == pytest.approx(1 / 4)
    assert figures.containment == pytest.approx((1 + 0.75 + 1) / 3)
    assert "4 part results name no parent" in figures.notes()[0]
    # Ids alone say nothing of parents, a parent that is null does.
    again = measure(TWO_CARS, [{**row, "id": number} for number, row in enumerate(results)])
    assert again == figures
    silent = [{**row, "id": number, "parent_id": None} for number, row in enumerate(results)]
    assert (measure(TWO_CARS, silent).inferred, measure(TWO_CARS, silent).orphans) == (0, 1.0)


def test_parts_of_parts_hang_from_the_object_at_the_end():
    tyre = {"id": 6, "name": "car tyre", "parent_id": WHEEL}
    figures = measure(
        [*TWO_CARS, annotation(1, 6, 0, 20, 20, 10, parent_id=3)],
        [
            named(1, CAR, 0.9, *LEFT),
            named(2, WHEEL, 0.1, 0, 20, 20, 20, parent_id=1),  # below the score, but the chain goes through it
            named(3, 6, 0.9, 0, 20, 20, 10, parent_id=2),
        ],
        categories=[tyre],
    )
    assert (figures.parts.results, figures.parent_match, figures.orphans) == (1, 1.0, 0.0)


def test_boxes_where_there_are_no_masks():
    boxes = [{key: value for key, value in row.items() if key != "segmentation"} for row in TWO_CARS]
    figures = measure(boxes, [named(1, CAR, 0.9, 0, 0, 40, 30), named(2, WHEEL, 0.9, 0, 20, 20, 20, parent_id=1)])
    assert (figures.boxes, figures.objects.usi) == (True, pytest.approx(0.25))
    assert figures.containment == pytest.approx(0.5)
    assert "measured on boxes" in figures.notes()[-1]


def test_nothing_at_all():
    figures = measure([], [])
    assert (figures.parent_match, figures.orphans, figures.containment, figures.objects.osi) == (None,) * 4
    assert [row[1:] for row in figures.rows()[-3:]] == [("-", "-")] * 3


def test_the_table_and_the_plain_values_say_the_same():
    figures = measure(TWO_CARS, [named(1, CAR, 0.9, *LEFT), named(2, WHEEL, 0.6, 0, 20, 20, 20, parent_id=1)])
    rows = figures.rows()
    assert {len(row) for row in rows} == {3}
    assert ("results of score 0.25 or more", "1", "1") in rows
    assert ("parent match (of 1)", "-", "100.0") in rows
    plain = figures.to_dict()
    assert (plain["parent_match"], plain["parts"]["matched"], plain["match_iou"]) == (1.0, 1, 0.5)


@pytest.mark.parametrize("seed", range(1, 13))
def test_random_pictures_against_counting_pixels(seed):
    """Matching and shares of every pair, found again by a plain loop over decoded masks."""
    content, results = random_scene(seed)
    seen = scored_pictures(content, results)
    counter = Consistency(seen.categories, min_score=0.3)
    for picture in seen:
        counter.see(picture)
    figures = counter.result()
    pairs = [pair for picture in seen for pair in plain_matches(picture.truth, picture.results, 0.3)]
    for level, wanted in ((figures.objects, {CAR, DOG}), (figures.parts, {WHEEL, DOOR, HEAD})):
        own = [(found, there) for name, found, there in pairs if name in wanted]
        assert level.matched == len(own)
        if own:
            assert level.osi == pytest.approx(np.mean([(found & ~there).sum() / found.sum() for found, there in own]))
            assert level.usi == pytest.approx(np.mean([(there & ~found).sum() / there.sum() for found, there in own]))


def plain_matches(annotations, results, min_score):
    free = [(entry, decode(entry)) for entry in annotations if not entry["iscrowd"]]
    for found in sorted((entry for entry in results if entry["score"] >= min_score), key=lambda row: -row["score"]):
        mask = decode(found)
        own = [(entry, there) for entry, there in free if entry["category_id"] == found["category_id"]]
        overlaps = [(mask & there).sum() / (mask | there).sum() for _, there in own]
        best = max(range(len(own)), key=lambda place: (overlaps[place], place), default=None)
        if best is not None and overlaps[best] >= 0.5:
            taken, there = own[best]
            free = [pair for pair in free if pair[0] is not taken]
            yield found["category_id"], mask, there


def decode(entry) -> np.ndarray:
    return coco_mask.decode(entry["segmentation"]).astype(bool)
