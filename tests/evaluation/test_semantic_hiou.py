"""The confusion matrix and its two readings, against counting pixel by pixel and against figures worked out by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest

from langhops_cli.evaluation.semantic.hiou import (
    Confusion,
    SemanticHIoU,
    harmonic_mean,
    score_means,
    score_ovparts,
    score_strict,
    unseen_parts,
)
from langhops_cli.evaluation.semantic.splits import ScoredNames
from langhops_cli.vocabulary import parse_vocabulary

ALL_SEEN = np.zeros(1, bool)


def count_pixels(pairs, names, unseen):
    """Both scores by loops over pixels, from the protocol's words; figures as (seen, unseen, harmonic)."""
    pixels = [(int(p), int(t)) for predicted, true in pairs for p, t in zip(predicted.flat, true.flat, strict=True)]
    scores = {}
    for score in ("ovparts", "strict"):
        ious, alive = {}, set()
        for name in range(names):
            both = predicted_only = true_only = 0
            for p, t in pixels:
                if score == "ovparts" and names in (p, t):
                    continue
                both += p == name and t == name
                predicted_only += p == name and t != name
                true_only += t == name and p != name
            if both + true_only:
                ious[name] = both / (both + predicted_only + true_only)
            if both + true_only or (score == "ovparts" and predicted_only):
                alive.add(name)
        means = []
        for wanted in (False, True):
            chosen = [name for name in alive if unseen[name] == wanted]
            total = sum(iou for name, iou in ious.items() if unseen[name] == wanted)
            means.append(total / len(chosen) if chosen else None)
        seen, novel = means
        both_there = seen is not None and novel is not None
        harmonic = (2 * seen * novel / (seen + novel) if seen + novel else 0.0) if both_there else None
        scores[score] = seen, novel, harmonic
    return scores


@pytest.mark.parametrize("seed", range(40))
def test_both_scores_equal_counting_pixel_by_pixel(seed):
    random = np.random.default_rng(seed)
    names = int(random.integers(1, 7))
    unseen = random.random(names) < 0.4
    confusion, pairs = Confusion(names), []
    for _ in range(int(random.integers(1, 4))):
        size = random.integers(1, 12, 2)
        true = random.integers(0, names + 1, size).astype(np.uint16)
        guess = random.integers(0, names + 1, size).astype(np.uint16)
        predicted = np.where(random.random(size) < 0.6, true, guess)
        confusion.add(predicted, true)
        pairs.append((predicted, true))
    expected = count_pixels(pairs, names, unseen)
    for score, read in (("ovparts", score_ovparts), ("strict", score_strict)):
        found = read(confusion.matrix, unseen)
        assert (found.seen, found.unseen, found.harmonic) == pytest.approx(expected[score], nan_ok=False)


def test_abstaining_costs_nothing_in_the_published_score():
    """Right on one of three pixels and silent on two: 1.0 as published, 1/3 strictly."""
    confusion = Confusion(1)
    confusion.add(np.array([[1, 1, 0]]), np.array([[0, 0, 0]]))
    assert confusion.matrix.tolist() == [[1, 0], [2, 0]]
    assert score_ovparts(confusion.matrix, ALL_SEEN).seen == 1.0
    assert score_strict(confusion.matrix, ALL_SEEN).seen == pytest.approx(1 / 3)


def test_a_false_name_on_an_unlabelled_pixel_costs_nothing_in_the_published_score():
    confusion = Confusion(1)
    confusion.add(np.array([0, 0, 0, 0]), np.array([0, 1, 1, 1]))
    assert score_ovparts(confusion.matrix, ALL_SEEN).seen == 1.0
    assert score_strict(confusion.matrix, ALL_SEEN).seen == 0.25


