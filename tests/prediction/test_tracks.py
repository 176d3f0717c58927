"""Things followed from frame to frame."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from langhops_cli.prediction.results import Detection, Prediction
from langhops_cli.prediction.tracks import Silhouette, Tracker, assign, distances, overlaps

SIZE = (80, 240)


def mask(left, top, right, bottom):
    pixels = np.zeros(SIZE, dtype=bool)
    pixels[max(0, top) : bottom, max(0, left) : right] = True
    return pixels


def thing(path, box, parent=None):
    names = tuple(path.split("/"))
    return Detection.from_mask(names, 0.5, mask(*box), parent=parent)


def frame(number, *things):
    return Prediction(f"clip.mp4#{number}", SIZE, things, frame=number, seconds=number / 25)


def tracks(prediction):
    return [found.track for found in prediction]


def square(left, top=10, side=20):
    return left, top, left + side, top + side


def everything(tracker, frames):
    return [tracker.update(one) for one in frames]


@pytest.mark.parametrize("seed", range(12))
def test_pairs_have_the_greatest_sum_of_all_ways_to_pair(seed):
    random = np.random.default_rng(seed)
    rows, columns = random.integers(0, 5, 2)
    values = random.random((rows, columns)).round(1) * (random.random((rows, columns)) < 0.6) - 0.05
    best = 0.0
    for count in range(min(rows, columns) + 1):
        for chosen in itertools.combinations(range(rows), count):
            for others in itertools.permutations(range(columns), count):
                worth = [values[pair] for pair in zip(chosen, others, strict=True)]
                if all(value > 0 for value in worth):
                    best = max(best, sum(worth))
    pairs = assign(values)
    assert sum(values[pair] for pair in pairs) == pytest.approx(best)
    assert all(values[pair] > 0 for pair in pairs)
    assert len({row for row, _ in pairs}) == len({column for _, column in pairs}) == len(pairs)


def test_overlaps_and_distances_of_moved_masks_are_those_of_whole_pictures():
    random = np.random.default_rng(3)
    margin = 40
    blobs = []
    for _ in range(8):
        pixels = np.zeros(SIZE, dtype=bool)
        top, left = random.integers(0, 60), random.integers(0, 200)
        pixels[top : top + 30, left : left + 50] = random.random(pixels[top : top + 30, left : left + 50].shape) < 0.6
        blobs.append(pixels)
    shapes = [Silhouette.of(Detection.from_mask(("dog",), 0.5, pixels)) for pixels in blobs]
    moves = random.integers(-30, 30, (5, 2))
    found = overlaps(shapes[:5], shapes[3:], moves)
    apart = distances(shapes[:5], shapes[3:], moves)
    for row, column in np.ndindex(5, 5):
        (across, down), wide = moves[row], np.pad(blobs[row], margin)
        moved, other = np.roll(wide, (down, across), (0, 1)), np.pad(blobs[column + 3], margin)
        assert found[row, column] == pytest.approx((moved & other).sum() / (moved | other).sum())
        centres = [np.argwhere(one).mean(axis=0) for one in (moved, other)]
        assert apart[row, column] == pytest.approx(np.linalg.norm(centres[0] - centres[1]))
    assert overlaps([], shapes, np.zeros((0, 2))).shape == (0, 8)


def test_a_prediction_keeps_all_but_the_tracks():
    before = frame(7, thing("dog", square(0)), thing("dog/head", square(0, side=8), parent=0))
    after = Tracker().update(before)
    assert tracks(after) == [0, 1]
    assert (after.picture, after.size, after.frame, after.seconds) == ("clip.mp4#7", SIZE, 7, 7 / 25)
    assert [(d.path, d.score, d.rle, d.box, d.parent) for d in after] == [
        (d.path, d.score, d.rle, d.box, d.parent) for d in before
    ]
    assert tracks(before) == [None, None]


def test_two_alike_keep_their_numbers_when_they_cross():
    """Where they meet each lies where the other was: only their speed tells them apart."""
    tracker = Tracker()
    lefts = [(20 + 9 * step, 120 - 9 * step) for step in range(12)]
    for step, (first, second) in enumerate(lefts):
        order = [first, second] if step % 2 else [second, first]
        found = tracker.update(frame(step, *(thing("dog", square(left)) for left in order)))
        numbers = dict(zip(order, tracks(found), strict=True))
        if step == 0:
            names = numbers[first], numbers[second]
        if first != second:
            assert (numbers[first], numbers[second]) == names


def test_on_a_belt_each_follows_itself_though_the_next_takes_its_place():
    tracker = Tracker()
    numbers = []
    for step in range(10):
        # The belt gets faster, until a bottle stands nearly where the one before it stood.
        start = 4 * step + step * step // 3
        found = tracker.update(frame(step, *(thing("cup", square(start + 30 * place)) for place in range(4))))
        numbers.append(tracks(found))
    assert numbers == [[0, 1, 2, 3]] * 10


def test_another_name_is_another_thing():
    tracker = Tracker()
    assert tracks(tracker.update(frame(0, thing("dog", square(0))))) == [0]
    assert tracks(tracker.update(frame(1, thing("cat", square(0))))) == [1]
    assert tracks(tracker.update(frame(2, thing("cat", square(0)), thing("dog", square(1))))) == [1, 0]


@pytest.mark.parametrize(("gap", "same"), [(0, True), (1, True), (4, True), (5, False), (9, False)])
def test_a_thing_may_be_missing_for_as_long_as_patience_lasts(gap, same):
    tracker = Tracker(patience=4)
    moving = [thing("dog", square(10 + 4 * step)) for step in range(20)]
    everything(tracker, [frame(step, moving[step], thing("cat", square(200))) for step in range(3)])
    everything(tracker, [frame(3 + step, thing("cat", square(200))) for step in range(gap)])
    found = tracker.update(frame(3 + gap, moving[3 + gap], thing("cat", square(200))))
    assert tracks(found) == [0 if same else 2, 1]


def test_what_was_just_seen_goes_before_what_is_missing():
    """A doubled detection must not take the number over when it is gone."""
    tracker = Tracker()
    dog = square(50)
    assert tracks(tracker.update(frame(0, thing("dog", dog)))) == [0]
    assert tracks(tracker.update(frame(1, thing("dog", dog), thing("dog", (50, 10, 68, 30))))) == [0, 1]
    assert tracks(tracker.update(frame(2, thing("dog", dog)))) == [0]
    assert tracks(tracker.update(frame(3, thing("dog", (50, 10, 69, 30))))) == [0]


def test_what_was_just_seen_goes_before_what_fits_better_but_is_missing():
    tracker = Tracker()
    everything(
        tracker, [frame(0, thing("dog", square(50)), thing("dog", square(56))), frame(1, thing("dog", square(50)))]
    )
    assert tracks(tracker.update(frame(2, thing("dog", square(55))))) == [0]


def test_a_thing_that_stops_at_once_is_still_the_same():
    tracker = Tracker()
    # Carried on it would be 13 further: 7 of 33 columns in common, below the limit.
    lefts = [0, 10, 24, 38, 52, 66, 80, 80, 80]
    assert [tracks(tracker.update(frame(n, thing("dog", square(left))))) for n, left in enumerate(lefts)] == [[0]] * 9


def test_trembling_masks_do_not_spoil_the_speed():
    """Two columns a frame, three to either side by turns; then six frames hidden."""
    tracker = Tracker()
    for step in range(20):
        tracker.update(frame(step, thing("dog", square(20 + 2 * step + 3 * (-1) ** step))))
    everything(tracker, [frame(step) for step in range(20, 26)])
    assert tracks(tracker.update(frame(26, thing("dog", square(20 + 2 * 26))))) == [0]


def test_numbers_never_come_again():
    tracker = Tracker(patience=0)
    seen = []
    for step in range(6):
        seen += tracks(tracker.update(frame(step, thing("dog", square(30 * step)))))
        tracker.update(frame(step))
    assert seen == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(("shift", "same"), [(6, True), (10, True), (11, False)])
def test_the_least_overlap_decides(shift, same):
    """Two squares of side 20 shifted by 10 share 200 of 600 pixels."""
    tracker = Tracker(min_iou=1 / 3)
    tracker.update(frame(0, thing("dog", square(0))))
    assert tracks(tracker.update(frame(1, thing("dog", square(shift))))) == [0 if same else 1]


def car(left, number=0):
    """A car with two wheels, which stand as far apart as it drives in a frame."""
    wheels = (thing("car/wheel", square(left + at, 40, 12), parent=number) for at in (6, 30))
    return thing("car", (left, 15, left + 60, 50)), *wheels


def test_wheels_stay_with_a_car_that_drives_on_by_the_distance_between_them():
    tracker = Tracker()
    for step in range(6):
        assert tracks(tracker.update(frame(step, *car(5 + 24 * step)))) == [0, 1, 2], step


def test_parts_belong_to_the_track_of_their_object():
    tracker = Tracker()
    head = square(12, 12, 6)
    dog, other = square(10), (10, 40, 30, 60)
    assert tracks(tracker.update(frame(0, thing("dog", dog), thing("dog/head", head, parent=0)))) == [0, 1]
    # The same pixels as the head of another dog are another head.
    both = thing("dog", other), thing("dog", dog), thing("dog/head", head, parent=0), thing("dog/tail", head, parent=1)
    assert tracks(tracker.update(frame(1, *both))) == [2, 0, 3, 4]
    assert tracks(tracker.update(frame(2, thing("dog", dog), thing("dog/head", head, parent=0)))) == [0, 1]


def test_parts_of_parts_are_followed():
    tracker = Tracker()

    def dog(left):
        return (
            thing("dog/head/ear", (left + 3, 12, left + 6, 15), parent=2),
            thing("dog", square(left, side=30)),
            thing("dog/head", square(left + 2, 12, 10), parent=1),
            thing("dog/head/ear", (left + 8, 12, left + 11, 15), parent=2),
        )

    assert [tracks(tracker.update(frame(step, *dog(10 + 5 * step)))) for step in range(4)] == [[2, 0, 1, 3]] * 4


def test_a_tiny_part_that_trembles_is_the_same_but_not_one_far_away():
    tracker = Tracker()
    face = square(20, 10, 60)

    def eye(left):
        return thing("face/eye", (left, 30, left + 3, 33), parent=0)

    assert tracks(tracker.update(frame(0, thing("face", face), eye(30)))) == [0, 1]
    assert tracks(tracker.update(frame(1, thing("face", face), eye(34)))) == [0, 1]
    assert tracks(tracker.update(frame(2, thing("face", face), eye(60)))) == [0, 2]
    assert tracks(tracker.update(frame(3, thing("face", face), eye(61), eye(33)))) == [0, 2, 1]


def test_what_lies_where_nothing_was_is_new_and_an_empty_frame_is_fine():
    tracker = Tracker()
    assert tracks(tracker.update(frame(0))) == []
    assert tracks(tracker.update(frame(1, thing("dog", square(0))))) == [0]
    assert tracks(tracker.update(frame(2, thing("dog", square(0)), thing("dog", square(100))))) == [0, 1]


def walk(seed, length=30):
    """Dogs with heads that walk about, vanish at times and come in any order; with who they are."""
    random = np.random.default_rng(seed)
    places = np.array([20.0 + 55 * dog for dog in range(4)])
    pace = random.uniform(-1, 1, 4)
    for step in range(length):
        pace = (pace + random.normal(0, 0.4, 4)).clip(-3, 3)
        places = (places + pace).clip([5 + 55 * dog for dog in range(4)], [30 + 55 * dog for dog in range(4)])
        things, names = [], []
        for dog in random.permutation(4):
            if random.random() < 0.15:
                continue
            left = int(places[dog])
            things.append(thing("dog", square(left, 20)))
            names.append(("dog", dog))
            if random.random() < 0.8:
                things.append(thing("dog/head", square(left + 2, 22, 8), parent=len(things) - 1))
                names.append(("head", dog))
        yield frame(step, *things), names


@pytest.mark.parametrize("seed", range(4))
def test_every_thing_keeps_one_number_through_a_long_walk(seed):
    tracker = Tracker()
    pairs = set()
    for one, names in walk(seed):
        pairs |= set(zip(names, tracks(tracker.update(one)), strict=True))
    assert len(pairs) == len({name for name, _ in pairs}) == len({number for _, number in pairs}) == 8


@pytest.mark.parametrize("cut", [0, 1, 7, 15, 29])
def test_a_resumed_tracker_goes_on_as_if_it_had_never_stopped(cut):
    frames = [one for one, _ in walk(1)] + [frame(30, thing("dog", square(100)), thing("cat", square(3)))]
    whole = everything(Tracker(patience=2), frames)
    resumed = Tracker(patience=2)
    resumed.resume(iter(whole[:cut]))
    assert everything(resumed, frames[cut:]) == whole[cut:]


def test_forgotten_numbers_do_not_come_again_after_resuming():
    first = Tracker(patience=1)
    done = everything(first, [frame(0, thing("dog", square(0)), thing("cat", square(100))), frame(1), frame(2)])
    resumed = Tracker(patience=1)
    resumed.resume(done)
    assert tracks(resumed.update(frame(3, thing("dog", square(0))))) == [2]


def test_what_was_never_tracked_cannot_be_resumed():
    with pytest.raises(ValueError, match=r"clip.mp4#4: its instances have no tracks"):
        Tracker().resume([frame(4, thing("dog", square(0)))])


@pytest.mark.parametrize("wrong", [{"min_iou": 0}, {"min_iou": 1.1}, {"patience": -1}])
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Tracker(**wrong)
