"""Semantic hIoU of parts: one confusion matrix over all pixels, read in two ways.

`ovparts` reads it as the published evaluations do, whose figures it is comparable to: predictions and truth are summed
over labelled pixels with a prediction only, so that abstaining costs nothing, nor does a false name on an unlabelled
pixel; and the mean of a set of names is the sum of the IoUs of those with truth, divided by the number of those with
truth or predictions. `strict` lets both cost, and takes the mean over the names with truth.

Source: OV-PARTS, arXiv 2310.05107; EVALUATION.md, "Semantic hIoU (OV-PARTS protocol)".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from langhops_cli.evaluation.semantic.splits import ScoredNames

Setting = Literal["oracle-obj", "pred-all"]
"""`oracle-obj`: mask and name of the object are given. `pred-all`: nothing is."""
Values = NDArray[np.float64]


class Confusion:
    """How many pixels of each predicted label have each true one.

    Args:
        names: K, how many names there are; the label K stands for none of them, in predictions and in truth.
    """

    def __init__(self, names: int) -> None:
        self.names = names
        self.matrix: NDArray[np.int64] = np.zeros((names + 1, names + 1), np.int64)
        """(K + 1, K + 1): predicted label, true label."""

    def add(self, predicted: NDArray[Any], true: NDArray[Any]) -> None:
        """Count pixels: labels 0..K of one shape, predicted and true.

        Raises:
            ValueError: the shapes differ, or a label is beyond K.
        """
        if predicted.shape != true.shape:
            raise ValueError(f"predicted labels have shape {predicted.shape}, true ones {true.shape}")
        side = self.names + 1
        if predicted.size and max(int(predicted.max()), int(true.max())) > self.names:
            raise ValueError(f"a label is beyond the {self.names} names")
        pairs = predicted.astype(np.int64).ravel() * side + true.ravel()
        self.matrix += np.bincount(pairs, minlength=side * side).reshape(side, side)


@dataclass(frozen=True)
class SetScores:
    """mIoU of the seen and of the unseen names, and the harmonic mean of the two; shares, None where there is none.

    Args:
        seen, unseen: mIoU; harmonic: of both, hIoU.
        all: mIoU of all names together.
        iou: of each name, (K,); NaN where it does not count.
    """

    seen: float | None
    unseen: float | None
    harmonic: float | None
    all: float | None
    iou: Values


def score_ovparts(matrix: NDArray[np.int64], unseen: NDArray[np.bool_]) -> SetScores:
    """Score a confusion matrix as the published evaluations do.

    Args:
        matrix: predicted and true label, (K + 1, K + 1); the last stands for none.
        unseen: which names are, (K,).
    """
    inner = matrix[:-1, :-1]
    right = inner.diagonal()
    true, predicted = inner.sum(axis=0), inner.sum(axis=1)
    with_truth = true > 0
    iou = np.where(with_truth, right / np.maximum(true + predicted - right, 1), np.nan)
    return _sets(iou, with_truth, (true + predicted) > 0, unseen)


def score_strict(matrix: NDArray[np.int64], unseen: NDArray[np.bool_]) -> SetScores:
    """Score a confusion matrix so that abstaining and false names on unlabelled pixels cost; as `score_ovparts`."""
    right = matrix.diagonal()[:-1]
    true, predicted = matrix[:, :-1].sum(axis=0), matrix[:-1].sum(axis=1)
    with_truth = true > 0
    iou = np.where(with_truth, right / np.maximum(true + predicted - right, 1), np.nan)
    return _sets(iou, with_truth, with_truth, unseen)


def score_means(iou: Values, unseen: NDArray[np.bool_]) -> SetScores:
    """Plain means of values that stand for themselves, such as boundary IoUs; NaN does not count."""
    there = ~np.isnan(iou)
    return _sets(iou, there, there, unseen)


def _sets(iou: Values, summed: NDArray[np.bool_], counted: NDArray[np.bool_], unseen: NDArray[np.bool_]) -> SetScores:
    def mean(chosen: NDArray[np.bool_]) -> float | None:
        count = int((counted & chosen).sum())
        return float(iou[summed & chosen].sum()) / count if count else None

    seen, novel = mean(~unseen), mean(unseen)
    return SetScores(seen, novel, harmonic_mean(seen, novel), mean(np.ones_like(unseen)), iou)


def harmonic_mean(first: float | None, second: float | None) -> float | None:
    """Of two shares; 0 where both are 0, None where one is missing."""
    if first is None or second is None:
        return None
    return 2 * first * second / (first + second) if first + second else 0.0


@dataclass(frozen=True)
class SemanticHIoU:
    """The semantic figures of a set: a section of a report.

    Args:
        names: what was scored, and which of it is unseen.
        setting: "oracle-obj" or "pred-all".
        matrix: the confusion matrix, (K + 1, K + 1).
        ovparts, strict: what it says.
        boundary: boundary IoU, counted strictly; None where it was not asked for.
        records: how many were scored; pictures: in how many pictures.
        without_mask: records left out, for a part has a box only; unowned: parts left out that belong to no object.
        exhaustive: whether every part was annotated.
        made_by: how the maps came to be, as their folder says.
    """

    names: ScoredNames
    setting: Setting
    matrix: NDArray[np.int64]
    ovparts: SetScores
    strict: SetScores
    boundary: SetScores | None
    records: int
    pictures: int
    without_mask: int = 0
    unowned: int = 0
    exhaustive: bool = True
    made_by: Mapping[str, Any] = field(default_factory=dict)

    def scores(self) -> dict[str, SetScores]:
        """The scores by their names."""
        scores = {"ovparts": self.ovparts, "strict": self.strict}
        return scores if self.boundary is None else {**scores, "boundary": self.boundary}

    def to_dict(self) -> dict[str, Any]:
        """Return plain values: shares in 0..1, pixels; None where a name has no figure."""
        unseen, novel = self.names.unseen, unseen_parts(self.names)
        true, predicted = self.matrix.sum(axis=0)[:-1], self.matrix.sum(axis=1)[:-1]
        rows = [
            {
                "name": name,
                "object": owner,
                "unseen": owner in unseen,
                **{key: _plain(scores.iou[number]) for key, scores in self.scores().items()},
                "true_pixels": int(true[number]),
                "predicted_pixels": int(predicted[number]),
            }
            for number, (name, owner) in enumerate(zip(self.names.parts, self.names.owners, strict=True))
        ]
        return {
            "setting": self.setting,
            "benchmark": self.names.benchmark,
            "unseen_objects": sorted(unseen),
            "names": {"seen": int((~novel).sum()), "unseen": int(novel.sum())},
            "record": "an object name of a picture" if self.names.records == "class" else "an object of a picture",
            "records": self.records,
            "pictures": self.pictures,
            **{
                key: {"seen": s.seen, "unseen": s.unseen, "h": s.harmonic, "all": s.all}
                for key, s in self.scores().items()
            },
            "per_name": rows,
            "made_by": dict(self.made_by),
            "left_out": {"records_without_mask": self.without_mask, "parts_of_no_object": self.unowned},
        }

    def rows(self) -> list[list[str]]:
        """Return a table of finished texts, its head first: a row for each score, in percent."""
        from langhops_cli.evaluation.tables import percent

        head = [self.setting, "seen", "unseen", "h", "all"]
        body = [[key, *map(percent, (s.seen, s.unseen, s.harmonic, s.all))] for key, s in self.scores().items()]
        return [head, *body]

    def name_rows(self) -> list[list[str]]:
        """Return the table of names, its head first: IoU in percent; an unseen name is marked."""
        from langhops_cli.evaluation.tables import percent

        scores = self.scores()
        table = [["name", "set", *scores]]
        for number, (name, owner) in enumerate(zip(self.names.parts, self.names.owners, strict=True)):
            shares = (percent(_plain(item.iou[number])) for item in scores.values())
            table.append([name, "unseen" if owner in self.names.unseen else "seen", *shares])
        return table

    def notes(self) -> list[str]:
        """Return what has to be known to read the figures, one sentence each."""
        unseen = int(unseen_parts(self.names).sum())
        seen = len(self.names.parts) - unseen
        given = "mask and name of the object are given" if self.setting == "oracle-obj" else "nothing is given"
        of = self.names.benchmark or ("" if unseen else "no split is known: all names are seen")
        split = f"{seen} seen and {unseen} unseen parts" + (f" ({of})" if of else "")
        lines = [
            f"{self.setting}: {given}; {split}; {self.records:,} records of {self.pictures:,} pictures.",
            "ovparts is the published arithmetic, in which abstaining and false names on unlabelled pixels cost "
            "nothing; in strict both cost.",
        ]
        if not self.exhaustive:
            lines.append(
                "The truth is not exhaustive: strict also counts names on pixels that nobody labelled as false."
            )
        if self.without_mask:
            lines.append(f"{self.without_mask:,} records are left out: they have parts without a mask.")
        if self.unowned:
            lines.append(f"{self.unowned:,} annotated parts belong to no annotated object and are left out.")
        return lines


def unseen_parts(names: ScoredNames) -> NDArray[np.bool_]:
    """Which of the scored parts belong to an unseen object, (K,)."""
    return np.array([owner in names.unseen for owner in names.owners], dtype=bool)


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
