"""Windows over large pictures: what is cut is joined, what is seen twice is taken once, parts follow their objects.

The oracle is a predictor that sees perfectly, if not finely: it reads the answer off the picture's own colours.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask

from langhops_cli.checkpoint.build import build_model
from langhops_cli.model.configuration import ModelConfig, PreprocessingConfig
from langhops_cli.prediction.predictor import Predictor
from langhops_cli.prediction.results import Detection, Prediction, encode
from langhops_cli.prediction.tiles import predict_tiled, windows
from langhops_cli.prediction.views import View, merge_views, placed

NAMES = ("car", "person", "boat")


class Seer:
    """Sees every object and part that a picture is painted with, at 128 pixels at most.

    Red holds the number of the object, green that of the part of it, blue that of the part of the part; 0 is nothing.
    """

    def __init__(self, sees=128):
        self.sees = sees
        self.asked = []

    def predict(self, image, vocabulary, *, name=None, level="all", max_objects=None, **options):
        self.asked.append((image.size, level, max_objects))
        scale = min(1.0, self.sees / max(image.size))
        coarse = image.resize([max(1, round(side * scale)) for side in image.size], Image.Resampling.NEAREST)
        pixels = np.asarray(coarse.resize(image.size, Image.Resampling.NEAREST)).astype(int)
        found = []
        for thing in np.unique(pixels[..., 0][pixels[..., 0] > 0]):
            mask = pixels[..., 0] == thing
            self._grow(pixels, mask, (NAMES[thing % len(NAMES)],), None, found, deeper=level != "object")
        order = sorted(found, key=lambda item: item.level != "object")
        place = {id(item): number for number, item in enumerate(order)}
        moved = [replace(x, parent=None if x.parent is None else place[id(found[x.parent])]) for x in order]
        return Prediction(name or "", (image.height, image.width), tuple(moved))

    def predict_batch(self, images, vocabulary, **options):
        return [self.predict(image, vocabulary, **options) for image in images]

    def _grow(self, pixels, mask, path, parent, found, *, deeper):
        # A larger view of a thing is a surer one.
        score = min(0.99, 0.3 + np.count_nonzero(mask) / mask.size)
        found.append(Detection.from_mask(path, score, mask, parent=parent))
        here = len(found) - 1
        if deeper and len(path) < 3:
            values = pixels[..., len(path)]
            for part in np.unique(values[mask & (values > 0)]):
                self._grow(pixels, mask & (values == part), (*path, f"p{part % 4}"), here, found, deeper=True)


def ellipse(size, centre, radii):
    rows, columns = np.ogrid[: size[0], : size[1]]
    return ((rows - centre[0]) / radii[0]) ** 2 + ((columns - centre[1]) / radii[1]) ** 2 <= 1


def painted(seed, size=(250, 350), things=20):
    """Ellipses from 10 to 250 pixels that do not touch, each in up to 4 parts, large ones' parts in up to 4."""
    random = np.random.default_rng(seed)
    pixels = np.zeros((*size, 3), dtype=np.uint8)
    for number in range(1, things + 1):
        centre = random.integers((0, 0), size)
        radii = 2 ** random.uniform(2.5, 7, 2)
        mask = ellipse(size, centre, radii)
        if not (ellipse(size, centre, radii + 6) & (pixels[..., 0] > 0)).any():
            pixels[..., 0][mask] = number
            rows, columns = np.nonzero(mask)
            across, down = columns > centre[1], rows > centre[0]
            if len(rows) > 600:
                pixels[..., 1][mask] = 1 + across + 2 * down
            if len(rows) > 1500:
                pixels[..., 2][mask] = 1 + (columns > centre[1] + radii[1] / 2) + 2 * (rows > centre[0] + radii[0] / 2)
    return Image.fromarray(pixels)


def masks_with_parents(prediction):
    """What a prediction says, whatever the order and the scores."""

    def key(found):
        return found.path, found.rle["counts"]

    return sorted((*key(x), () if x.parent is None else key(prediction[x.parent])) for x in prediction)


@pytest.mark.parametrize("size", [(300, 500), (64, 65), (1000, 70), (257, 256), (31, 900)])
@pytest.mark.parametrize(("tile", "overlap"), [(64, 0.25), (100, 0.05), (128, 0.75), (256, 0.5)])
def test_windows_cover_every_pixel_and_overlap_enough(size, tile, overlap):
    places = windows(size, tile=tile, overlap=overlap)
    covered = np.zeros(size, dtype=int)
    for left, top, right, bottom in places:
        assert (bottom - top, right - left) == (min(tile, size[0]), min(tile, size[1]))
        covered[top:bottom, left:right] += 1
    assert covered.shape == size and covered.min() == 1
    for axis in (0, 1):
        starts = sorted({place[axis] for place in places})
        steps = np.diff(starts)
        assert not len(steps) or (steps.max() - steps.min() <= 1 and steps.max() <= tile * (1 - overlap) + 1)
        needed = max(0, size[1 - axis] - tile) / (tile * (1 - overlap))
        assert len(starts) == int(np.ceil(needed)) + 1


@pytest.mark.parametrize(("tile", "overlap"), [(63, 0.25), (0, 0.25), (256, 0.0), (256, 0.8)])
def test_windows_out_of_range_are_refused(tile, overlap):
    with pytest.raises(ValueError, match="must be"):
        windows((500, 500), tile=tile, overlap=overlap)


