"""What windows and the whole picture answered, put together: pieces joined, what is seen twice taken once."""

from __future__ import annotations

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from langhops_cli.prediction.results import Detection, Prediction, encode
from langhops_cli.prediction.views import View, merge_views

# Hand-made answers: a picture of 100 x 200 pixels in two windows, 0..120 and 80..200.

SIZE = (100, 200)
LEFT, RIGHT = (0, 0, 120, 100), (80, 0, 200, 100)


def box_mask(left, top, right, bottom):
    mask = np.zeros(SIZE, dtype=bool)
    mask[top:bottom, left:right] = True
    return mask


def seen(rows, window=(0, 0, 200, 100)):
    """A prediction of a window: (path, score, box in pixels of the picture, parent)."""
    left, top, right, bottom = window
    found = [
        Detection.from_mask(tuple(path.split()), score, box_mask(*box)[top:bottom, left:right], parent=parent)
        for path, score, box, parent in rows
    ]
    return Prediction("a", (bottom - top, right - left), tuple(found))


def merged(whole, left=(), right=()):
    return merge_views(seen(whole), [View(LEFT, seen(left, LEFT)), View(RIGHT, seen(right, RIGHT))])


def summary(prediction):
    return [(" ".join(x.path), round(x.score, 2), tuple(map(int, x.box)), x.parent) for x in prediction]


def test_pieces_that_touch_across_a_seam_become_one():
    found = merged([], [("car", 0.6, (30, 20, 120, 60), None)], [("car", 0.8, (80, 20, 170, 60), None)])
    assert summary(found) == [("car", 0.8, (30, 20, 170, 60), None)]


def test_neighbours_that_disagree_where_both_windows_see_stay_two():
    found = merged([], [("car", 0.6, (30, 20, 95, 60), None)], [("car", 0.8, (90, 20, 170, 60), None)])
    assert len(found) == 2


def test_pieces_of_different_names_stay_two():
    found = merged([], [("car", 0.6, (30, 20, 120, 60), None)], [("bus", 0.8, (80, 20, 170, 60), None)])
    assert {item.name for item in found} == {"car", "bus"}


def test_what_one_window_sees_whole_is_not_widened_by_what_the_other_sees():
    found = merged([], [("car", 0.6, (85, 20, 112, 60), None)], [("car", 0.8, (85, 20, 114, 66), None)])
    assert summary(found) == [("car", 0.8, (85, 20, 114, 66), None)]


def test_the_windows_mask_is_taken_with_the_better_score():
    found = merged([("car", 0.9, (8, 8, 70, 72), None)], [("car", 0.5, (10, 10, 70, 70), None)])
    assert summary(found) == [("car", 0.9, (10, 10, 70, 70), None)]


def test_a_piece_goes_to_the_whole_and_its_parts_with_it():
    whole = [("bus", 0.7, (5, 5, 195, 95), None), ("bus wheel", 0.5, (20, 70, 44, 94), 0)]
    left = [("bus", 0.9, (60, 30, 120, 90), None), ("bus wheel", 0.6, (100, 70, 115, 88), 0)]
    found = merged(whole, left)
    assert summary(found) == [
        ("bus", 0.7, (5, 5, 195, 95), None),
        ("bus wheel", 0.6, (100, 70, 115, 88), 0),
        ("bus wheel", 0.5, (20, 70, 44, 94), 0),
    ]


def test_a_piece_stands_unless_a_window_that_shows_more_denies_it():
    other = ("car", 0.9, (0, 0, 30, 30), None)
    assert len(merged([other], [("car", 0.5, (70, 40, 120, 90), None)])) == 2
    assert len(merged([other], [("car", 0.5, (90, 40, 120, 90), None)])) == 1  # the right window shows 80 to 200
    assert len(merged([other], [("car", 0.5, (90, 40, 110, 90), None)])) == 2  # not cut off
    holder = ("car", 0.4, (84, 10, 190, 99), None)  # what denies it may also hold it
    parts = [("car", 0.5, (90, 40, 120, 90), None), ("car door", 0.5, (95, 45, 115, 80), 0)]
    assert summary(merged([], parts, [holder])) == [holder, ("car door", 0.5, (95, 45, 115, 80), 0)]


def test_a_piece_under_another_name_goes_where_the_whole_picture_is_surer():
    piece = ("train", 0.6, (60, 30, 120, 90), None)
    assert [x.name for x in merged([("bus", 0.7, (5, 5, 195, 95), None)], [piece])] == ["bus"]
    assert [x.name for x in merged([("bus", 0.5, (5, 5, 195, 95), None)], [piece])] == ["train", "bus"]
    inner = ("train", 0.6, (40, 30, 100, 90), None)  # not cut off: a thing before the bus
    assert [x.name for x in merged([("bus", 0.7, (5, 5, 195, 95), None)], [inner])] == ["bus", "train"]


def test_a_crowd_taken_as_one_gives_way_to_those_in_it():
    whole = [("person", 0.9, (5, 10, 75, 90), None), ("person head", 0.8, (5, 10, 75, 30), 0)]
    two = [
        ("person", 0.6, (6, 10, 39, 90), None),
        ("person", 0.5, (41, 10, 74, 90), None),
        ("person head", 0.4, (50, 10, 60, 20), 1),
    ]
    assert summary(merged(whole, two)) == summary(seen(two))
    one = merged(whole, two[:1])  # alone it is but a piece
    assert [x.name for x in one if x.level == "object"] == ["person"]


