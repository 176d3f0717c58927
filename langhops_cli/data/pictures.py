"""Pictures from disk: found, read into upright RGB whatever they were, and laid on a common canvas."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from langhops_cli.errors import DATA, UserError
from langhops_cli.model.structures import Pictures

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".jfif"})
CANVAS_STEP = 64
"""Canvas sides are multiples of the coarsest map's stride, so that every stride divides them."""


def read_picture(path: str | Path, *, longest: int | None = None) -> Image.Image:
    """Read a picture as upright 8-bit RGB.

    CMYK, grey, palette and 16-bit pictures are converted, transparency is laid over white, and an EXIF rotation is
    carried out.

    Args:
        path: the file.
        longest: where given, a picture may come back smaller by a whole factor as long as its longer side keeps at
            least this many pixels; a JPEG is then decoded at the smaller size, which is several times faster.

    Returns:
        The picture, mode RGB.

    Raises:
        UserError: the file is missing, empty, cut off or no picture; the message names it.
    """
    path = Path(path)
    try:
        with Image.open(path) as image:
            width, height = image.size
            factor = reduction(max(image.size), longest)
            if factor > 1:
                image.draft("RGB", (-(-width // factor), -(-height // factor)))
            image.load()
            upright = ImageOps.exif_transpose(image)
            picture = _to_rgb(upright)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; check the path.", code=DATA) from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder, not a picture.", code=DATA) from None
    except PermissionError:
        raise UserError(f"{path} may not be read; check its permissions.", code=DATA) from None
    except Image.DecompressionBombError:
        raise UserError(f"{path} has too many pixels to be read safely; make it smaller.", code=DATA) from None
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, EOFError, IndexError) as error:
        raise UserError(_explain(path, error), code=DATA) from None
    remaining = reduction(max(picture.size), longest)
    return picture.reduce(remaining) if remaining > 1 else picture


def reduction(longest_side: int, wanted: int | None) -> int:
    """Largest of 1, 2, 4, 8 by which a side can be divided and still have `wanted` pixels."""
    if wanted is None:
        return 1
    return max(factor for factor in (1, 2, 4, 8) if factor == 1 or longest_side // factor >= wanted)


def _explain(path: Path, error: Exception) -> str:
    size = path.stat().st_size
    if size == 0:
        return f"{path} is empty (0 bytes); take it out or give a whole file."
    if isinstance(error, UnidentifiedImageError):
        return f"{path} is not a picture that can be read; take it out or convert it to JPEG or PNG."
    if "truncated" in str(error) or isinstance(error, EOFError):
        return f"{path} is cut off after {size:,} bytes; take it out or give a whole file."
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return f"{path} cannot be read ({reason}); give a whole file."


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image.copy() if image.readonly else image
    if image.mode.startswith("I") or image.mode == "F":
        return _stretch(image)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, layer).convert("RGB")
    return image.convert("RGB")


def _stretch(image: Image.Image) -> Image.Image:
    """Grey of more than 8 bits to RGB: 16-bit values keep their scale, others are stretched to their own range."""
    values = np.asarray(image, dtype=np.float64)
    if image.mode.startswith("I") and values.min(initial=0) >= 0 and values.max(initial=0) <= 65535:
        low, high = 0.0, 65535.0 if values.max(initial=0) > 255 else 255.0
    else:
        low, high = float(values.min()), float(values.max())
    grey = (values - low) * (255.0 / max(high - low, 1e-12))
    return Image.fromarray(np.clip(np.nan_to_num(grey), 0, 255).round().astype(np.uint8)).convert("RGB")


def list_pictures(paths: Sequence[str | Path]) -> list[Path]:
    """Find the pictures that files, folders (searched through, sorted) and glob patterns stand for, each once.

    Args:
        paths: files, folders or patterns such as `imgs/*.jpg`. A file is taken whatever its name ends in.

    Returns:
        Paths in the order given, folders and patterns sorted.

    Raises:
        UserError: a path does not exist, a pattern matches nothing, or a folder holds no picture.
    """
    found: dict[Path, None] = {}
    for given in paths:
        path = Path(given)
        if path.is_dir():
            pictures = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
            if not pictures:
                raise UserError(f"{path} holds no picture ({', '.join(sorted(SUFFIXES))}).", code=DATA)
        elif path.exists():
            pictures = [path]
        elif glob.has_magic(str(given)):
            matches = sorted(Path(p) for p in glob.glob(str(given), recursive=True))
            pictures = [p for p in matches if p.is_file() and p.suffix.lower() in SUFFIXES]
            if not pictures:
                raise UserError(f"no picture matches {given}.", code=DATA)
        else:
            raise UserError(f"{path} does not exist; give a picture, a folder or a pattern.", code=DATA)
        found.update(dict.fromkeys(pictures))
    return list(found)


def to_canvas(images: Sequence[np.ndarray], *, tower_size: int | None = None) -> Pictures:
    """Lay pictures on a common canvas, each in the top left corner.

    Args:
        images: (h, w, 3) uint8 RGB each.
        tower_size: side in pixels of the square picture that the language model's own image tower wants; None for a
            language model without one.

    Returns:
        Pictures with uint8 pixels, the padding black; canvas sides are multiples of 64.
    """
    sizes = [image.shape[:2] for image in images]
    height, width = (-(-max(side) // CANVAS_STEP) * CANVAS_STEP for side in zip(*sizes, strict=True))
    pixels = np.zeros((len(images), 3, height, width), dtype=np.uint8)
    for canvas, image, (h, w) in zip(pixels, images, sizes, strict=True):
        canvas[:, :h, :w] = image.transpose(2, 0, 1)
    tower = None if tower_size is None else torch.stack([_for_tower(image, tower_size) for image in images])
    return Pictures(torch.from_numpy(pixels), torch.tensor(sizes, dtype=torch.int64), tower)


def _for_tower(image: np.ndarray, side: int) -> torch.Tensor:
    """A picture as SigLIP was trained on it: squeezed to a square by bicubic resampling, values in -1..1, (3, s, s)."""
    square = Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.asarray(square, dtype=np.float32).transpose(2, 0, 1) / 127.5 - 1)