def test_published_arithmetic_by_hand():
    """Four names and none. The fourth is nowhere true: as published it thins out the mean of its set."""
    matrix = np.array(
        [
            # true: 0   1   2   3  none
            [60, 10, 0, 0, 50],
            [20, 30, 0, 0, 7],
            [0, 0, 5, 0, 0],
            [0, 0, 5, 0, 90],
            [20, 0, 30, 0, 1000],
        ]
    )
    unseen = np.array([False, False, True, True])
    ovparts = score_ovparts(matrix, unseen)
    # 0: 60 / (80 + 70 - 60); 1: 30 / (40 + 50 - 30); 2: 5 / (10 + 5 - 5)
    assert ovparts.iou[:3] == pytest.approx([2 / 3, 1 / 2, 1 / 2])
    assert np.isnan(ovparts.iou[3])
    assert (ovparts.seen, ovparts.unseen) == pytest.approx((7 / 12, 1 / 4))
    assert ovparts.harmonic == pytest.approx(2 * (7 / 12) * (1 / 4) / (7 / 12 + 1 / 4))
    assert ovparts.all == pytest.approx((2 / 3 + 1 / 2 + 1 / 2) / 4)
    strict = score_strict(matrix, unseen)
    # 0: 60 / (100 + 120 - 60); 1: 30 / (40 + 57 - 30); 2: 5 / (40 + 5 - 5)
    assert strict.iou[:3] == pytest.approx([3 / 8, 30 / 67, 1 / 8])
    assert (strict.seen, strict.unseen) == pytest.approx(((3 / 8 + 30 / 67) / 2, 1 / 8))


@pytest.mark.parametrize(
    ("pair", "mean"), [((0.5, 0.5), 0.5), ((0.6, 0.3), 0.4), ((0.0, 0.9), 0.0), ((0.0, 0.0), 0.0), ((None, 0.4), None)]
)
def test_harmonic_mean(pair, mean):
    assert harmonic_mean(*pair) == (None if mean is None else pytest.approx(mean))


def test_a_set_without_unseen_names_has_no_harmonic_mean():
    scores = score_strict(np.array([[4, 0], [0, 9]]), ALL_SEEN)
    assert (scores.seen, scores.unseen, scores.harmonic, scores.all) == (1.0, None, None, 1.0)


def test_labels_that_stand_for_nothing_are_refused():
    with pytest.raises(ValueError, match="beyond the 2 names"):
        Confusion(2).add(np.array([3]), np.array([0]))
    with pytest.raises(ValueError, match="shape"):
        Confusion(2).add(np.array([1, 1]), np.array([0]))


def make_section(**more):
    names = ScoredNames(parse_vocabulary("car:wheel,door; dog:head"), unseen=frozenset({"dog"}), benchmark="cats")
    matrix = np.array([[6, 0, 0, 2], [0, 0, 0, 0], [0, 0, 3, 0], [2, 0, 1, 5]])
    unseen = unseen_parts(names)
    return SemanticHIoU(
        names=names,
        setting="pred-all",
        matrix=matrix,
        ovparts=score_ovparts(matrix, unseen),
        strict=score_strict(matrix, unseen),
        boundary=score_means(np.array([0.5, np.nan, 0.25]), unseen),
        records=2,
        pictures=1,
        **more,
    )


def test_a_section_of_a_report():
    section = make_section(exhaustive=False, unowned=3)
    assert section.rows() == [
        ["pred-all", "seen", "unseen", "h", "all"],
        ["ovparts", "100.0", "100.0", "100.0", "100.0"],
        ["strict", "60.0", "75.0", "66.7", "67.5"],
        ["boundary", "50.0", "25.0", "33.3", "37.5"],
    ]
    assert section.name_rows()[1:] == [
        ["car wheel", "seen", "100.0", "60.0", "50.0"],
        ["car door", "seen", "-", "-", "-"],
        ["dog head", "unseen", "100.0", "75.0", "25.0"],
    ]
    content = json.loads(json.dumps(section.to_dict(), allow_nan=False))
    assert content["names"] == {"seen": 2, "unseen": 1}
    assert content["strict"]["h"] == pytest.approx(2 / 3)
    assert content["per_name"][2] == {
        "name": "dog head",
        "object": "dog",
        "unseen": True,
        "ovparts": 1.0,
        "strict": 0.75,
        "boundary": 0.25,
        "true_pixels": 4,
        "predicted_pixels": 3,
    }
    text = " ".join(section.notes())
    for words in ("nothing is given", "2 seen and 1 unseen parts (cats)", "not exhaustive", "3 annotated parts"):
        assert words in text
