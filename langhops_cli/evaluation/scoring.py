"""Score the results of a prepared set, from a file or from memory; neither a model nor PyTorch is loaded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from langhops_cli.data.index import PreparedDataset
from langhops_cli.evaluation.confusion import NameConfusion
from langhops_cli.evaluation.consistency import Consistency
from langhops_cli.evaluation.instances.instance_ap import MAX_DETECTIONS, score_pictures
from langhops_cli.evaluation.instances.matching import Backend
from langhops_cli.evaluation.instances.stream import PictureCounter, scored_pictures
from langhops_cli.evaluation.pictures import PictureQuality
from langhops_cli.evaluation.prompted import PromptedIoU
from langhops_cli.evaluation.report import (
    CONFUSION,
    CONSISTENCY,
    INSTANCE_AP,
    PICTURES,
    PROMPTED,
    DatasetCard,
    Report,
    Section,
)


class _Counter(PictureCounter, Protocol):
    def result(self) -> Section:
        """The figures of the pictures that were seen."""


def score_results(
    results: Path | Iterable[Mapping[str, Any]],
    dataset: PreparedDataset,
    *,
    pictures: Sequence[int] | None = None,
    max_detections: int = MAX_DETECTIONS,
    backend: Backend = "pycocotools",
    settings: Mapping[str, Any] | None = None,
    model_name: str = "a model in memory",
    command: str = "",
    asked: bool = False,
) -> Report:
    """Score COCO results of a prepared set, in one pass over its pictures.

    Args:
        results: of this or of any other system, with the set's image and category ids; or their file.
        dataset: a prepared set.
        pictures: places of the pictures to use, 0 .. len - 1; all when left out.
        max_detections: 100 or 300 results of a name count in a picture.
        backend: what compares the masks, "pycocotools" or "hotcoco".
        settings: how the results came to be, for the report.
        model_name, command: for the report.
        asked: whether the results come from a model that was asked for the set's names, so that it can be said which
            of the annotated names it was not asked for.

    Returns:
        The report: instance AP, how well results hang together, which names are taken for which, and each picture; of
        a truth that is not exhaustive also how well names are segmented where they are annotated.

    Raises:
        UserError: the results or an entry of them cannot be scored; the first wrong ones are named.
    """
    chosen = range(len(dataset)) if pictures is None else pictures
    image_ids = [dataset.image_ids[place] for place in chosen]
    stream = scored_pictures(dataset.annotation_file, results, image_ids=image_ids)
    counters: dict[str, _Counter] = {
        CONSISTENCY: Consistency(stream.categories),
        CONFUSION: NameConfusion(stream.categories),
        PICTURES: PictureQuality(),
    }
    if not stream.exhaustive:  # where all is annotated, AP says more
        counters = {PROMPTED: PromptedIoU(stream.categories), **counters}
    figures = score_pictures(stream, max_detections=max_detections, backend=backend, counters=[*counters.values()])
    known = {("object", name) for name in dataset.vocabulary.object_names}
    known |= {("part", part.text) for part in dataset.vocabulary.part_classes}
    not_asked = [row.name for row in figures.per_name if (row.level, row.name) not in known] if asked else []
    return Report(
        protocol=INSTANCE_AP,
        dataset=DatasetCard.of(dataset, chosen),
        model=model_name,
        figures=figures,
        sections={name: counter.result() for name, counter in counters.items()},
        settings={"max_detections": max_detections, "backend": backend, **(settings or {})},
        results=str(results) if isinstance(results, Path) else "",
        command=command,
        not_asked=not_asked,
    )
