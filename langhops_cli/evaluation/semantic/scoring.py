"""Score maps of parts on disk, of this or any other system; neither a model nor PyTorch is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from langhops_cli.data.index import PreparedDataset
from langhops_cli.errors import DATA, UserError
from langhops_cli.evaluation.semantic.boundary import BoundaryCounts
from langhops_cli.evaluation.semantic.files import Key, MapReader, refuse
from langhops_cli.evaluation.semantic.hiou import (
    Confusion,
    SemanticHIoU,
    Setting,
    score_means,
    score_ovparts,
    score_strict,
    unseen_parts,
)
from langhops_cli.evaluation.semantic.records import LabelMap, PictureRecords, Record, RecordReader
from langhops_cli.evaluation.semantic.splits import ScoredNames, scored_names

if TYPE_CHECKING:
    from langhops_cli.evaluation.runner import Watch


def score_semantic_files(
    folder: Path,
    dataset: PreparedDataset,
    *,
    names: ScoredNames | None = None,
    pictures: Sequence[int] | None = None,
    boundary: bool = False,
    watch: Watch | None = None,
) -> SemanticHIoU:
    """Score a folder of maps, whatever made them; `semantic_files` says what it holds.

    Args:
        folder, dataset: the maps, and the prepared set that they are of.
        names, pictures, boundary, watch: as in `evaluate_semantic`.

    Raises:
        UserError: the folder is no such folder, lacks a map or holds one that is not of the set, or there is nothing to
            score.
    """
    names = names or scored_names(dataset)
    chosen = range(len(dataset)) if pictures is None else pictures
    maps = MapReader(folder, names=names.parts, image_ids=dataset.image_ids)
    records = RecordReader(dataset, names)
    wrong: list[str] = []
    for place in chosen:  # all that can be seen without opening a map, before any is opened
        found = records[place]
        keys = _keys(found, maps.setting)
        wrong += maps.check(found.image_id, keys)
    refuse(maps.path, wrong)
    tally = _Tally(names, maps, boundary=boundary)
    for place in watch(chosen, len(chosen)) if watch else chosen:
        tally.add(records[place])
    if not tally.records:
        raise UserError(
            f"{dataset.root}: none of the {len(chosen):,} pictures has an annotated part to score", code=DATA
        )
    return tally.result(exhaustive=dataset.exhaustive)


def _keys(found: PictureRecords, setting: Setting) -> list[Key]:
    """The maps that a picture should have."""
    if setting == "pred-all":
        return [(found.image_id, None, None)] if found.records else []
    return [_key(record) for record in found.records]


def _key(record: Record) -> Key:
    return record.image_id, record.object, record.instance


class _Tally:
    """Counts pictures, one at a time."""

    def __init__(self, names: ScoredNames, maps: MapReader, *, boundary: bool) -> None:
        self.names = names
        self.maps = maps
        self.confusion = Confusion(len(names.parts))
        self.bands = BoundaryCounts(len(names.parts)) if boundary else None
        self.records = self.pictures = self.without_mask = self.unowned = 0

    def add(self, found: PictureRecords) -> None:
        """Count a picture."""
        self.without_mask += found.without_mask
        self.unowned += found.unowned
        self.records += len(found.records)
        self.pictures += bool(found.records)
        if self.maps.setting == "oracle-obj":
            for record in found.records:
                self._add_record(record)
        elif found.records:
            self._add_whole(found)

    def _add_record(self, record: Record) -> None:
        none = len(self.names.parts)
        predicted = self.maps.read(_key(record), record.size)
        predicted[~record.inside()] = none
        strange = np.setdiff1d(predicted, [*record.labels, none])
        if strange.size:
            raise UserError(
                f"{self.maps.path}: {record.title}: its map names {self.names.parts[strange[0]]!r} inside the object, "
                "and with oracle-obj the object is given; nothing was scored",
                code=DATA,
            )
        self._count(predicted, record.truth())

    def _add_whole(self, found: PictureRecords) -> None:
        """Each record on the pixels that it labels; those that none labels once, and not for every record again."""
        none = len(self.names.parts)
        predicted = self.maps.read((found.image_id, None, None), found.size)
        free = np.ones(found.size, dtype=bool)
        for record in found.records:
            true = record.truth()
            labelled = true != none
            self.confusion.add(predicted[labelled], true[labelled])
            free &= ~labelled
        rest = predicted[free]
        self.confusion.add(rest, np.full_like(rest, none))
        if self.bands is not None:
            self.bands.add(predicted, found.truth())

    def _count(self, predicted: LabelMap, true: LabelMap) -> None:
        self.confusion.add(predicted, true)
        if self.bands is not None:
            self.bands.add(predicted, true)

    def result(self, *, exhaustive: bool) -> SemanticHIoU:
        """The figures."""
        unseen = unseen_parts(self.names)
        matrix = self.confusion.matrix
        return SemanticHIoU(
            names=self.names,
            setting=self.maps.setting,
            matrix=matrix,
            ovparts=score_ovparts(matrix, unseen),
            strict=score_strict(matrix, unseen),
            boundary=None if self.bands is None else score_means(self.bands.iou(), unseen),
            records=self.records,
            pictures=self.pictures,
            without_mask=self.without_mask,
            unowned=self.unowned,
            exhaustive=exhaustive,
            made_by=self.maps.made_by,
        )
