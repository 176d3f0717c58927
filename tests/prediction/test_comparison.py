import numpy as np
import pytest
from PIL import Image

from langhops_cli.prediction.comparison import CELL, Comparison, comparison_sheet
from langhops_cli.prediction.results import Detection, Prediction


def box(
    path: tuple[str, ...], left: int, *, parent: int | None = None, size: tuple[int, int] = (300, 400)
) -> Detection:
    mask = np.zeros(size, bool)
    mask[100:200, left : left + 100] = True
    return Detection.from_mask(path, 0.9, mask, parent=parent)


def compare(*found: Detection, truth: tuple[Detection, ...] = (), caption: str = "street.png") -> Comparison:
    image = Image.new("RGB", (400, 300), (128, 128, 128))
    return Comparison(caption, image, Prediction(caption, (300, 400), truth), Prediction(caption, (300, 400), found))


def coloured(sheet: Image.Image) -> np.ndarray:
    """Where a sheet is neither grey, white nor black."""
    pixels = np.asarray(sheet).astype(int)
    return pixels.max(axis=2) - pixels.min(axis=2) > 30


def test_what_is_annotated_is_left_and_what_is_found_right():
    left = coloured(comparison_sheet([compare(truth=(box(("car",), 50),))], title="step 1"))
    right = coloured(comparison_sheet([compare(box(("car",), 50))], title="step 1"))
    both = coloured(comparison_sheet([compare(box(("car",), 50), truth=(box(("car",), 50),))], title="step 1"))
    middle = left.shape[1] // 2
    assert left[:, :middle].any() and not left[:, middle:].any()
    assert right[:, middle:].any() and not right[:, :middle].any()
    assert both[:, :middle].any() and both[:, middle:].any()


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_sheet_has_one_size_whatever_is_found(count):
    nothing = comparison_sheet([compare() for _ in range(count)], title="step 1")
    much = [compare(box(("car",), 50), box(("car", "wheel"), 60, parent=0)) for _ in range(count)]
    assert comparison_sheet(much, title="step 1,000,000 " * 20).size == nothing.size
    assert nothing.width <= 2 * 2 * (CELL + 30)


def test_the_colour_of_an_annotated_name_does_not_depend_on_what_is_found():
    truth = (box(("car",), 50), box(("bus",), 250))
    other = [box((name,), 50) for name in ("tree", "sign", "dog", "street lamp")]
    plain, full = (
        np.asarray(comparison_sheet([compare(*found, truth=truth)], title="step 1")) for found in ((), tuple(other))
    )
    middle = plain.shape[1] // 2
    assert (plain[60:, : middle - 2] == full[60:, : middle - 2]).all()


def test_a_large_picture_is_shrunk_and_a_long_caption_stays_on_its_own_side():
    image = Image.new("RGB", (2000, 100), (128, 128, 128))
    nothing = Prediction("wide.png", (100, 2000))
    long = Comparison("a/very/long/path/" * 20 + "wide.png", image, nothing, nothing)
    short = Comparison("wide.png", image, nothing, nothing)
    sheet = comparison_sheet([long], title="")
    assert sheet.size == comparison_sheet([short], title="").size
    assert sheet.width < 2 * CELL + 60
    middle = sheet.width // 2
    difference = np.asarray(sheet) != np.asarray(comparison_sheet([short], title=""))
    assert difference[:, :middle].any() and not difference[:, middle + 4 :].any()