def test_of_two_names_for_one_thing_the_better_stays_with_its_parts():
    whole = [("van", 0.5, (10, 10, 70, 70), None), ("van wheel", 0.5, (20, 60, 30, 70), 0)]
    left = [("car", 0.6, (10, 10, 70, 70), None), ("car wheel", 0.4, (20, 60, 30, 70), 0)]
    assert summary(merged(whole, left)) == summary(seen(left))


def test_parts_are_joined_within_their_object_only():
    left = [("car", 0.6, (30, 20, 120, 60), None), ("car door", 0.5, (60, 30, 120, 50), 0)]
    right = [("car", 0.8, (80, 20, 170, 60), None), ("car door", 0.7, (80, 30, 140, 50), 0)]
    other = [("bus", 0.4, (70, 70, 120, 95), None), ("bus door", 0.3, (80, 75, 100, 90), 0)]
    beside = [(path, score, box, None if parent is None else 2) for path, score, box, parent in other]
    assert summary(merged([], [*left, *beside], right)) == [
        ("car", 0.8, (30, 20, 170, 60), None),
        ("bus", 0.4, (70, 70, 120, 95), None),
        ("car door", 0.7, (60, 30, 140, 50), 0),
        ("bus door", 0.3, (80, 75, 100, 90), 1),
    ]


def test_of_a_part_in_pieces_the_whole_picture_knows_more():
    left = [("car", 0.6, (30, 20, 120, 60), None), ("car door", 0.8, (60, 30, 120, 50), 0)]
    right = [("car", 0.8, (80, 20, 170, 60), None), ("car door", 0.7, (80, 30, 140, 50), 0)]
    whole = [("car", 0.5, (28, 20, 171, 60), None), ("car door", 0.3, (58, 30, 141, 50), 0)]
    assert summary(merged(whole, left, right)) == [
        ("car", 0.8, (30, 20, 170, 60), None),
        ("car door", 0.3, (58, 30, 141, 50), 0),
    ]
    assert len(merged([], left, right[:1])) == 1  # a piece alone


def test_a_part_of_a_part_finds_its_part_or_else_its_object():
    whole = [("dog", 0.9, (0, 0, 200, 100), None), ("dog head", 0.5, (20, 20, 60, 60), 0)]
    left = [
        ("dog", 0.8, (4, 4, 120, 96), None),
        ("dog head", 0.7, (21, 20, 60, 60), 0),
        ("dog head ear", 0.6, (22, 22, 30, 30), 1),
    ]
    assert summary(merged(whole, left))[1:] == [
        ("dog head", 0.7, (21, 20, 60, 60), 0),
        ("dog head ear", 0.6, (22, 22, 30, 30), 1),
    ]
    muzzle = [("dog", 0.9, (0, 0, 200, 100), None), ("dog muzzle", 0.9, (20, 20, 60, 60), 0)]
    assert summary(merged(muzzle, left))[1:] == [
        ("dog muzzle", 0.9, (20, 20, 60, 60), 0),
        ("dog head ear", 0.6, (22, 22, 30, 30), 0),
    ]


def test_without_windows_the_whole_picture_stands_as_it_is():
    rows = [
        ("car", 0.9, (8, 8, 70, 70), None),
        ("car", 0.8, (10, 10, 60, 60), None),
        ("van", 0.7, (8, 8, 70, 71), None),
    ]
    assert summary(merge_views(seen(rows), [])) == summary(seen(rows))
    assert summary(merged(rows)) == summary(seen(rows))
    assert len(merged([])) == 0


@pytest.mark.parametrize("seed", range(5))
def test_random_answers_give_a_sound_prediction_without_duplicates(seed):
    random = np.random.default_rng(seed)

    def answer(window):
        left, top, right, bottom = window
        rows, objects = [], []
        for _ in range(25):
            x, y = random.integers((left, top), (right - 4, bottom - 4))
            box = (x, y, random.integers(x + 1, right + 1), random.integers(y + 1, bottom + 1))
            score = random.uniform(0.1, 0.9)
            if objects and random.random() < 0.5:
                owner = random.choice(objects)
                rows.append((f"{rows[owner][0]} {random.choice(['x', 'y'])}", score, box, int(owner)))
            else:
                objects.append(len(rows))
                rows.append((random.choice(["car", "van"]), score, box, None))
        return seen(rows, window)

    whole, views = answer((0, 0, 200, 100)), [View(window, answer(window)) for window in (LEFT, RIGHT)]
    found = merge_views(whole, views)
    before = [*whole, *views[0].prediction, *views[1].prediction]
    assert 0 < len(found) < len(before)
    assert found.scores.max() <= max(item.score for item in before)
    for item in found:
        assert item.parent is None or item.path[:-1] == found[item.parent].path
        left, top, width, height = coco_mask.toBbox(item.rle)
        assert item.box == (left, top, left + width, top + height)
        assert encode(item.mask) == item.rle
