from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from langhops_cli.prediction.colours import colours_of, ink_on
from langhops_cli.prediction.draw import draw_overlay, overlay_size
from langhops_cli.prediction.fonts import font_for, text_box
from langhops_cli.prediction.labels import Label, write_labels
from langhops_cli.prediction.results import Detection, Prediction

GREY = (128, 128, 128)


def scene(width, height, object_name="dog", part_name="head"):
    size = (height, width)
    everything = np.ones(size, dtype=bool)
    corner = np.zeros(size, dtype=bool)
    corner[: max(1, height // 2), : max(1, width // 2)] = True
    items = (
        Detection.from_mask((object_name,), 0.9, everything),
        Detection.from_mask((object_name, part_name), 0.8, corner, parent=0),
    )
    return Image.new("RGB", (width, height), GREY), Prediction("p.jpg", size, items)


NAMES = ["dog", "犬の頭", "a very long name " * 20, "naïve café ☂ 🐕", "العين", "x\ny\t"]
SIZES = [(1, 1), (3, 2), (1, 300), (50, 3000), (640, 480)]
HUGE = [(8000, 50), (70_000, 1)]


@pytest.mark.parametrize(
    ("size", "name"), [(size, name) for size in SIZES for name in NAMES] + [(size, "dog") for size in HUGE]
)
def test_any_size_and_any_name(size, name):
    image, prediction = scene(*size, object_name=name, part_name=name)
    drawn = draw_overlay(image, prediction)
    assert drawn.mode == "RGB"
    assert drawn.size == overlay_size(size)
    assert np.asarray(image).min() == GREY[0], "the picture itself is left alone"


def test_part_is_filled_and_the_rest_is_left():
    size = (400, 600)
    mask = np.zeros(size, dtype=bool)
    mask[150:350, 50:250] = True
    whole = np.zeros(size, dtype=bool)
    whole[100:380, 30:570] = True
    items = (
        Detection.from_mask(("dog",), 0.9, whole),
        Detection.from_mask(("dog", "head"), 0.8, mask, parent=0),
    )
    drawn = np.asarray(draw_overlay(Image.new("RGB", (600, 400), GREY), Prediction("p", size, items)))
    colours = colours_of(["dog", "head"])
    inside = drawn[330, 60].astype(int)
    towards = np.asarray(colours["head"]) - 128
    assert np.abs(inside - (128 + 0.46 * towards)).max() <= 2, "translucent: the picture shows through"
    assert tuple(drawn[240, 450]) == GREY, "the body of an object with parts stays clear"
    assert tuple(drawn[20, 590]) == GREY, "outside nothing changes"
    edge = drawn[240, 568:573].astype(int)
    assert np.abs(edge - np.asarray(colours["dog"])).sum(axis=1).min() < 80, "the object is outlined"


def test_object_without_parts_is_tinted():
    mask = np.zeros((300, 600), dtype=bool)
    mask[50:250, 100:500] = True
    prediction = Prediction("p", (300, 600), (Detection.from_mask(("dog",), 0.9, mask),))
    drawn = np.asarray(draw_overlay(Image.new("RGB", (600, 300), GREY), prediction))
    assert tuple(drawn[150, 300]) != GREY


def test_picture_of_another_size_is_refused():
    _, prediction = scene(20, 10)
    with pytest.raises(ValueError, match="10 x 20, the prediction is of one of 20 x 10"):
        draw_overlay(Image.new("RGB", (10, 20)), prediction)


def test_nothing_found_leaves_the_picture_as_it_is():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (500, 400, 3), dtype=np.uint8))
    assert np.array_equal(np.asarray(draw_overlay(image, Prediction("p", (500, 400)))), np.asarray(image))


@pytest.mark.parametrize(
    ("size", "drawn"),
    [((640, 480), (640, 480)), ((8000, 50), (8000, 50)), ((1, 1), (4, 4)), ((200, 200), (400, 400))],
)
def test_size_of_the_overlay(size, drawn):
    assert overlay_size(size) == drawn


def test_large_pictures_are_drawn_smaller_in_the_same_shape():
    width, height = overlay_size((6000, 4000))
    assert width * height <= 2_502_000
    assert width / height == pytest.approx(1.5, rel=0.01)


def test_labels_stay_inside_and_apart():
    image = Image.new("RGB", (400, 300), GREY)
    labels = [Label(f"part {n}", (255, 0, 0), (200.0 + n % 3, 150.0), strong=n % 2 == 0) for n in range(30)]
    labels += [Label("corner", (0, 0, 255), corner) for corner in [(0.0, 0.0), (400.0, 300.0), (0.0, 300.0)]]
    taken = write_labels(image, labels, text_size=12)
    assert len(taken) >= 25
    for index, (left, top, right, bottom) in enumerate(taken):
        assert left >= 0
        assert top >= 0
        assert right <= 400
        assert bottom <= 300
        for other in taken[:index]:
            assert right <= other[0] or other[2] <= left or bottom <= other[1] or other[3] <= top


def test_label_that_does_not_fit_is_shortened_or_left_out():
    narrow = Image.new("RGB", (70, 40), GREY)
    ((left, _, right, _),) = write_labels(narrow, [Label("a very long name", (255, 0, 0), (35, 20))], text_size=12)
    assert right - left <= 70
    assert write_labels(Image.new("RGB", (70, 5)), [Label("name", (255, 0, 0), (35, 2))], text_size=12) == []
    assert write_labels(Image.new("RGB", (4, 40)), [Label("name", (255, 0, 0), (2, 20))], text_size=12) == []


def test_colours_differ_and_stay():
    names = [f"name {n}" for n in range(20)]
    colours = colours_of(names)
    assert len(set(colours.values())) == 20
    assert colours_of([*names, "more"])["name 7"] == colours["name 7"]
    assert len(set(colours_of(map(str, range(60))).values())) == 60


@pytest.mark.parametrize(("background", "dark"), [((255, 255, 0), True), ((20, 20, 120), False)])
def test_ink_reads_on_its_background(background, dark):
    assert (sum(ink_on(background)) < 380) is dark


@pytest.mark.parametrize("text", ["head", "äöü", "犬", "\ud800"])
def test_every_text_has_an_extent(text):
    left, top, right, bottom = text_box(text, font_for(text, 14))
    assert right > left
    assert bottom > top
