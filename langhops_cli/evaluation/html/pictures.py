"""The best and the worst pictures of an evaluation, what is annotated beside what was found."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from langhops_cli.data import masks
from langhops_cli.data.pictures import read_picture
from langhops_cli.evaluation.html.elements import Markup, element, joined
from langhops_cli.prediction.draw import draw_overlay
from langhops_cli.prediction.results import Detection, NamePath, Prediction

if TYPE_CHECKING:
    from langhops_cli.data.index import PreparedDataset
    from langhops_cli.evaluation.instances.stream import ScoredPicture
    from langhops_cli.evaluation.pictures import PictureFigures, PictureScore

SIDE = 560
"""Longer side of a picture on the page in pixels."""
MOST_BYTES = 80_000
"""Of one JPEG: two dozen of them stay below 3 MB."""
_QUALITIES = (85, 75, 65, 50, 35, 20)

Entry = Mapping[str, Any]


def show_pictures(figures: PictureFigures, dataset: PreparedDataset) -> Markup:
    """Draw the pictures that the figures hold.

    Args:
        figures: of the evaluation.
        dataset: the prepared set, which has the pictures.

    Raises:
        UserError: a picture cannot be read.
    """
    roles = {number: (owner,) if part is None else (owner, part) for number, owner, part in dataset.categories}
    parts = []
    for title, scores in (("Worst", figures.worst), ("Best", figures.best)):
        if scores:
            shown = [_show(score, figures.shown[score.image_id], dataset, roles, figures.min_score) for score in scores]
            parts += [element("h3", title), element("div", *shown, class_="pictures")]
    return joined(parts)


def _show(
    score: PictureScore, picture: ScoredPicture, dataset: PreparedDataset, roles: Mapping[Any, NamePath], least: float
) -> Markup:
    image = read_picture(dataset.image_root / score.file_name)
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    image = image.convert("RGB")
    original = (picture.image["height"], picture.image["width"])
    instances = [item for item in picture.truth if not item["iscrowd"]]
    results = [item for item in picture.results if item["score"] >= least]
    truth, found = (
        to_prediction(entries, roles, score.file_name, size=(image.height, image.width), original=original)
        for entries in (instances, results)
    )
    # Names that are annotated come first, so that their colours do not depend on what is found.
    names = list(dict.fromkeys(item.name for item in truth))
    sides = [
        _picture(draw_overlay(image, truth, names=names, scores=False), f"annotated in {score.file_name}"),
        _picture(draw_overlay(image, found, names=names), f"found in {score.file_name}"),
    ]
    titles = [
        element("span", f"annotated: {score.instances:,}"),
        element("span", f"found: {len(found):,}, counted: {score.results:,}, matched: {score.matched:,}"),
    ]
    caption = element("figcaption", f"{score.file_name}, quality {100 * score.quality:.1f}")
    return element("figure", caption, element("div", *titles, *sides, class_="pair"))


def to_prediction(
    entries: Sequence[Entry],
    roles: Mapping[Any, NamePath],
    name: str,
    *,
    size: tuple[int, int],
    original: tuple[int, int],
) -> Prediction:
    """Annotations or results of a picture as something that can be drawn on it, larger or smaller than it came.

    Args:
        entries: with `category_id`, `segmentation` or else `bbox` in pixels, and, optional, `id`, `parent_id`, `score`.
        roles: names from the object down of each category.
        name: of the picture.
        size: height and width in pixels that it is drawn at; original: that it has.

    Returns:
        Those that have a pixel left. A part belongs to its object where that is known and there, else to the object of
        its name that holds most of it; one without stands by itself under its whole name, "dog head".
    """
    shapes = [_shape(entry, size, original) for entry in entries]
    kept = [number for number, shape in enumerate(shapes) if shape.any()]
    objects = [number for number in kept if len(roles[entries[number]["category_id"]]) == 1]
    place = {number: index for index, number in enumerate([*objects, *(n for n in kept if n not in set(objects))])}
    found = []
    for number in place:
        entry = entries[number]
        path = roles[entry["category_id"]]
        owner = None if len(path) == 1 else _owner(number, entries, objects, shapes, roles)
        if len(path) > 1 and owner is None:
            path = (" ".join(path),)
        score = float(np.clip(entry.get("score", 1.0), 0, 1))
        parent = None if owner is None else place[owner]
        found.append(Detection.from_mask(path, score, shapes[number], parent=parent))
    return Prediction(name, size, tuple(found))


def _owner(
    number: int,
    entries: Sequence[Entry],
    objects: Sequence[int],
    shapes: Sequence[np.ndarray],
    roles: Mapping[Any, NamePath],
) -> int | None:
    """The object that a part hangs from, through the parts between; by what holds it where the file does not say."""
    known = {entry["id"]: n for n, entry in enumerate(entries) if entry.get("id") is not None}
    step, seen = known.get(entries[number].get("parent_id")), set[int]()
    while step is not None and step not in objects and step not in seen:
        seen.add(step)
        step = known.get(entries[step].get("parent_id"))
    if step in objects:
        return step
    owner = roles[entries[number]["category_id"]][0]
    inside = {
        n: int((shapes[n] & shapes[number]).sum()) for n in objects if roles[entries[n]["category_id"]][0] == owner
    }
    best = max(inside, key=lambda n: inside[n], default=None)
    return best if best is not None and inside[best] else None


def _shape(entry: Entry, size: tuple[int, int], original: tuple[int, int]) -> np.ndarray:
    """The mask of an entry, or the inside of its box, in another size than the picture's, (h, w), bool."""
    height, width = size
    if entry.get("segmentation"):
        return masks.decode(entry["segmentation"], height=height, width=width).astype(bool)
    down, across = height / original[0], width / original[1]
    left, top, wide, high = entry["bbox"]
    rows = slice(max(0, round(top * down)), max(0, round((top + high) * down)))
    columns = slice(max(0, round(left * across)), max(0, round((left + wide) * across)))
    mask = np.zeros(size, bool)
    mask[rows, columns] = True
    return mask


def _picture(image: Image.Image, text: str) -> Markup:
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    data = base64.b64encode(_jpeg(image)).decode()
    return element("img", src=f"data:image/jpeg;base64,{data}", alt=text, width=image.width, height=image.height)


def _jpeg(image: Image.Image) -> bytes:
    """A JPEG of at most `MOST_BYTES`, as good as that allows."""
    data = b""
    for quality in _QUALITIES:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality, optimize=True)
        data = file.getvalue()
        if len(data) <= MOST_BYTES:
            break
    return data
