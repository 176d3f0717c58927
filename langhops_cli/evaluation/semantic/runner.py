"""Predict maps of parts with a model, write them, and score what is written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch
from torch import nn

from langhops_cli.data.canvas import to_canvas
from langhops_cli.data.index import PreparedDataset, check_size
from langhops_cli.data.pictures import read_picture
from langhops_cli.errors import UserError
from langhops_cli.evaluation.predictions import ALONE, Ranks
from langhops_cli.evaluation.runner import Watch
from langhops_cli.evaluation.semantic.files import Entry, MapWriter
from langhops_cli.evaluation.semantic.hiou import SemanticHIoU, Setting
from langhops_cli.evaluation.semantic.records import PictureRecords, RecordReader
from langhops_cli.evaluation.semantic.scoring import score_semantic_files
from langhops_cli.evaluation.semantic.splits import ScoredNames, scored_names
from langhops_cli.model.configuration import ModelConfig
from langhops_cli.model.structures import VocabularyBatch
from langhops_cli.prediction.postprocess import PictureOutput, picture_output
from langhops_cli.prediction.predictor import resize
from langhops_cli.prediction.semantic import MAX_QUERIES, TEMPERATURE, Wanted, part_maps

GROUP = 32
"""Records of a picture whose maps are made at once; each takes three bytes a pixel."""


def evaluate_semantic(
    model: nn.Module,
    dataset: PreparedDataset,
    folder: Path,
    *,
    config: ModelConfig,
    setting: Setting = "oracle-obj",
    names: ScoredNames | None = None,
    pictures: Sequence[int] | None = None,
    boundary: bool = False,
    abstain_below: float = 0.0,
    model_name: str = "a model in memory",
    watch: Watch | None = None,
) -> SemanticHIoU:
    """Predict the maps of a set, write them, and score them.

    Args:
        model: as `LangHOPSModel`; its mode is put back afterwards, and it stays on its device.
        dataset: a prepared set with parts.
        folder: for the maps and their index.
        config: what the model was built from.
        setting: "oracle-obj", where mask and name of the object are given, or "pred-all", where nothing is.
        names: what is scored, and which of it is unseen; as published, or all seen, when left out.
        pictures: places of the pictures to use, 0 .. len - 1; all when left out.
        boundary: measure boundary IoU too.
        abstain_below: as in `predict_semantic`.
        model_name: what the maps' index calls the model.
        watch: goes through the places and may show how far it is.

    Raises:
        UserError: a picture cannot be read, the model knows no parts, or the set has none to score.
    """
    names = names or scored_names(dataset)
    chosen = range(len(dataset)) if pictures is None else pictures
    predict_semantic(
        model,
        dataset,
        folder,
        config=config,
        setting=setting,
        names=names,
        pictures=chosen,
        abstain_below=abstain_below,
        model_name=model_name,
        watch=watch,
    )
    return score_semantic_files(folder, dataset, names=names, pictures=chosen, boundary=boundary)


def predict_semantic(
    model: nn.Module,
    dataset: PreparedDataset,
    folder: Path,
    *,
    config: ModelConfig,
    setting: Setting,
    names: ScoredNames,
    pictures: Sequence[int],
    abstain_below: float = 0.0,
    model_name: str = "a model in memory",
    ranks: Ranks = ALONE,
    watch: Watch | None = None,
) -> None:
    """Write the maps of a set; one picture at a time is in memory. Arguments as in `evaluate_semantic`.

    Args:
        pictures: places of the pictures of all ranks together.
        abstain_below: a pixel whose best part gets a lower score has no name. 0, as published: each that may be named
            is. More flatters `ovparts`, to which abstaining costs nothing.
        ranks: the processes that do so together; all return once the index is there.

    Raises:
        UserError: a picture cannot be read, or the model knows no parts.
    """
    if config.level != "parts":
        raise UserError("this model was trained on objects only: it has no parts whose hIoU could be measured")
    made_by = {
        "model": model_name,
        "shortest": config.preprocessing.shortest,
        "longest": config.preprocessing.longest,
        "temperature": TEMPERATURE,
        "max_queries": MAX_QUERIES,
        "abstain_below": abstain_below,
    }
    writer = MapWriter(folder, setting=setting, names=names.parts, made_by=made_by, ranks=ranks)
    share = ranks.share(pictures)
    predicted = _predict(model, dataset, watch(share, len(share)) if watch else share, config, names)
    training = model.training
    model.eval()
    try:
        writer.finish(_write(writer, found, picture, setting, names, abstain_below) for found, picture in predicted)
    finally:
        model.train(training)


def _predict(
    model: nn.Module, dataset: PreparedDataset, places: Iterable[int], config: ModelConfig, names: ScoredNames
) -> Iterator[tuple[PictureRecords, PictureOutput | None]]:
    """The records of each picture with what the model says of it; of a picture without records it is not asked."""
    device = next(model.parameters()).device
    table = VocabularyBatch.of([names.vocabulary], queries_per_part=config.hierarchy.queries_per_part).to(device)
    counts = len(names.vocabulary.object_names), len(names.parts)
    records = RecordReader(dataset, names)
    for place in places:
        found = records[place]
        if not found.records:
            yield found, None
            continue
        path = dataset.image_path(place)
        image = read_picture(path)
        check_size(path, image.size, found.size[::-1], reduced=False)
        pixels = resize(image, config.preprocessing)
        canvas = to_canvas([pixels], tower_size=config.refiner.image_size)
        with torch.no_grad():
            output = model(canvas.to(device), table)
        height, width = pixels.shape[:2]
        yield found, picture_output(output, 0, names=counts, size=(height, width), original=found.size)


def _write(
    writer: MapWriter,
    found: PictureRecords,
    picture: PictureOutput | None,
    setting: Setting,
    names: ScoredNames,
    abstain_below: float,
) -> list[Entry]:
    """Write the maps of a picture and return their entries."""
    if picture is None:
        return []
    counts = len(names.vocabulary.object_names), len(names.parts)
    if setting == "pred-all":
        (labels,) = part_maps(picture, [Wanted(range(counts[1]))], names=counts, abstain_below=abstain_below)
        return [writer.add(found.image_id, labels)]
    entries = []
    for first in range(0, len(found.records), GROUP):
        group = found.records[first : first + GROUP]
        wanted = [Wanted(record.labels, record.inside()) for record in group]
        maps = part_maps(picture, wanted, names=counts, abstain_below=abstain_below)
        for number, (record, labels) in enumerate(zip(group, maps, strict=True), start=first):
            entries.append(writer.add(found.image_id, labels, number=number, record=record))
    return entries
