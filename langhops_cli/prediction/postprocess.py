"""From what the model says of its queries to instances of a picture, and to results that COCO tools score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from langhops_cli.model.structures import NO_PART, KeptObjects, Output, PartQueries, Predictions
from langhops_cli.prediction.candidates import Candidates, merge_levels, object_limits, part_likelihood, part_limits
from langhops_cli.prediction.masks import crop_to_picture, mask_quality, overlaps, scored_mask, to_original
from langhops_cli.prediction.results import Detection, Prediction, coco_box, encode, json_rle
from langhops_cli.vocabulary import Vocabulary

PartScoring = Literal["tied", "open"]
Level = Literal["all", "object", "part"]

MOST = 0.5
"""Share of a part of a part that must lie inside the part it is attached to."""


@dataclass(frozen=True)
class PictureOutput:
    """One picture's share of the model's output, padding removed; the mask logits stay on the model's device.

    Args:
        objects: logits (Q, Co), boxes (Q, 4), masks (Q, h, w) of the real object queries.
        kept: positions of the kept objects among them, (K,).
        kept_classes, kept_logits: name and logit of each kept object, (K,).
        parts: the same as `objects` of the real part queries, (M, ...); None when no parts were looked for.
        parent: index into `kept` of each part query, (M,).
        name: its own candidate part name, (M,); -1 for a query that has none, which is scored on all names.
        host: index of the part query in whose part it was looked for, -1 where that was the object itself, (M,); None
            where all were.
        size: height and width on the canvas; original: as the picture came.
    """

    objects: Predictions
    kept: Tensor
    kept_classes: Tensor
    kept_logits: Tensor
    parts: Predictions | None
    parent: Tensor
    name: Tensor
    size: tuple[int, int]
    original: tuple[int, int]
    host: Tensor | None = None


def picture_output(
    output: Output, index: int, *, names: tuple[int, int], size: tuple[int, int], original: tuple[int, int]
) -> PictureOutput:
    """Take one picture out of a batch.

    Args:
        output: the model's answer.
        index: which picture.
        names: how many object names and part names its vocabulary has.
        size: its height and width on the canvas in pixels.
        original: its height and width as it came, in pixels.

    Raises:
        ValueError: the output holds no masks.
    """
    real = output.objects.valid[index]
    objects = _real(output.objects.final, index, real, names[0], size)
    # The kept objects are numbered among all queries, here among the real ones.
    position = real.cumsum(0) - 1
    kept: KeptObjects = output.kept
    there = kept.valid[index] & real[kept.index[index]]
    # A part query's parent moves with it; parents that are not there become -1.
    renumbered = torch.where(there, there.cumsum(0) - 1, -1)
    parts, parent, name, host = _part_output(output, index, names[1], size, renumbered)
    return PictureOutput(
        objects,
        position[kept.index[index][there]],
        kept.classes[index][there],
        kept.scores[index][there].float(),
        parts,
        parent,
        name,
        size,
        original,
        host,
    )


def _part_output(
    output: Output, index: int, names: int, size: tuple[int, int], renumbered: Tensor
) -> tuple[Predictions | None, Tensor, Tensor, Tensor | None]:
    queries: PartQueries | None = output.part_queries
    if queries is None or output.parts is None or not names or not len(renumbered):
        nothing = torch.zeros(0, dtype=torch.long)
        return None, nothing, nothing, None
    real = queries.valid[index] & output.parts.valid[index] & (renumbered[queries.parent[index]] >= 0)
    real = real & (queries.name[index] != NO_PART)
    parts = _real(output.parts.final, index, real, names, size)
    host = None
    if queries.host is not None:  # hosts are numbered among all part queries, here among the real ones
        above = queries.host[index][real]
        host = torch.where(above < 0, -1, (real.cumsum(0) - 1)[above.clamp(min=0)])
    return parts, renumbered[queries.parent[index][real]], queries.name[index][real], host


def _real(predictions: Predictions, index: int, real: Tensor, names: int, size: tuple[int, int]) -> Predictions:
    if predictions.masks is None:
        raise ValueError("the model's output holds no masks, so no instances can be made of it")
    logits = predictions.logits[index, :, :names][real].float()
    masks = crop_to_picture(predictions.masks[index], size)[real]
    return Predictions(logits, predictions.boxes[index][real].float(), masks)


def predict_instances(
    picture: PictureOutput,
    vocabulary: Vocabulary,
    *,
    picture_name: str = "",
    min_score: float = 0.3,
    part_scoring: PartScoring = "tied",
    hierarchical: bool = True,
    level: Level = "all",
    max_objects: int | None = None,
) -> Prediction:
    """Turn one picture's output into its instances: duplicates suppressed, every part with its parent.

    The best name counts for an object, the name that a part was looked for under for a part.

    Args:
        picture: the model's output for the picture.
        vocabulary: the names it was asked for.
        picture_name: path or name for the result.
        min_score: instances below are left out, in 0..1; the parts of an object go with it.
        part_scoring: "tied" scores a part query on its own candidate name, "open" on the best of all part names.
        hierarchical: multiply the score of a part by the square root of that of the object, or of the part, that it
            was looked for in.
        level: "object" leaves all parts out, "part" leaves out objects without a part that was found.
        max_objects: how many objects at most, the best ones; the parts of the others go with them.

    Returns:
        The picture's prediction, objects first, then the parts of objects, then parts of parts, each level best first.

    Raises:
        ValueError: `min_score` is not in 0..1, or `max_objects` is below 1.

    Source: LangHOPS, inference.
    """
    if not 0 <= min_score <= 1:
        raise ValueError(f"min_score must be in 0..1, got {min_score}")
    if max_objects is not None and max_objects < 1:
        raise ValueError(f"max_objects must be 1 or more, got {max_objects}")
    objects = _object_candidates(picture, min_score)
    if max_objects is not None:
        objects = objects.take(list(range(min(max_objects, len(objects.query)))))
    found: list[Detection] = []
    instance_of_kept: dict[int, int] = {}
    for kept, name, score, logits in zip(objects.query, objects.name, objects.score, objects.masks, strict=True):
        mask = to_original(logits, picture.size, picture.original)
        if mask.any():
            instance_of_kept[int(kept)] = len(found)
            found.append(Detection.from_mask((vocabulary.object_names[int(name)],), float(score), mask))
    if level != "object":
        object_scores = {kept: found[instance].score for kept, instance in instance_of_kept.items()}
        parts = _part_candidates(picture, vocabulary, object_scores, min_score, part_scoring, hierarchical)
        found.extend(_part_detections(picture, parts, vocabulary, instance_of_kept, first=len(found)))
    if level == "part":
        found = with_parts(found)
    return Prediction(picture_name, picture.original, tuple(found))


def with_parts(found: Sequence[Detection]) -> list[Detection]:
    """Parts, and of the objects those that have some."""
    parents = {item.parent for item in found}
    kept = [index for index, item in enumerate(found) if item.level == "part" or index in parents]
    position = {index: place for place, index in enumerate(kept)}
    return [
        item if item.parent is None else replace(item, parent=position[item.parent])
        for item in map(found.__getitem__, kept)
    ]


def _object_candidates(picture: PictureOutput, min_score: float) -> Candidates:
    """Kept objects that pass `min_score` without their duplicates; `query` counts the kept objects."""
    likelihood = picture.kept_logits.sigmoid()
    # Mask quality is at most 1, so what fails already here needs no mask.
    numbers = torch.nonzero(likelihood >= min_score).flatten()
    assert picture.objects.masks is not None
    masks = picture.objects.masks[picture.kept]
    objects = Candidates.of(numbers, picture.kept_classes[numbers], likelihood[numbers], masks)
    objects = objects.scoring(min_score)
    return objects.without_duplicates(object_limits(objects.name))


def _part_candidates(
    picture: PictureOutput,
    vocabulary: Vocabulary,
    object_scores: dict[int, float],
    min_score: float,
    scoring: PartScoring,
    hierarchical: bool,
) -> tuple[Candidates, list[int]] | None:
    """Parts of what was found without duplicates, and which of them each is in, -1 for none that is known; or None."""
    if picture.parts is None or not object_scores or not len(picture.parent):
        return None
    assert picture.parts.masks is not None
    scores = picture.kept_logits.new_full((len(picture.kept),), -1.0)
    scores[list(object_scores)] = scores.new_tensor(list(object_scores.values()))
    likelihood, name = part_likelihood(picture.parts.logits, picture.name, any_name=scoring == "open")
    # Score of what each part was looked for in; -1 where that was not found, or not yet.
    above = scores[picture.parent]
    if picture.host is not None:
        above = torch.where(picture.host < 0, above, -1)
    levels: list[Candidates] = []
    while True:
        weighted = likelihood * above.clamp(min=0).sqrt() if hierarchical else likelihood
        query = torch.nonzero((above >= 0) & (weighted >= min_score)).flatten()
        parts = Candidates.of(query, name[query], weighted[query], picture.parts.masks).scoring(min_score)
        parts = parts.without_duplicates(part_limits(parts.name, picture.parent[parts.query], vocabulary))
        levels.append(parts)
        if picture.host is None or not len(parts.query):
            break
        own = torch.full_like(likelihood, -1.0)
        own[parts.query] = parts.score
        above = torch.where(picture.host < 0, -1.0, own[picture.host.clamp(min=0)])
    if picture.host is None:
        return levels[0], [-1] * len(levels[0].query)
    return merge_levels(levels, picture.host, picture.parent, vocabulary)


def _part_detections(
    picture: PictureOutput,
    candidates: tuple[Candidates, list[int]] | None,
    vocabulary: Vocabulary,
    instance_of_kept: dict[int, int],
    *,
    first: int,
) -> list[Detection]:
    """Part instances; a part of a part goes to the part that it was looked for in.

    One that was found in the object only goes to the part that holds most of it, else to the object.
    """
    if candidates is None:
        return []
    parts, above = candidates
    paths = vocabulary.part_paths
    objects = [instance_of_kept[int(kept)] for kept in picture.parent[parts.query]]
    names = [int(name) for name in parts.name]
    found: dict[int, Detection] = {}
    for index, (name, score, logits) in enumerate(zip(names, parts.score.tolist(), parts.masks, strict=True)):
        if above[index] >= 0 and above[index] not in found:
            continue  # no pixel was left of the part that it is of
        mask = to_original(logits, picture.size, picture.original)
        if mask.any():  # encoded at once: full masks of a large photograph would not fit side by side
            found[index] = Detection.from_mask(paths[name], score, mask, parent=objects[index])
    position = {index: first + place for place, index in enumerate(found)}
    _, inside = overlaps(parts.masks > 0)
    for index in found:
        if above[index] >= 0:
            found[index] = replace(found[index], parent=position[above[index]])
            continue
        kind = vocabulary.part_classes[names[index]].parent
        hosts = [i for i in found if names[i] == kind and objects[i] == objects[index] and inside[index, i] >= MOST]
        if hosts:
            host = max(hosts, key=lambda i: float(inside[index, i]))
            found[index] = replace(found[index], parent=position[host])
    return list(found.values())


def coco_results(
    output: Output,
    *,
    sizes: Sequence[tuple[int, int]],
    originals: Sequence[tuple[int, int]],
    image_ids: Sequence[int],
    object_categories: Sequence[int | None],
    part_categories: Sequence[int | None],
    part_objects: Sequence[int],
    max_objects: int = 20,
    max_parts: int = 100,
    part_scoring: PartScoring = "tied",
    hierarchical: bool = False,
) -> list[dict[str, Any]]:
    """Return a batch's best (name, query) pairs of each level as COCO results, for average precision.

    No threshold and no suppression: a query may stand under several names, as the protocol wants it.

    Args:
        output: the model's answer for B pictures that share one vocabulary.
        sizes: height and width of each picture on the canvas in pixels.
        originals: height and width of each picture as it came, in pixels.
        image_ids: COCO image id of each picture.
        object_categories: category id of each object name, in the vocabulary's order; None for a name that takes its
            place among the best pairs and is then left out.
        part_categories: the same for part names; part_objects: number of the object that each of them is of.
        max_objects: pairs of a picture at the object level; max_parts: at the part level.
        part_scoring: "tied" pairs a part query with its own candidate name only, "open" with all part names.
        hierarchical: multiply the score of a part by the square root of its object's.

    Returns:
        Dicts with `image_id`, `category_id`, `score`, `bbox` (the box head's, in pixels of the picture as it came),
        `segmentation` (compressed run lengths as text) and `id`, from 1 in each picture. A part has `parent_id` too:
        the result of the object query it was looked for in, under the part's own object name where that is there,
        else under the query's best name; None where the query has no result.

    Source: EVALUATION.md, "Instance AP"; MaskDINO's instance inference.
    """
    names = len(object_categories), len(part_categories)
    results: list[dict[str, Any]] = []
    for index, (size, original, image_id) in enumerate(zip(sizes, originals, image_ids, strict=True)):
        picture = picture_output(output, index, names=names, size=size, original=original)
        likelihood = picture.objects.logits.sigmoid()
        found, owners = _results(picture.objects, likelihood, picture, object_categories, most=max_objects)
        if picture.parts is not None:
            likelihood = _pair_likelihood(picture, part_scoring, hierarchical)
            parts, pairs = _results(picture.parts, likelihood, picture, part_categories, most=max_parts)
            parents = _parent_ids(picture, owners, pairs, torch.as_tensor(part_objects))
            found += [{**row, "parent_id": parent} for row, parent in zip(parts, parents, strict=True)]
        results += [{"image_id": image_id, "id": number, **row} for number, row in enumerate(found, start=1)]
    return results


def _pair_likelihood(picture: PictureOutput, scoring: PartScoring, hierarchical: bool) -> Tensor:
    """Likelihood of every part query under every part name, (M, Cp); 0 for pairs that are not asked for."""
    assert picture.parts is not None
    assert picture.objects.masks is not None
    likelihood = picture.parts.logits.sigmoid()
    if scoring == "tied":
        names = torch.arange(likelihood.shape[1], device=likelihood.device)
        likelihood = likelihood * ((picture.name[:, None] == names) | (picture.name[:, None] < 0))
    if hierarchical:
        quality = mask_quality(picture.objects.masks[picture.kept].float())
        likelihood = likelihood * (picture.kept_logits.sigmoid() * quality).sqrt()[picture.parent][:, None]
    return likelihood


def best_pairs(likelihood: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """The likeliest (query, name) pairs, best first, those of no likelihood left out.

    Args:
        likelihood: (Q, C), 0..1.
        most: how many.

    Returns:
        Query and name of each, (N,) and (N,).
    """
    best = likelihood.flatten().topk(min(most, likelihood.numel()))
    index = best.indices[best.values > 0]
    names = max(likelihood.shape[1], 1)
    return index // names, index % names


def _parent_ids(picture: PictureOutput, objects: Tensor, parts: Tensor, part_objects: Tensor) -> list[int | None]:
    """Ids of the object results that part results hang from, if objects are numbered from 1; None for none.

    `objects` and `parts` are (query, name) pairs, (N, 2) and (M, 2), each level best first; `part_objects` is (Cp,).
    """
    if not len(objects):
        return [None] * len(parts)
    owner = picture.kept[picture.parent[parts[:, 0].to(picture.parent.device)]].to(objects.device)
    own_name = part_objects[parts[:, 1]][:, None] == objects[:, 1]
    # 2 under its own name, 1 under another; of equal ones argmax takes the first, which is the best-scored.
    rank = (owner[:, None] == objects[:, 0]).byte() * (1 + own_name.byte())
    there, place = rank.any(1).tolist(), rank.argmax(1).tolist()
    return [at + 1 if found else None for found, at in zip(there, place, strict=True)]


def _results(
    predictions: Predictions, likelihood: Tensor, picture: PictureOutput, categories: Sequence[int | None], *, most: int
) -> tuple[list[dict[str, Any]], Tensor]:
    """The best pairs of a level with their masks, and query and name of each, (N, 2).

    The score is the likelihood times the quality of the mask.
    """
    assert predictions.masks is not None
    height, width = picture.original
    query, name = best_pairs(likelihood, most)
    centre, extent = predictions.boxes[query].split(2, dim=-1)
    corners = torch.cat([centre - extent / 2, centre + extent / 2], dim=-1).clamp(0, 1)
    boxes = (corners * corners.new_tensor([width, height, width, height])).tolist()
    results, kept = [], []
    encoded: dict[int, tuple[dict[str, Any], float] | None] = {}
    pairs = zip(query.tolist(), name.tolist(), likelihood[query, name].tolist(), boxes, strict=True)
    for number, label, score, box in pairs:
        if categories[label] is None:
            continue
        if number not in encoded:  # one query often stands under several names
            mask, quality = scored_mask(predictions.masks[number], picture.size, picture.original)
            encoded[number] = (json_rle(encode(mask)), quality) if mask.any() else None
        if (found := encoded[number]) is not None:
            row = {"category_id": categories[label], "score": score * found[1]}
            results.append({**row, "bbox": coco_box(box), "segmentation": found[0]})
            kept.append((number, label))
    return results, torch.tensor(kept, dtype=torch.long).reshape(-1, 2)
