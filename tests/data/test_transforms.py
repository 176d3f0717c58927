from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from langhops_cli.data.sample import Sample, SampleInstance, box_of
from langhops_cli.data.transforms import fit, flip, jitter_colour, jitter_crop, resize_sample
from langhops_cli.vocabulary import parse_vocabulary


def _masks(sample: Sample) -> list[np.ndarray]:
    masks = [item.mask for item in (*sample.objects, *sample.parts)]
    assert all(mask is not None for mask in masks)
    return [mask for mask in masks if mask is not None]


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((480, 640), (320, 427)),
        ((640, 480), (427, 320)),
        ((100, 1000), (51, 512)),
        ((1, 1), (320, 320)),
        ((50, 8000), (3, 512)),
    ],
)
def test_fit_keeps_the_shape_within_both_limits(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert fit(size, 320, 512) == expected


def test_a_flip_mirrors_pixels_masks_and_boxes(car_sample: Sample) -> None:
    flipped = flip(car_sample)
    np.testing.assert_array_equal(np.asarray(flipped.image), np.asarray(car_sample.image)[:, ::-1])
    for before, after in zip(_masks(car_sample), _masks(flipped), strict=True):
        np.testing.assert_array_equal(after, before[:, ::-1])
    for item in (*flipped.objects, *flipped.parts):
        assert item.mask is not None
        assert item.box == box_of(item.mask)


def test_a_flip_turns_left_into_right_where_both_names_are_known(car_sample: Sample) -> None:
    sample = replace(car_sample, unsure_parts=frozenset({0, 2}), unsure_objects=frozenset({1}))
    flipped = flip(sample)
    names = [flipped.vocabulary.part_classes[item.label].name for item in flipped.parts]
    assert names == ["right door", "wheel"]
    assert flipped.unsure_parts == {1, 2}
    assert [item.label for item in flipped.objects] == [1, 0], "there is no right shoe to become"
    assert flipped.unsure_objects == {1}
    assert [item.parent for item in flipped.parts] == [1, 1]


def test_flipping_twice_gives_the_sample_back(car_sample: Sample) -> None:
    twice = flip(flip(car_sample))
    np.testing.assert_array_equal(np.asarray(twice.image), np.asarray(car_sample.image))
    for before, after in zip((*car_sample.objects, *car_sample.parts), (*twice.objects, *twice.parts), strict=True):
        assert (after.label, after.box, after.parent) == (before.label, before.box, before.parent)


def test_a_flip_swaps_sides_along_the_whole_path(car_sample: Sample) -> None:
    vocabulary = parse_vocabulary("person:left arm(left hand),right arm(right hand),bright spot")
    item = car_sample.parts[0]
    parts = [replace(item, label=label) for label in range(5)]
    flipped = flip(replace(car_sample, vocabulary=vocabulary, objects=[], parts=parts))
    assert [part.label for part in flipped.parts] == [2, 3, 0, 1, 4]


def test_a_window_is_cut_exactly(car_sample: Sample) -> None:
    cut = resize_sample(car_sample, 30, 40, window=(10, 5, 35, 25))
    np.testing.assert_array_equal(np.asarray(cut.image), np.asarray(car_sample.image)[5:25, 10:35])
    assert [item.label for item in cut.objects] == [0], "the shoe is outside"
    assert [item.parent for item in cut.parts] == [0, 0], "the car moved to the first place"
    for item, before in zip((*cut.objects, *cut.parts), (car_sample.objects[1], *car_sample.parts), strict=True):
        assert item.mask is not None
        assert before.mask is not None
        np.testing.assert_array_equal(item.mask, before.mask[5:25, 10:35])
        assert item.box == box_of(item.mask)


def test_resizing_keeps_masks_on_their_pixels(car_sample: Sample) -> None:
    """A white object on black: wherever the mask is set the picture is white, at any scale and place."""
    mask = np.zeros((30, 40), np.uint8)
    mask[8:22, 10:30] = 1
    image = Image.fromarray(np.repeat(mask[..., None] * 255, 3, axis=2))
    sample = replace(car_sample, image=image, objects=[SampleInstance(0, mask, box_of(mask))], parts=[])
    for height, width, window in ((60, 80, None), (15, 20, None), (45, 60, (7, 3, 50, 40)), (96, 31, (0, 10, 31, 90))):
        moved = resize_sample(sample, height, width, window=window)
        (found,) = _masks(moved)
        white = np.asarray(moved.image)[..., 0] > 127
        assert found.shape == white.shape
        edge = found.any(0).sum() * 2 + found.any(1).sum() * 2
        assert (found.astype(bool) != white).sum() <= edge / 4


def test_what_is_almost_cut_off_is_dropped_and_its_parts_lose_their_parent(car_sample: Sample) -> None:
    # Of the left door, 10 columns wide, one column of 10 pixels stays: fewer than 16; of the car and the wheel more.
    cut = resize_sample(car_sample, 30, 40, window=(15, 0, 40, 30))
    assert [item.label for item in cut.parts] == [2]
    # Of the car a corner of 2 x 6 pixels stays, of the wheel nothing.
    parts = [replace(car_sample.parts[0], mask=np.ones((30, 40), np.uint8), box=(0, 0, 40, 30))]
    cut = resize_sample(replace(car_sample, parts=parts), 30, 40, window=(32, 0, 40, 10))
    assert cut.objects == []
    assert [item.parent for item in cut.parts] == [-1]


def test_boxes_without_masks_move_with_the_picture(car_sample: Sample) -> None:
    item = SampleInstance(0, None, (10, 10, 30, 20))
    moved = resize_sample(replace(car_sample, objects=[item], parts=[]), 60, 80, window=(30, 10, 80, 60))
    assert moved.objects[0].box == (0, 10, 30, 30)
    assert flip(moved).objects[0].box == (20, 10, 50, 30)
    gone = resize_sample(replace(car_sample, objects=[item], parts=[]), 60, 80, window=(70, 10, 80, 60))
    assert gone.objects == []


@pytest.mark.parametrize("scale", [0.1, 0.6, 1.0, 1.6, 2.0])
def test_jitter_fills_at_most_the_canvas_and_repeats_with_the_seed(car_sample: Sample, scale: float) -> None:
    first, second = (
        jitter_crop(car_sample, size=64, scale=scale, generator=np.random.default_rng(5)) for _ in range(2)
    )
    np.testing.assert_array_equal(np.asarray(first.image), np.asarray(second.image))
    assert max(first.size) == min(64, max(8, round(64 * scale)))
    for item in (*first.objects, *first.parts):
        assert item.mask is not None
        assert item.mask.shape == first.size
        assert item.mask.sum() >= 16
        assert item.box == box_of(item.mask)


@pytest.mark.parametrize("size", [(1, 1), (8000, 50)])
def test_jitter_takes_extreme_shapes(car_sample: Sample, size: tuple[int, int]) -> None:
    sample = replace(car_sample, image=Image.new("RGB", size), objects=[], parts=[])
    for scale in (0.1, 2.0):
        moved = jitter_crop(sample, size=64, scale=scale, generator=np.random.default_rng(0))
        assert min(moved.size) >= 6
        assert max(moved.size) <= 64


def test_colours_change_with_the_draw_and_nothing_else_does(car_sample: Sample) -> None:
    changed = jitter_colour(car_sample, strength=0.4, generator=np.random.default_rng(1))
    assert (np.asarray(changed.image) != np.asarray(car_sample.image)).mean() > 0.5
    assert changed.parts == car_sample.parts
    assert jitter_colour(car_sample, strength=0, generator=np.random.default_rng(1)) is car_sample
