"""How much of the attention of part and object queries falls on their own object.

An object that the model keeps is found where it has the name of a true object and their masks overlap by an IoU of at
least 0.5 (boxes where the truth has no mask); each true object is found at most once, so that the IoUs add up to most.
Only queries of found objects count, each once:

- A part query of a found object: what it spends, in the language model, on the image tokens inside the true object, as
  a share of what it spends on all image tokens. A token that lies half inside counts half. Mean over heads and layers.
- The query of a found object: the weights, in the deformable cross-attention, of the places that it reads inside the
  true object, as a share of those in the picture; places outside of it read nothing. All heads together, mean over
  layers.

The score is the mean over all queries of all pictures. `even` is what attention spread evenly over the picture would
get, the mean area of the objects: how much the score means depends on it.

Source: LangHOPS, arXiv 2510.25263, section 4.3, which compares joint and detached training by such scores.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from langhops_cli.checkpoint.files import write_text
from langhops_cli.data.canvas import to_canvas
from langhops_cli.data.index import PreparedDataset
from langhops_cli.data.masks import centres, pick
from langhops_cli.data.sample import Sample, SampleInstance
from langhops_cli.evaluation.report import DatasetCard, versions
from langhops_cli.evaluation.runner import Watch
from langhops_cli.model.attention_capture import Attention, capture_attention
from langhops_cli.model.configuration import ModelConfig
from langhops_cli.model.langhops import LangHOPSModel
from langhops_cli.model.structures import NO_PART, Output, VocabularyBatch
from langhops_cli.prediction.masks import crop_to_picture
from langhops_cli.prediction.predictor import resize

ATTENTION = "attention.json"
FORMAT = 1
FOUND_IOU = 0.5
"""Overlap from which on a kept object is a true one."""


@dataclass
class Score:
    """Mean share of attention that falls on the queries' own objects.

    Args:
        inside: sum of the shares; even: sum of what even attention would get; queries: how many were summed.
    """

    inside: float = 0.0
    even: float = 0.0
    queries: int = 0

    def add(self, inside: Tensor, even: float) -> None:
        """Count some queries of one object, (N,), which covers a share `even` of its picture."""
        self.inside += float(inside.double().sum())
        self.even += even * len(inside)
        self.queries += len(inside)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values; the means are None where there was no query."""
        count = self.queries
        return {
            "score": self.inside / count if count else None,
            "even": self.even / count if count else None,
            "queries": count,
        }

    def __str__(self) -> str:
        if not self.queries:
            return "-"
        count = f"{self.queries:,} " + ("query" if self.queries == 1 else "queries")
        return f"{self.inside / self.queries:.2f} ({self.even / self.queries:.2f} if even, {count})"


