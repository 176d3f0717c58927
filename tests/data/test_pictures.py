import contextlib
import random
import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from langhops_cli.data.canvas import to_canvas
from langhops_cli.data.pictures import list_pictures, read_picture, reduction
from langhops_cli.errors import DATA, UserError

RED = (200, 30, 10)


def test_every_colour_mode_becomes_the_same_rgb(tmp_path: Path) -> None:
    picture = Image.new("RGB", (6, 4), RED)
    cases = {
        "plain.png": picture,
        "palette.png": picture.convert("P", palette=Image.Palette.ADAPTIVE),
        "alpha.png": picture.convert("RGBA"),
        "cmyk.tif": picture.convert("CMYK"),
        "plain.bmp": picture,
    }
    for name, image in cases.items():
        image.save(tmp_path / name)
        read = read_picture(tmp_path / name)
        assert read.mode == "RGB"
        np.testing.assert_array_equal(np.asarray(read), np.asarray(picture), err_msg=name)


def test_transparency_lies_over_white(tmp_path: Path) -> None:
    image = Image.new("RGBA", (2, 1), (200, 30, 10, 0))
    image.putpixel((1, 0), (100, 0, 0, 128))
    image.save(tmp_path / "a.png")
    clear, half = np.asarray(read_picture(tmp_path / "a.png"))[0]
    assert clear.tolist() == [255, 255, 255]
    np.testing.assert_allclose(half, [177, 127, 127], atol=1)


def test_a_palette_with_a_transparent_entry_lies_over_white(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "p.png", transparency=0)
    assert np.asarray(read_picture(tmp_path / "p.png"))[0].tolist() == [[255, 255, 255], [40, 50, 60]]


