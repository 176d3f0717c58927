"""Which names a picture is asked about: all of a closed set, a seeded choice of a large one."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np

from langhops_cli.data.sample import Sample, SampleInstance
from langhops_cli.errors import UserError
from langhops_cli.vocabulary import ObjectNode, PartNode, Vocabulary


def choose_names(sample: Sample, *, max_names: int, generator: np.random.Generator) -> Sample:
    """Shrink a sample's vocabulary to at most `max_names` object names and as many part names.

    Names that occur in the picture always stay, also beyond the limit; the rest is drawn at random from the others.
    A vocabulary within the limit stays as it is.

    Args:
        sample: left as it is.
        max_names: most names of each level.
        generator: draws the negatives.

    Returns:
        The sample with the smaller vocabulary and labels that index it.
    """
    vocabulary = sample.vocabulary
    parts = vocabulary.part_classes
    if len(vocabulary.objects) <= max_names and len(parts) <= max_names:
        return sample
    part_labels = _with_ancestors(sample)
    object_labels = {item.label for item in sample.objects} | sample.unsure_objects
    object_labels |= {parts[label].object for label in part_labels}
    kept_objects = _fill(object_labels, range(len(vocabulary.objects)), max_names, generator)
    candidates = [number for number, part in enumerate(parts) if part.object in kept_objects]
    return _restrict(sample, kept_objects, _close(_fill(part_labels, candidates, max_names, generator), vocabulary))


def leave_parts_out(sample: Sample, *, chance: float, generator: np.random.Generator) -> Sample:
    """Ask about some of the parts only, as a user does; what is left out is then nothing that was asked for.

    A model that is always asked for all parts of a set takes what is not named for the most alike of what is.

    Args:
        sample: left as it is.
        chance: with which each part name is left out, 0..1; the parts of such a part go with it.
        generator: draws them.

    Returns:
        The sample with the smaller vocabulary, without the instances that lost their name.
    """
    parts = sample.vocabulary.part_classes
    stays = generator.random(len(parts)) >= chance
    kept: set[int] = set()
    for number, part in enumerate(parts):  # a part comes before those it consists of
        if stays[number] and (part.parent is None or part.parent in kept):
            kept.add(number)
    named = replace(
        sample,
        parts=[item for item in sample.parts if item.label in kept],
        unsure_parts=sample.unsure_parts & kept,
    )
    return _restrict(named, set(range(len(sample.vocabulary.objects))), kept)


def ask_for_known(sample: Sample, *, checked_objects: Collection[int], checked_parts: Collection[int]) -> Sample:
    """Ask a picture only about names of which something is known: annotated ones, and those it was searched for.

    In a federated set such as LVIS each picture was searched for some names only; of all others it may show any.

    Args:
        sample: left as it is.
        checked_objects: labels of objects that all instances of are annotated, be they none.
        checked_parts: the same for part classes.

    Returns:
        The sample with the smaller vocabulary; names that are annotated but were not searched for are unsure in it.
    """
    vocabulary = sample.vocabulary
    parts = _close(_with_ancestors(sample) | set(checked_parts), vocabulary)
    objects = {item.label for item in sample.objects} | sample.unsure_objects | set(checked_objects)
    objects |= {vocabulary.part_classes[label].object for label in parts}
    if not objects:
        objects = {0}  # something has to be asked for; as nothing is known of it, nothing is learnt from it
    unsure = replace(
        sample,
        unsure_objects=sample.unsure_objects | (objects - set(checked_objects)),
        unsure_parts=sample.unsure_parts | (parts - set(checked_parts)),
    )
    return _restrict(unsure, objects, parts)


def leave_out(vocabulary: Vocabulary, names: Collection[str]) -> Vocabulary:
    """A vocabulary without some of its objects and their parts.

    Raises:
        UserError: it has no such object, or no other one.
    """
    known = vocabulary.object_names
    if unknown := [name for name in names if name not in known]:
        some = ", ".join(known[:20]) + ", ..." * (len(known) > 20)
        raise UserError(f"there is no object '{unknown[0]}' to do without; there are {some}")
    return Vocabulary(tuple(item for item in vocabulary.objects if item.name not in names)) if names else vocabulary


def _restrict(sample: Sample, kept_objects: set[int], kept_parts: set[int]) -> Sample:
    objects = {old: new for new, old in enumerate(sorted(kept_objects))}
    places = {old: new for new, old in enumerate(sorted(kept_parts))}
    return replace(
        sample,
        vocabulary=_subset(sample.vocabulary, kept_objects, kept_parts),
        objects=_relabel(sample.objects, objects),
        parts=_relabel(sample.parts, places),
        unsure_objects=frozenset(objects[label] for label in sample.unsure_objects),
        unsure_parts=frozenset(places[label] for label in sample.unsure_parts),
    )


def ask_for_absent(sample: Sample, names: tuple[str, ...]) -> Sample:
    """Ask about objects that are not in the picture as well: what looks like nothing it knows has to be refused.

    A set of one kind of object never says what that kind is not; names that its pictures are known not to hold do.

    Args:
        sample: left as it is.
        names: of objects that are not in the picture; none of them a name of its vocabulary.
    """
    return replace(sample, vocabulary=_extended(sample.vocabulary, names)) if names else sample


@lru_cache(maxsize=64)
def _extended(vocabulary: Vocabulary, names: tuple[str, ...]) -> Vocabulary:
    return Vocabulary((*vocabulary.objects, *map(ObjectNode, names)))


def _with_ancestors(sample: Sample) -> set[int]:
    labels = {item.label for item in sample.parts} | sample.unsure_parts
    return _close(labels, sample.vocabulary)


def _close(labels: Collection[int], vocabulary: Vocabulary) -> set[int]:
    """Add the parts that the given parts are parts of."""
    closed: set[int] = set()
    for label in labels:
        above: int | None = label
        while above is not None and above not in closed:
            closed.add(above)
            above = vocabulary.part_classes[above].parent
    return closed


def _fill(kept: set[int], candidates: Sequence[int], limit: int, generator: np.random.Generator) -> set[int]:
    others = [number for number in candidates if number not in kept]
    room = min(max(limit - len(kept), 0), len(others))
    return kept | {others[place] for place in generator.permutation(len(others))[:room]}


def _subset(vocabulary: Vocabulary, objects: set[int], parts: set[int]) -> Vocabulary:
    # Part classes are numbered depth first, so walking the tree in the same order meets them in order.
    numbers = iter(range(len(vocabulary.part_classes)))

    def walk(nodes: Sequence[PartNode]) -> tuple[PartNode, ...]:
        kept = []
        for node in nodes:
            number = next(numbers)
            inner = walk(node.parts)
            if number in parts:
                kept.append(replace(node, parts=inner))
        return tuple(kept)

    nodes = [ObjectNode(item.name, walk(item.parts)) for item in vocabulary.objects]
    return Vocabulary(tuple(node for number, node in enumerate(nodes) if number in objects))


def _relabel(items: Sequence[SampleInstance], places: dict[int, int]) -> list[SampleInstance]:
    return [replace(item, label=places[item.label]) for item in items]
