"""Pictures from disk: found, and read into upright RGB whatever they were."""

from __future__ import annotations

import glob
import io
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from langhops_cli.errors import DATA, UserError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".jfif"})


def read_picture(path: str | Path, *, longest: int | None = None, content: bytes | None = None) -> Image.Image:
    """Read a picture as upright 8-bit RGB.

    CMYK, grey, palette and 16-bit pictures are converted, transparency is laid over white, and an EXIF rotation is
    carried out.

    Args:
        path: the file.
        longest: where given, a picture may come back smaller by a whole factor as long as its longer side keeps at
            least this many pixels; a JPEG is then decoded at the smaller size, which is several times faster.
        content: the file's bytes where they are at hand already; `path` then only names the picture in messages.

    Returns:
        The picture, mode RGB.

    Raises:
        UserError: the file is missing, empty, cut off or no picture; the message names it.
    """
    path = Path(path)
    try:
        with Image.open(path if content is None else io.BytesIO(content)) as image:
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
    except Exception as error:  # broken files make Pillow's readers fail in all kinds of ways
        size = path.stat().st_size if content is None else len(content)
        raise UserError(_explain(path, size, error), code=DATA) from None
    remaining = reduction(max(picture.size), longest)
    return picture.reduce(remaining) if remaining > 1 else picture


def reduction(longest_side: int, wanted: int | None) -> int:
    """Largest of 1, 2, 4, 8 by which a side can be divided and still have `wanted` pixels."""
    if wanted is None:
        return 1
    return max(factor for factor in (1, 2, 4, 8) if factor == 1 or longest_side // factor >= wanted)


def _explain(path: Path, size: int, error: Exception) -> str:
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


def list_pictures(paths: Sequence[str | Path], *, suffixes: Collection[str] = SUFFIXES) -> list[Path]:
    """Find the pictures that files, folders (searched through, sorted) and glob patterns stand for, each once.

    Args:
        paths: files, folders or patterns such as `imgs/*.jpg`. A file is taken whatever its name ends in.
        suffixes: endings of what is taken from folders and patterns, lower case with the dot.

    Returns:
        Paths in the order given, folders and patterns sorted.

    Raises:
        UserError: a path does not exist, a pattern matches nothing, or a folder holds no picture.
    """
    found: dict[Path, None] = {}
    for given in paths:
        path = Path(given)
        if path.is_dir():
            pictures = sorted(p for p in path.rglob("*") if p.suffix.lower() in suffixes and p.is_file())
            if not pictures:
                raise UserError(f"{path} holds no picture ({', '.join(sorted(suffixes))}).", code=DATA)
        elif path.exists():
            pictures = [path]
        elif glob.has_magic(str(given)):
            matches = sorted(Path(p) for p in glob.glob(str(given), recursive=True))
            pictures = [p for p in matches if p.is_file() and p.suffix.lower() in suffixes]
            if not pictures:
                raise UserError(f"no picture matches {given}.", code=DATA)
        else:
            raise UserError(f"{path} does not exist; give a picture, a folder or a pattern.", code=DATA)
        found.update(dict.fromkeys(pictures))
    return list(found)
