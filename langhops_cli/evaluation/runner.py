"""Run a model over a prepared set and score what it finds; masks are run-length encoded picture by picture."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import nn

from langhops_cli.data.canvas import to_canvas
from langhops_cli.data.index import PreparedDataset
from langhops_cli.data.pictures import read_picture
from langhops_cli.errors import DATA, UserError
from langhops_cli.evaluation.instance_ap import MAX_DETECTIONS, score
from langhops_cli.evaluation.report import DatasetCard, Report
from langhops_cli.evaluation.validation import read_json
from langhops_cli.model.configuration import ModelConfig
from langhops_cli.model.structures import VocabularyBatch
from langhops_cli.prediction.postprocess import coco_results
from langhops_cli.prediction.predictor import resize

MAX_OBJECTS = 20
MAX_PARTS = 100
"""(name, query) pairs of a picture that are scored at each level, as published for Pascal-Part-116."""

Watch = Callable[[Iterable[int], int], Iterable[int]]
"""Goes through the places of the pictures, of which there are so many, and may show how far it is."""


def evaluate_model(
    model: nn.Module,
    dataset: PreparedDataset,
    *,
    config: ModelConfig,
    pictures: Sequence[int] | None = None,
    max_objects: int = MAX_OBJECTS,
    max_parts: int = MAX_PARTS,
    hierarchical: bool = False,
    model_name: str = "a model in memory",
    command: str = "",
    watch: Watch | None = None,
) -> Report:
    """Predict the pictures of a set with all of its names and score the results.

    Args:
        model: as `LangHOPSModel`; its mode is put back afterwards, and it stays on its device.
        dataset: a prepared set.
        config: what the model was built from: the size of its pictures and how its parts are asked for and scored.
        pictures: places of the pictures to use, 0 .. len - 1; all when left out.
        max_objects, max_parts: (name, query) pairs of a picture that are scored at each level.
        hierarchical: multiply the score of a part by the square root of its object's.
        model_name, command: for the report.
        watch: goes through the places and may show how far it is.

    Returns:
        The report, with the results.

    Raises:
        UserError: a picture cannot be read, or the annotations do not fit the set's names.
    """
    chosen = range(len(dataset)) if pictures is None else pictures
    results = predict_dataset(
        model,
        dataset,
        pictures=watch(chosen, len(chosen)) if watch else chosen,
        config=config,
        max_objects=max_objects,
        max_parts=max_parts,
        hierarchical=hierarchical,
    )
    settings = {
        "shortest": config.preprocessing.shortest,
        "longest": config.preprocessing.longest,
        "max_objects": max_objects,
        "max_parts": max_parts,
        "part_scoring": config.part_scoring,
        "hierarchical": hierarchical,
        "queries_per_part": config.hierarchy.queries_per_part,
        "max_queries": config.hierarchy.max_queries,
    }
    report = _report(dataset, results, chosen, model_name=model_name, settings=settings, command=command)
    asked = {("object", name) for name in dataset.vocabulary.object_names}
    asked |= {("part", part.text) for part in dataset.vocabulary.part_classes}
    missed = [row.name for row in report.figures.per_name if (row.level, row.name) not in asked]
    return replace(report, not_asked=missed)


def evaluate_file(
    path: Path, dataset: PreparedDataset, *, pictures: Sequence[int] | None = None, command: str = ""
) -> Report:
    """Score a file of COCO results, of this or of any other system, without a model.

    Args:
        path: a JSON list of results with the set's image and category ids.
        dataset: a prepared set.
        pictures: places of the pictures to use; all when left out.
        command: for the report.

    Raises:
        UserError: the file or an entry of it cannot be scored.
    """
    return _report(dataset, path, pictures, model_name=str(path), settings={}, command=command)


def predict_dataset(
    model: nn.Module,
    dataset: PreparedDataset,
    *,
    config: ModelConfig,
    pictures: Iterable[int],
    max_objects: int = MAX_OBJECTS,
    max_parts: int = MAX_PARTS,
    hierarchical: bool = False,
) -> list[dict[str, Any]]:
    """Return COCO results of some pictures of a set; arguments as in `evaluate_model`.

    One picture at a time: padding costs nothing, and no more than one picture's masks are in memory.
    """
    truth = read_json(dataset.annotation_file)
    objects, parts = category_ids(truth["categories"], dataset)
    sizes = {image["id"]: (image["width"], image["height"]) for image in truth["images"]}
    table = VocabularyBatch.of([dataset.vocabulary], queries_per_part=config.hierarchy.queries_per_part)
    device = next(model.parameters()).device
    table = table.to(device)
    training = model.training
    results: list[dict[str, Any]] = []
    model.eval()
    try:
        for place in pictures:
            image_id = dataset.image_ids[place]
            image = _read(dataset.image_path(place), sizes[image_id])
            resized = resize(image, config.preprocessing)
            canvas = to_canvas([resized], tower_size=config.refiner.image_size)
            # Not inference mode: what the model remembers of names must stay usable in training.
            with torch.no_grad():
                output = model(canvas.to(device), table)
            results += coco_results(
                output,
                sizes=[resized.shape[:2]],
                originals=[(image.height, image.width)],
                image_ids=[image_id],
                object_categories=objects,
                part_categories=parts,
                max_objects=max_objects,
                max_parts=max_parts,
                part_scoring=config.part_scoring,
                hierarchical=hierarchical,
            )
    finally:
        model.train(training)
    return results


def _read(path: Path, annotated: tuple[int, int]) -> Image.Image:
    image = read_picture(path)
    if image.size != annotated:
        raise UserError(
            f"{path} has {image.width} x {image.height} pixels, its annotation {annotated[0]} x {annotated[1]}; "
            "the picture was changed since it was prepared: prepare the set again.",
            code=DATA,
        )
    return image


def category_ids(categories: Sequence[Mapping[str, Any]], dataset: PreparedDataset) -> tuple[list[int], list[int]]:
    """Return the category id of every object name and of every part name, in the vocabulary's order.

    Raises:
        UserError: a name of the set's hierarchy is no category of its annotations.
    """
    known = {(entry.get("parent_id") is not None, entry["name"]): entry["id"] for entry in categories}
    names = [(False, name) for name in dataset.vocabulary.object_names]
    names += [(True, part.text) for part in dataset.vocabulary.part_classes]
    for name in names:
        if name not in known:
            raise UserError(
                f"{dataset.annotation_file} has no category {name[1]!r}, which hierarchy.yaml names. "
                "Prepare the set again.",
                code=DATA,
            )
    ids = [known[name] for name in names]
    count = len(dataset.vocabulary.object_names)
    return ids[:count], ids[count:]


def _report(
    dataset: PreparedDataset,
    results: Sequence[Mapping[str, Any]] | Path,
    pictures: Sequence[int] | None,
    *,
    model_name: str,
    settings: Mapping[str, Any],
    command: str,
) -> Report:
    chosen = range(len(dataset)) if pictures is None else pictures
    image_ids = [dataset.image_ids[place] for place in chosen]
    figures = score(dataset.annotation_file, results, image_ids=image_ids)
    return Report(
        figures=figures,
        dataset=dataset_card(dataset, chosen),
        model=model_name,
        settings={"max_detections": list(MAX_DETECTIONS), **settings},
        predictions=() if isinstance(results, Path) else results,
        command=command,
    )


def dataset_card(dataset: PreparedDataset, pictures: Sequence[int]) -> DatasetCard:
    """What a report says of the set it was made on, and of the places of the pictures that were used."""
    return DatasetCard(
        name=dataset.annotation_file.parent.name,
        split=dataset.annotation_file.stem,
        annotations=str(dataset.annotation_file),
        fingerprint=dataset.fingerprint,
        pictures=len(dataset),
        scored=len(set(pictures)),
    )
