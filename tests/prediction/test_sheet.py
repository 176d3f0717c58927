import numpy as np
from PIL import Image

from langhops_cli.data.sample import Sample, SampleInstance, box_of
from langhops_cli.prediction.sheet import CELL, GAP, annotated, contact_sheet, draw_samples
from langhops_cli.vocabulary import parse_vocabulary


def sample(width: int = 60, height: int = 40) -> Sample:
    """A car with a wheel, a wheel without a car, and a dog that is known by its box."""
    masks = np.zeros((3, height, width), np.uint8)
    masks[0, 5:30, 5:40] = masks[1, 20:30, 8:18] = masks[2, 32:38, 50:58] = 1
    car, wheel, lone = (SampleInstance(0, mask, box_of(mask)) for mask in masks)
    wheel = SampleInstance(0, wheel.mask, wheel.box, parent=0)
    dog = SampleInstance(1, None, (41.4, 2.0, 58.6, 12.2))
    image = Image.new("RGB", (width, height), (90, 120, 150))
    return Sample("street.png", image, [car, dog], [wheel, lone], parse_vocabulary("car:wheel; dog"))


def test_what_is_annotated_becomes_a_prediction_with_the_same_masks_and_parents():
    truth = sample()
    found = annotated(truth)
    assert [(item.title, item.parent) for item in found] == [
        ("car", None), ("dog", None), ("car wheel", 0), ("car wheel", None),
    ]  # fmt: skip
    for item, mask in ((found[0], truth.objects[0].mask), (found[2], truth.parts[0].mask)):
        np.testing.assert_array_equal(item.mask, mask)
    assert found[1].box == (41, 2, 59, 12)
    assert found[1].area == 18 * 10


def test_a_sheet_holds_all_pictures_in_rows_without_enlarging_any():
    pictures = [Image.new("RGB", (720, 360), (number, 0, 0)) for number in range(1, 7)] + [Image.new("RGB", (30, 20))]
    sheet = np.asarray(contact_sheet(pictures))
    height, width = sheet.shape[:2]
    assert height == -(-7 // ((width - GAP) // (CELL + GAP))) * (180 + GAP) + GAP
    assert {int(value) for value in np.unique(sheet[..., 0])} == {0, 1, 2, 3, 4, 5, 6, 255}
    assert (sheet[..., 0] == 1).sum() == CELL * 180


def test_drawn_samples_show_the_masks():
    plain = np.asarray(contact_sheet([sample().image]))
    assert np.asarray(draw_samples([sample()] * 3)).shape[1] > plain.shape[1]
    drawn = np.asarray(draw_samples([sample()]))
    assert (np.abs(drawn.astype(int) - np.array([90, 120, 150])).max(-1) > 20).mean() > 0.2