@dataclass
class AttentionReport:
    """What was measured, and on what.

    Args:
        dataset, model, settings, command: as in `Report`.
        objects: of the object queries; parts: of the part queries, None where they read no image tokens.
        true_objects: objects of the pictures; found_objects: how many of them the model keeps.
        note: why there is no figure for parts.
    """

    dataset: DatasetCard
    model: str
    settings: Mapping[str, Any]
    command: str = ""
    objects: Score = field(default_factory=Score)
    parts: Score | None = None
    true_objects: int = 0
    found_objects: int = 0
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as `attention.json` holds them."""
        return {
            "format": FORMAT,
            "protocol": "attention inside the object",
            "dataset": vars(self.dataset),
            "model": self.model,
            "settings": dict(self.settings),
            "part_queries": None if self.parts is None else self.parts.to_dict(),
            "object_queries": self.objects.to_dict(),
            "objects": {"true": self.true_objects, "found": self.found_objects},
            "notes": [self.note] if self.note else [],
            "versions": versions(),
            "command": self.command,
        }

    def line(self) -> str:
        """The figures in one line."""
        parts = f"- ({self.note})" if self.parts is None else str(self.parts)
        return (
            f"Attention inside the object: part queries {parts}, object queries {self.objects}; "
            f"{self.found_objects:,} of {self.true_objects:,} objects were found"
        )

    def save(self, folder: Path) -> Path:
        """Write `attention.json` and return its path."""
        path = folder / ATTENTION
        write_text(path, json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n")
        return path


def measure_attention(
    model: LangHOPSModel,
    dataset: PreparedDataset,
    *,
    config: ModelConfig,
    pictures: Sequence[int] | None = None,
    model_name: str = "a model in memory",
    command: str = "",
    watch: Watch | None = None,
) -> AttentionReport:
    """Ask a model for all names of a set and see where its queries look; one picture at a time is in memory.

    Args:
        model: its mode is put back afterwards, and it stays on its device.
        dataset: a prepared set.
        config: what the model was built from.
        pictures: places of the pictures to use, 0 .. len - 1; all when left out.
        model_name, command: for the report.
        watch: goes through the places and may show how far it is.

    Raises:
        UserError: a picture cannot be read.
    """
    chosen = range(len(dataset)) if pictures is None else pictures
    report = AttentionReport(DatasetCard.of(dataset, chosen), model_name, _settings(config), command)
    if config.level != "parts":
        report.note = "the model was trained on objects only"
    elif config.refiner.kind == "qformer":
        report.note = "the Q-Former reads no image tokens"
    else:
        report.parts = Score()
    device = next(model.parameters()).device
    table = VocabularyBatch.of([dataset.vocabulary], queries_per_part=config.hierarchy.queries_per_part).to(device)
    numbers = {name: number for number, name in enumerate(dataset.vocabulary.object_names)}
    places: Iterable[int] = watch(chosen, len(chosen)) if watch else chosen
    training = model.training
    model.eval()
    try:
        for place in places:
            sample = dataset[place]
            canvas = to_canvas([resize(sample.image, config.preprocessing)], tower_size=config.refiner.image_size)
            with torch.no_grad(), capture_attention(model) as seen:
                output = model(canvas.to(device), table).to("cpu")
            names = sample.vocabulary.object_names  # in a federated set not all of them
            labels = [numbers[names[item.label]] for item in sample.objects]
            height, width = canvas.sizes[0].tolist()
            found = find_objects(output, sample, labels, size=(height, width))
            report.true_objects += len(sample.objects)
            report.found_objects += len(found)
            _add_picture(report, seen, output, sample, found, extent=canvas.extent[0])
    finally:
        model.train(training)
    return report


def _settings(config: ModelConfig) -> dict[str, Any]:
    return {
        "shortest": config.preprocessing.shortest,
        "longest": config.preprocessing.longest,
        "found_iou": FOUND_IOU,
        "num_kept": config.hierarchy.num_kept,
        "refiner": config.refiner.kind,
        "detach_object_queries": config.hierarchy.detach_object_queries,
    }


def _add_picture(
    report: AttentionReport,
    seen: Attention,
    output: Output,
    sample: Sample,
    found: Mapping[int, int],
    *,
    extent: Tensor,
) -> None:
    """Count the queries of one picture; `found` maps the kept objects to the true ones."""
    for rank, number in found.items():
        mask = mask_of(sample.objects[number], sample.size)
        even = float(mask.mean())
        query = int(output.kept.index[0, rank])
        layers = [
            places_inside(places[0, query].float().cpu() / extent, weights[0, query].float().cpu(), mask)
            for places, weights in zip(seen.places, seen.weights, strict=True)
        ]
        report.objects.add(torch.stack(layers).mean(0, keepdim=True), even)
        queries = output.part_queries
        if report.parts is None or queries is None or seen.tokens is None:
            continue
        own = queries.valid[0] & (queries.parent[0] == rank) & (queries.name[0] != NO_PART)
        tokens = seen.tokens[0].cpu()[own]
        report.parts.add(tokens_inside(tokens, mask), even)


def find_objects(output: Output, sample: Sample, labels: Sequence[int], *, size: tuple[int, int]) -> dict[int, int]:
    """Which kept object is which true one.

    Args:
        output: of one picture.
        sample: what is true in it.
        labels: of the true objects, in the names that the model was asked for.
        size: height and width of the picture on the canvas in pixels.

    Returns:
        Rank among the kept objects to number of the true object.
    """
    kept = output.kept
    ranks = [rank for rank in range(kept.index.shape[1]) if bool(kept.valid[0, rank])]
    if not ranks or not labels:
        return {}
    chosen = kept.index[0, ranks]
    boxes, masks = output.objects.final.boxes[0, chosen].float().numpy(), output.objects.final.masks
    assert masks is not None  # only denoising queries go without
    shapes = (crop_to_picture(masks[0, chosen], size) > 0).numpy()
    overlaps = np.stack(
        [_mask_iou(shapes, item.mask) if item.mask is not None else _box_iou(boxes, item, sample.size)
         for item in sample.objects], axis=1,
    )  # fmt: skip
    overlaps *= kept.classes[0, ranks].numpy()[:, None] == np.asarray(labels)
    rows, columns = linear_sum_assignment(overlaps, maximize=True)
    pairs = zip(rows.tolist(), columns.tolist(), strict=True)
    return {ranks[row]: column for row, column in pairs if overlaps[row, column] >= FOUND_IOU}


def _mask_iou(shapes: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """IoU of predicted masks (K, h, w) with a true one of another size, read at the centres of their cells."""
    rows, columns = (centres(*sides) for sides in zip(mask.shape, shapes.shape[1:], strict=True))
    truth = pick(mask, rows, columns) > 0
    shared = (shapes & truth).sum((1, 2))
    return shared / np.maximum((shapes | truth).sum((1, 2)), 1)


def _box_iou(boxes: np.ndarray, item: SampleInstance, size: tuple[int, int]) -> np.ndarray:
    """IoU of boxes (K, 4: centre, size as shares of the picture) with a true one."""
    height, width = size
    truth = np.array(item.box) / [width, height, width, height]
    low = np.maximum(boxes[:, :2] - boxes[:, 2:] / 2, truth[:2])
    high = np.minimum(boxes[:, :2] + boxes[:, 2:] / 2, truth[2:])
    shared = np.clip(high - low, 0, None).prod(1)
    return shared / np.maximum(boxes[:, 2:].prod(1) + (truth[2:] - truth[:2]).prod() - shared, 1e-9)


def mask_of(item: SampleInstance, size: tuple[int, int]) -> np.ndarray:
    """The mask of an instance, the inside of its box where it has none, (h, w), bool."""
    if item.mask is not None:
        return item.mask > 0
    left, top, right, bottom = (round(side) for side in item.box)
    mask = np.zeros(size, dtype=bool)
    mask[top:bottom, left:right] = True
    return mask


def tokens_inside(tokens: Tensor, mask: np.ndarray) -> Tensor:
    """Share of attention to image tokens that falls on a mask.

    Args:
        tokens: how the attention is shared out among G x G tokens laid over the picture, row by row, (N, G * G).
        mask: of the picture, (h, w).

    Returns:
        (N,), 0..1.
    """
    side = round(tokens.shape[-1] ** 0.5)
    down, across = (torch.from_numpy(_cover(side, pixels)) for pixels in mask.shape)
    inside = down @ torch.from_numpy(mask.astype(np.float32)) @ across.T
    return tokens @ inside.flatten()


def _cover(cells: int, pixels: int) -> np.ndarray:
    """How much of each cell along an axis each pixel fills, (cells, pixels); the rows add up to 1."""
    cell, pixel = np.arange(cells)[:, None] / cells, np.arange(pixels) / pixels
    shared = np.minimum(cell + 1 / cells, pixel + 1 / pixels) - np.maximum(cell, pixel)
    return (np.clip(shared, 0, None) * cells).astype(np.float32)


def places_inside(places: Tensor, weights: Tensor, mask: np.ndarray) -> Tensor:
    """Share of attention to places in a picture that falls on a mask.

    Args:
        places: (x, y) as shares of the picture; those outside of 0..1 do not count, (S, 2).
        weights: of the places, (S,).
        mask: of the picture, (h, w).

    Returns:
        A single number, 0..1; 0 where no place is in the picture.
    """
    height, width = mask.shape
    pixels = (places * places.new_tensor([width, height])).floor().long()
    limits = pixels.new_tensor([width, height])
    there = ((pixels >= 0) & (pixels < limits)).all(-1)
    x, y = pixels.clamp(min=0).minimum(limits - 1).unbind(-1)
    weights = weights * there
    return (weights * torch.from_numpy(mask)[y, x]).sum() / weights.sum().clamp(min=torch.finfo(weights.dtype).tiny)
