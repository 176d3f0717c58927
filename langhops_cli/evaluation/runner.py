"""Run a model over a prepared set, picture by picture; masks are run-length encoded at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch import nn

from langhops_cli.data.canvas import to_canvas
from langhops_cli.data.index import PreparedDataset, check_size
from langhops_cli.data.pictures import read_picture
from langhops_cli.data.prepare import read_report
from langhops_cli.errors import DATA, UserError
from langhops_cli.evaluation.instances.instance_ap import InstanceAP, score
from langhops_cli.evaluation.predictions import ALONE, Ranks, Result, write_predictions
from langhops_cli.model.configuration import ModelConfig
from langhops_cli.model.structures import VocabularyBatch
from langhops_cli.prediction.postprocess import coco_results
from langhops_cli.prediction.predictor import resize

if TYPE_CHECKING:
    from langhops_cli.evaluation.vocabulary_change import VocabularyChange
    from langhops_cli.vocabulary import Vocabulary

MAX_OBJECTS = 20
MAX_PARTS = 100
"""(name, query) pairs of a picture that are scored at each level, as published for all sets but PartImageNet."""
PARTIMAGENET_LIMITS = 5, 95

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
) -> InstanceAP:
    """Predict the pictures of a set with all of its names and score the results, which nothing is written of.

    Args:
        model: as `LangHOPSModel`; its mode is put back afterwards, and it stays on its device.
        dataset: a prepared set.
        config: what the model was built from: the size of its pictures and how its parts are asked for and scored.
        pictures: places of the pictures to use, 0 .. len - 1; all when left out.
        max_objects, max_parts: (name, query) pairs of a picture that are scored at each level.
        hierarchical: multiply the score of a part by the square root of its object's.

    Raises:
        UserError: a picture cannot be read, or the annotations do not fit the set's names.
    """
    chosen = range(len(dataset)) if pictures is None else pictures
    found = predict_dataset(
        model,
        dataset,
        config=config,
        pictures=chosen,
        max_objects=max_objects,
        max_parts=max_parts,
        hierarchical=hierarchical,
    )
    image_ids = [dataset.image_ids[place] for place in chosen]
    return score(dataset.annotation_file, chain.from_iterable(found), image_ids=image_ids)


def predict_to_file(
    model: nn.Module,
    dataset: PreparedDataset,
    path: Path,
    *,
    config: ModelConfig,
    pictures: Sequence[int],
    max_objects: int = MAX_OBJECTS,
    max_parts: int = MAX_PARTS,
    vocabulary: VocabularyChange | None = None,
    ranks: Ranks = ALONE,
    watch: Watch | None = None,
) -> None:
    """Predict pictures of a set into a file of COCO results, together with the other ranks.

    Args:
        model, dataset, config, max_objects, max_parts: as in `evaluate_model`.
        path: the file; all ranks return once it is there.
        pictures: places of the pictures of all ranks together, in the order of the file.
        vocabulary: ask for these names instead of the set's own.
        ranks: the processes that do so.
        watch: goes through the places and may show how far it is.

    Raises:
        UserError: a picture cannot be read, or the annotations do not fit the set's names.
    """
    share = ranks.share(pictures)
    found = predict_dataset(
        model,
        dataset,
        config=config,
        pictures=watch(share, len(share)) if watch else share,
        max_objects=max_objects,
        max_parts=max_parts,
        vocabulary=vocabulary,
    )
    write_predictions(path, found, ranks)


def predict_dataset(
    model: nn.Module,
    dataset: PreparedDataset,
    *,
    config: ModelConfig,
    pictures: Iterable[int],
    max_objects: int = MAX_OBJECTS,
    max_parts: int = MAX_PARTS,
    hierarchical: bool = False,
    vocabulary: VocabularyChange | None = None,
) -> Iterator[list[Result]]:
    """Find the names of a set in some of its pictures; arguments as in `evaluate_model`.

    One picture at a time: padding costs nothing, and no more than one picture's masks are in memory.

    Args:
        vocabulary: ask for these names instead; results of a name that stands for none of the set's are left out.

    Yields:
        The COCO results of each picture.
    """
    asked, objects, parts = _names(dataset, vocabulary)
    widths, heights = dataset.column("width"), dataset.column("height")
    table = VocabularyBatch.of([asked], queries_per_part=config.hierarchy.queries_per_part)
    device = next(model.parameters()).device
    table = table.to(device)
    training = model.training
    model.eval()
    try:
        for place in pictures:
            image = _read(dataset.image_path(place), (widths[place].as_py(), heights[place].as_py()))
            resized = resize(image, config.preprocessing)
            canvas = to_canvas([resized], tower_size=config.refiner.image_size)
            # Not inference mode: what the model remembers of names must stay usable in training.
            with torch.no_grad():
                output = model(canvas.to(device), table)
            yield coco_results(
                output,
                sizes=[resized.shape[:2]],
                originals=[(image.height, image.width)],
                image_ids=[dataset.image_ids[place]],
                object_categories=objects,
                part_categories=parts,
                part_objects=[part.object for part in asked.part_classes],
                max_objects=max_objects,
                max_parts=max_parts,
                part_scoring=config.part_scoring,
                hierarchical=hierarchical,
            )
    finally:
        model.train(training)


def published_limits(dataset: PreparedDataset) -> tuple[int, int]:
    """How many (name, query) pairs of objects and of parts are scored in a picture, as published for this set."""
    kind = str((read_report(dataset.root) or {}).get("kind"))
    return PARTIMAGENET_LIMITS if kind.startswith("partimagenet") else (MAX_OBJECTS, MAX_PARTS)


def prediction_settings(config: ModelConfig, *, max_objects: int, max_parts: int) -> dict[str, Any]:
    """What a report says of how a model's results came to be."""
    return {
        "shortest": config.preprocessing.shortest,
        "longest": config.preprocessing.longest,
        "max_objects": max_objects,
        "max_parts": max_parts,
        "part_scoring": config.part_scoring,
        "queries_per_part": config.hierarchy.queries_per_part,
        "max_queries": config.hierarchy.max_queries,
    }


def _read(path: Path, annotated: tuple[int, int]) -> Image.Image:
    image = read_picture(path)
    check_size(path, image.size, annotated, reduced=False)
    return image


def category_ids(dataset: PreparedDataset) -> tuple[list[int], list[int]]:
    """Return the category id of every object name and of every part name, in the vocabulary's order.

    Raises:
        UserError: a name of the set's hierarchy is no category of its annotations.
    """
    known = {(owner, part): number for number, owner, part in dataset.categories}
    names = dataset.vocabulary.object_names
    wanted: list[tuple[str, str | None]] = [(name, None) for name in names]
    wanted += [(names[part.object], part.name) for part in dataset.vocabulary.part_classes]
    for owner, part in wanted:
        if (owner, part) not in known:
            raise UserError(
                f"{dataset.annotation_file} has no category {owner if part is None else f'{owner} {part}'!r}, which "
                "hierarchy.yaml names. Prepare the set again.",
                code=DATA,
            )
    ids = [known[name] for name in wanted]
    return ids[: len(names)], ids[len(names) :]


def _names(
    dataset: PreparedDataset, change: VocabularyChange | None
) -> tuple[Vocabulary, list[int | None], list[int | None]]:
    """The vocabulary to ask for, and the category ids of its objects and of its parts."""
    objects, parts = category_ids(dataset)
    if change is None:
        return dataset.vocabulary, [*objects], [*parts]
    return (
        change.vocabulary,
        [None if number is None else objects[number] for number in change.objects],
        [None if number is None else parts[number] for number in change.parts],
    )
