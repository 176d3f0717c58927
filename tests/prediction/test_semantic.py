"""Maps of parts, made band by band, against the scores of the whole picture."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from langhops_cli.model.structures import Predictions
from langhops_cli.prediction import semantic
from langhops_cli.prediction.postprocess import PictureOutput
from langhops_cli.prediction.semantic import MAX_QUERIES, Wanted, part_maps, semantic_scores

OBJECTS, PARTS = 3, 5
SIZE, ORIGINAL = (48, 64), (37, 90)


def make_picture(seed, *, queries=7):
    generator = torch.Generator().manual_seed(seed)

    def answers(count, names):
        masks = 4 * torch.randn(count, SIZE[0] // 4, SIZE[1] // 4, generator=generator)
        return Predictions(2 * torch.randn(count, names, generator=generator), torch.rand(count, 4), masks)

    none = torch.zeros(0, dtype=torch.long)
    parts = None if queries is None else answers(queries, PARTS)
    return PictureOutput(answers(4, OBJECTS), none, none, none.float(), parts, none, none, SIZE, ORIGINAL)


def published_scores(picture):
    """Object and part queries together, with the names of both, (parts, height, width)."""
    parts, objects = picture.parts, picture.objects
    own = torch.cat([objects.logits, torch.full((len(objects.logits), PARTS), -torch.inf)], dim=1)
    theirs = torch.cat([torch.full((len(parts.logits), OBJECTS), -torch.inf), parts.logits], dim=1)
    masks = torch.cat([objects.masks, parts.masks])
    return semantic_scores(torch.cat([own, theirs]), masks, size=SIZE, original=ORIGINAL)[OBJECTS:]


@pytest.mark.parametrize("seed", range(4))
def test_maps_are_those_of_all_queries_and_names_together(seed, monkeypatch):
    """The object queries change no map, and neither do the bands."""
    picture = make_picture(seed)
    inside = np.random.default_rng(seed).random(ORIGINAL) < 0.5
    inside[:9] = False
    wanted = [Wanted(range(PARTS)), Wanted(range(2, 4), inside)]
    scores = published_scores(picture)
    expected = scores.argmax(0).numpy(), np.where(inside, scores[2:4].argmax(0).numpy() + 2, PARTS)
    whole = part_maps(picture, wanted, names=(OBJECTS, PARTS))
    monkeypatch.setattr(semantic, "_VALUES", 7 * ORIGINAL[1] * 4)
    banded = part_maps(picture, wanted, names=(OBJECTS, PARTS))
    for found in (whole, banded):
        for labels, right in zip(found, expected, strict=True):
            assert labels.shape == ORIGINAL
            assert (labels != right).mean() < 0.002, "two scores may be equal but for rounding"
            assert ((labels == PARTS) == (right == PARTS)).all()


def test_abstaining_below_a_score():
    picture = make_picture(1)
    scores = semantic_scores(
        torch.nn.functional.pad(picture.parts.logits, (OBJECTS, 0), value=-torch.inf),
        picture.parts.masks,
        size=SIZE,
        original=ORIGINAL,
    )[OBJECTS:]
    (labels,) = part_maps(picture, [Wanted(range(PARTS))], names=(OBJECTS, PARTS), abstain_below=1.0)
    silent = (scores.amax(0) < 1.0).numpy()
    assert 0 < silent.mean() < 1
    assert ((labels == PARTS) != silent).mean() < 0.002


@pytest.mark.parametrize("queries", [None, 0])
def test_where_no_query_says_anything_the_first_part_is_named(queries):
    inside = np.zeros(ORIGINAL, bool)
    inside[5:9, 5:9] = True
    (labels,) = part_maps(make_picture(0, queries=queries), [Wanted(range(2, 5), inside)], names=(OBJECTS, PARTS))
    assert (labels[inside] == 2).all()
    assert (labels[~inside] == PARTS).all()


def test_only_the_surest_queries_have_a_say():
    many = make_picture(2, queries=MAX_QUERIES + 20)
    surest = many.parts.logits.amax(1).argsort(descending=True)[:MAX_QUERIES]
    few = replace(
        many, parts=Predictions(many.parts.logits[surest], many.parts.boxes[surest], many.parts.masks[surest])
    )
    (labels,) = part_maps(many, [Wanted(range(PARTS))], names=(OBJECTS, PARTS))
    assert (labels != published_scores(few).argmax(0).numpy()).mean() < 0.002
    assert (labels != published_scores(many).argmax(0).numpy()).mean() > 0.002


def test_an_object_without_pixels_names_nothing():
    nothing = np.zeros(ORIGINAL, bool)
    (labels,) = part_maps(make_picture(0), [Wanted(range(2), nothing)], names=(OBJECTS, PARTS))
    assert (labels == PARTS).all()