@pytest.mark.parametrize("seed", range(20))
def test_a_mask_of_a_window_lands_in_the_picture_bit_by_bit(seed):
    random = np.random.default_rng(seed)
    size = random.integers(5, 60, 2)
    low = random.integers(0, size)
    high = random.integers(low + 1, size + 1)
    if seed < 5:  # the whole height: runs go on from one column into the next
        low[0], high[0] = 0, size[0]
    mask = random.random(high - low) < random.choice([0.1, 0.9, 1.0])
    mask[0, 0] = True
    window = (int(low[1]), int(low[0]), int(high[1]), int(high[0]))
    whole = np.zeros(size, dtype=bool)
    whole[low[0] : high[0], low[1] : high[1]] = mask
    wanted = Detection.from_mask(("car",), 0.5, whole)
    found = placed(Detection.from_mask(("car",), 0.5, mask), window, tuple(map(int, size)))
    assert found == wanted


@pytest.mark.parametrize("seed", range(8))
def test_windows_give_what_a_perfect_eye_sees_in_the_whole_picture(seed):
    picture = painted(seed)
    truth = Seer(sees=10_000).predict(picture, "")
    coarse = Seer().predict(picture, "")
    tiled = predict_tiled(Seer(), picture, "", tile=128)
    assert {len(item.path) for item in truth} == {1, 2, 3}
    assert masks_with_parents(coarse) != masks_with_parents(truth)
    assert masks_with_parents(tiled) == masks_with_parents(truth)


@pytest.mark.parametrize(("tile", "overlap", "batch"), [(64, 0.25, 3), (128, 0.1, 1), (90, 0.6, 50)])
def test_the_cut_does_not_matter(tile, overlap, batch):
    picture = painted(3)
    truth = Seer(sees=10_000).predict(picture, "")
    tiled = predict_tiled(Seer(), picture, "", tile=tile, overlap=overlap, batch_size=batch)
    assert masks_with_parents(tiled) == masks_with_parents(truth)


def test_objects_come_first_each_level_best_first():
    tiled = predict_tiled(Seer(), painted(1), "", tile=128)
    levels = [item.level for item in tiled]
    objects = levels.count("object")
    assert levels == ["object"] * objects + ["part"] * (len(tiled) - objects)
    for group in (tiled.scores[:objects], tiled.scores[objects:]):
        assert (np.diff(group) <= 0).all() and len(group) > 3


def test_a_picture_that_fits_into_a_window_is_predicted_plainly():
    seer = Seer()
    picture = painted(0, size=(100, 128), things=5)
    tiled = predict_tiled(seer, picture, "", tile=128, name="a.png", level="object", max_objects=2)
    assert seer.asked == [((128, 100), "object", 2)]
    assert tiled.picture == "a.png"


def test_levels_and_most_objects():
    picture = painted(2)
    everything = predict_tiled(Seer(), picture, "", tile=128)
    objects = predict_tiled(Seer(), picture, "", tile=128, level="object")
    parts = predict_tiled(Seer(), picture, "", tile=128, level="part")
    best = predict_tiled(Seer(), picture, "", tile=128, max_objects=2)
    own = everything.children(None)
    bare = {everything[index].rle["counts"] for index in own if not everything.children(index)}
    assert {x.rle["counts"] for x in objects} == {everything[i].rle["counts"] for i in own}
    assert all(item.level == "object" for item in objects)
    assert bare and {x.rle["counts"] for x in everything} - {x.rle["counts"] for x in parts} == bare
    assert [best[i].rle for i in best.children(None)] == [everything[i].rle for i in own[:2]]
    assert any(item.level == "part" for item in best)


def test_a_path_names_the_result(tmp_path):
    painted(0).save(tmp_path / "a.png")
    assert predict_tiled(Seer(), tmp_path / "a.png", "", tile=128).picture == str(tmp_path / "a.png")
    assert predict_tiled(Seer(), painted(0), "", tile=128).picture == ""


@pytest.mark.parametrize("wrong", [{"tile": 10}, {"tile": 100, "batch_size": 0}, {"tile": 100, "max_objects": 0}])
def test_numbers_out_of_range_are_refused_before_the_model_is_asked(wrong):
    seer = Seer()
    with pytest.raises(ValueError, match=r"must be at least|must be 1"):
        predict_tiled(seer, painted(0), "", **wrong)
    assert not seer.asked


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


def test_a_real_model_in_windows():
    torch.manual_seed(0)
    mini = ModelConfig.preset("mini")
    small = replace(mini.decoder, dim=32, feedforward=32, heads=4, encoder_layers=1, object_layers=1, part_layers=1)
    config = replace(
        mini,
        decoder=replace(small, num_queries=12),
        hierarchy=replace(mini.hierarchy, num_kept=3),
        preprocessing=PreprocessingConfig(shortest=64, longest=128),
    )
    predictor = Predictor(model=build_model(config, pretrained=False), config=config)
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (150, 200, 3), dtype=np.uint8))
    one, many = (
        predict_tiled(predictor, picture, "dog:head(ear),leg*2; car:wheel", tile=96, min_score=0.0, batch_size=size)
        for size in (1, 4)
    )
    assert one.size == (150, 200)
    assert {len(item.path) for item in one} >= {1, 2}
    assert [x.path for x in one.instances[:3]] == [x.path for x in many.instances[:3]]
