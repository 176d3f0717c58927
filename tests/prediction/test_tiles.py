"""Windows over large pictures: what is cut is joined, what is seen twice is taken once, parts follow their objects.

The oracle is a predictor that sees perfectly, if not finely: it reads the answer off the picture's own colours.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from langhops_cli.checkpoint.build import build_model
from langhops_cli.model.configuration import ModelConfig, PreprocessingConfig
from langhops_cli.prediction.predictor import Predictor
from langhops_cli.prediction.results import Detection, Prediction
from langhops_cli.prediction.tiles import predict_tiled, windows
from langhops_cli.prediction.views import placed

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
    """Ellipses from 10 to 250 pixels that do not touch, in parts of 28 pixels, some of which have a part themselves."""
    random = np.random.default_rng(seed)
    pixels = np.zeros((*size, 3), dtype=np.uint8)
    rows, columns = np.indices(size)
    cells = rows // 28 * (size[1] // 28 + 1) + columns // 28 + 1
    for number in range(1, things + 1):
        centre = random.integers((0, 0), size)
        radii = 2 ** random.uniform(2.5, 7, 2)
        mask = ellipse(size, centre, radii)
        if not (ellipse(size, centre, radii + 6) & (pixels[..., 0] > 0)).any():
            pixels[..., 0][mask] = number
            for cell in np.unique(cells[mask]):
                part = mask & (cells == cell)
                if np.count_nonzero(part) > 250:  # no slivers, which a coarse eye takes for something else
                    pixels[..., 1][part] = cell
                if np.count_nonzero(part & (columns % 28 < 14)) > 250:
                    pixels[..., 2][part & (columns % 28 < 14)] = 1
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
    assert {len(item.path) for item in truth} >= {1, 2}
    assert masks_with_parents(coarse) != masks_with_parents(truth)
    assert masks_with_parents(tiled) == masks_with_parents(truth)


@pytest.mark.parametrize(("tile", "overlap", "batch"), [(64, 0.5, 3), (220, 0.15, 1), (90, 0.6, 50)])
def test_the_cut_does_not_matter(tile, overlap, batch):
    picture = painted(3)
    truth = Seer(sees=10_000).predict(picture, "")
    tiled = predict_tiled(Seer(sees=max(tile, 128)), picture, "", tile=tile, overlap=overlap, batch_size=batch)
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