def test_sixteen_bit_grey_keeps_its_scale(tmp_path: Path) -> None:
    values = np.array([[0, 32768, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    read = np.asarray(read_picture(tmp_path / "deep.png"))
    assert read.shape == (1, 3, 3)
    assert read[0, :, 0].tolist() == [0, 128, 255]


def test_exif_rotation_is_carried_out(tmp_path: Path) -> None:
    image = Image.new("RGB", (30, 20), "white")
    image.paste(RED, (0, 0, 15, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    image.save(tmp_path / "turned.jpg", exif=exif, quality=95)
    read = np.asarray(read_picture(tmp_path / "turned.jpg")).astype(int)
    assert read.shape[:2] == (30, 20)
    np.testing.assert_allclose(read[5, 10], RED, atol=12)
    np.testing.assert_allclose(read[25, 10], [255] * 3, atol=12)


@pytest.mark.parametrize("size", [(1, 1), (8000, 50)])
def test_extreme_shapes_are_read(tmp_path: Path, size: tuple[int, int]) -> None:
    Image.new("RGB", size, RED).save(tmp_path / "x.jpg")
    assert read_picture(tmp_path / "x.jpg").size == size


def test_a_reduced_picture_keeps_what_is_asked_for_and_its_content(tmp_path: Path) -> None:
    ramp = np.linspace(0, 255, 640).astype(np.uint8)
    pixels = np.broadcast_to(ramp[None, :, None], (480, 640, 3))
    for name in ("r.jpg", "r.png"):
        Image.fromarray(pixels).save(tmp_path / name)
        small = read_picture(tmp_path / name, longest=300)
        assert small.size == (320, 240)
        np.testing.assert_allclose(np.asarray(small)[100, ::40, 0], ramp[1::80], atol=3)
        assert read_picture(tmp_path / name, longest=321).size == (640, 480)


@pytest.mark.parametrize(("side", "wanted", "factor"), [(640, None, 1), (640, 320, 2), (640, 1, 8), (99, 50, 1)])
def test_reduction_never_goes_below_what_is_wanted(side: int, wanted: int | None, factor: int) -> None:
    assert reduction(side, wanted) == factor


def _faulty(folder: Path) -> dict[str, Path]:
    whole = folder / "whole.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (200, 200, 3), dtype=np.uint8)).save(whole)
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "cut.jpg").write_bytes(whole.read_bytes()[:5000])
    (folder / "text.jpg").write_text("not a picture at all")
    png = folder / "whole.png"
    Image.open(whole).save(png)
    (folder / "cut.png").write_bytes(png.read_bytes()[:4000])
    head = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + struct.pack(">IIBBBBB", 4, 4, 99, 99, 0, 0, 0)
    (folder / "header.png").write_bytes(head + b"\0\0\0\0")
    return {name: folder / name for name in ("empty.jpg", "cut.jpg", "text.jpg", "cut.png", "header.png")}


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("empty.jpg", "empty (0 bytes)"),
        ("cut.jpg", "cut off after 5,000 bytes"),
        ("text.jpg", "not a picture"),
        ("cut.png", "cut off after 4,000 bytes"),
        ("header.png", "header.png"),
        ("absent.jpg", "does not exist"),
        ("folder", "is a folder"),
    ],
)
def test_what_cannot_be_read_is_told_in_one_line(tmp_path: Path, name: str, says: str) -> None:
    _faulty(tmp_path)
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError) as caught:
        read_picture(tmp_path / name)
    message = str(caught.value)
    assert caught.value.code == DATA
    assert says in message
    assert name in message
    assert "\n" not in message


def test_bytes_changed_at_random_end_in_a_picture_or_in_one_line(tmp_path: Path) -> None:
    """Pillow's readers raise errors of many kinds on broken files; none of them may pass for one of ours."""
    generator = random.Random(0)
    exif = Image.Exif()
    exif[0x0112] = 6
    wholes = []
    for name in ("a.jpg", "a.png", "a.tif", "a.gif", "a.webp", "a.bmp"):
        pixels = np.random.default_rng(0).integers(0, 255, (12, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / name, **({"exif": exif} if name != "a.tif" else {}))
        wholes.append((tmp_path / name).read_bytes())
    path, read = tmp_path / "broken", 0
    for _ in range(600):
        content = bytearray(generator.choice(wholes))
        for _ in range(generator.choice([1, 2, 8])):
            content[generator.randrange(min(len(content), 300))] = generator.choice([0, 255, generator.randrange(256)])
        path.write_bytes(content)
        with contextlib.suppress(UserError), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read += read_picture(path).mode == "RGB"
    assert 50 < read < 550


@pytest.mark.parametrize("error", [struct.error("not an integer"), TypeError("'float' object"), KeyError(5)])
def test_errors_of_every_kind_are_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")

    def fail(image: Image.Image) -> Image.Image:
        raise error

    monkeypatch.setattr("PIL.ImageOps.exif_transpose", fail)
    with pytest.raises(UserError, match=r"a\.png cannot be read \(.*\); give a whole file") as caught:
        read_picture(tmp_path / "a.png")
    assert caught.value.code == DATA


def test_folders_are_searched_and_patterns_matched(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for name in ("b.png", "a.JPG", "deep/c.webp", "note.txt"):
        (tmp_path / name).touch()
    assert [p.name for p in list_pictures([tmp_path])] == ["a.JPG", "b.png", "c.webp"]
    assert [p.name for p in list_pictures([str(tmp_path / "*.png"), tmp_path])] == ["b.png", "a.JPG", "c.webp"]
    assert [p.name for p in list_pictures([tmp_path / "note.txt"])] == ["note.txt"]


def test_a_file_with_brackets_in_its_name_is_no_pattern(tmp_path: Path) -> None:
    path = tmp_path / "holiday [1].png"
    path.touch()
    assert list_pictures([path]) == [path]


@pytest.mark.parametrize(
    ("given", "says"), [("none", "does not exist"), ("*.png", "no picture matches"), ("", "holds no")]
)
def test_nothing_found_is_an_error(tmp_path: Path, given: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        list_pictures([f"{tmp_path}/{given}"])


def test_the_canvas_holds_every_picture_in_its_corner() -> None:
    small, wide = np.full((3, 5, 3), 7, np.uint8), np.full((2, 65, 3), 9, np.uint8)
    pictures = to_canvas([small, wide])
    assert pictures.pixels.shape == (2, 3, 64, 128)
    assert pictures.pixels.dtype == torch.uint8
    assert pictures.sizes.tolist() == [[3, 5], [2, 65]]
    assert (pictures.pixels[0, :, :3, :5] == 7).all()
    assert int(pictures.pixels[0].sum()) == 7 * 3 * 5 * 3
    assert int(pictures.pixels[1].sum()) == 9 * 2 * 65 * 3
