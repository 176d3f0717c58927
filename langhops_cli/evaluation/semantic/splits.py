"""Which names of a set are seen and which unseen, and what a checkpoint saw of the set when it was trained."""

from __future__ import annotations

import difflib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from langhops_cli.data.index import PreparedDataset
from langhops_cli.data.splits import Unit, ZeroShotSplit, load_split, split_names
from langhops_cli.errors import DATA, UserError
from langhops_cli.vocabulary import ObjectNode, Vocabulary

SHOTS = "shot"
"""Ends the name of a split of few pictures, "train_16shot"."""


@dataclass(frozen=True)
class ScoredNames:
    """The names that are scored on a set, and which of their objects are unseen.

    Args:
        vocabulary: the objects and their parts; the parts are what is scored.
        unseen: names of objects.
        records: what is scored at a time: all that a picture shows of one object name, or one object.
        benchmark: the published split that this is; None for the set's own names.
        split: that split, where its objects are finer than those of the set.
    """

    vocabulary: Vocabulary
    unseen: frozenset[str] = frozenset()
    records: Unit = "class"
    benchmark: str | None = None
    split: ZeroShotSplit | None = None

    @property
    def parts(self) -> tuple[str, ...]:
        """What is scored: every part with its object, "dog head"."""
        return tuple(part.text for part in self.vocabulary.part_classes)

    @cached_property
    def owners(self) -> tuple[str, ...]:
        """The object of each part."""
        return tuple(self.vocabulary.object_names[part.object] for part in self.vocabulary.part_classes)

    @cached_property
    def labels(self) -> dict[tuple[str, str], int]:
        """Object and part -> place of the part."""
        parts = self.vocabulary.part_classes
        return {(owner, part.name): number for number, (owner, part) in enumerate(zip(self.owners, parts, strict=True))}

    def object_in(self, file_name: str, owner: str) -> str | None:
        """What an object of the set is called in a picture; None where it is not scored."""
        if self.split is None:
            return owner if owner in self.vocabulary.object_names else None
        return self.split.classes.get(owner, {}).get(Path(file_name).stem.partition("_")[0])


def scored_names(dataset: PreparedDataset, unseen: str | Collection[str] | None = None) -> ScoredNames:
    """Choose what is scored on a set, and which of its objects are unseen.

    A set that is the one of a published split, by its kind, by its folder's name or by its objects, is scored as that
    benchmark is; of any other all names are seen.

    Args:
        dataset: a prepared set.
        unseen: names of unseen objects among the set's own, a text with commas or a file as `read_unseen` takes it;
            none for no unseen ones. The published split when left out.

    Raises:
        UserError: the set has no parts or none of these objects, or the file cannot be read.
    """
    if not dataset.vocabulary.part_classes:
        raise UserError(f"{dataset.root} names no parts, and hIoU is measured on parts; score it with --protocol ap")
    split = _published(dataset)
    if unseen is not None:
        chosen = read_unseen(unseen) if isinstance(unseen, str) else [*unseen]
        _check(chosen, dataset.vocabulary.object_names, dataset.root)
        records = split.records if split is not None and not split.classes else "class"
        return ScoredNames(dataset.vocabulary, frozenset(chosen), records)
    if split is None:
        return ScoredNames(dataset.vocabulary)
    if not split.classes:
        unseen = frozenset(split.unseen) & {*dataset.vocabulary.object_names}
        return ScoredNames(dataset.vocabulary, unseen, split.records, split.name)
    parts = {item.name: item.parts for item in dataset.vocabulary.objects}
    classes = {name: kind for kind, names in split.classes.items() for name in names.values() if kind in parts}
    vocabulary = Vocabulary(tuple(ObjectNode(name, parts[kind]) for name, kind in classes.items()))
    return ScoredNames(vocabulary, frozenset(split.unseen) & {*classes}, split.records, split.name, split)


def read_unseen(text: str) -> list[str]:
    """Read names of objects.

    Args:
        text: names with commas between them, or the path of a file: a name a line, or YAML with a list of names, by
            itself or under the key `unseen`.

    Raises:
        UserError: the file cannot be read or holds something else.
    """
    path = Path(text)
    if not path.is_file():
        if path.suffix in (".yaml", ".yml", ".txt"):
            raise UserError(f"{path} does not exist; give --unseen names, or a file with a name a line", code=DATA)
        return [name for part in text.split(",") if (name := part.strip())]
    try:
        content = path.read_text(encoding="utf-8")
        names = yaml.safe_load(content) if path.suffix in (".yaml", ".yml") else content.splitlines()
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path} cannot be read ({str(error).splitlines()[0]})", code=DATA) from None
    names = names.get("unseen") if isinstance(names, Mapping) else names
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(f"{path} holds no list of names; write one a line", code=DATA)
    return [name.strip() for name in names if name.strip()]


def setting_of(trained: Mapping[str, Any], dataset: PreparedDataset, names: ScoredNames | None = None) -> str | None:
    """Say what a checkpoint saw of a set in training.

    Args:
        trained: what the checkpoint's `config.json` says; `data`, `recipe` and `vocabulary` are read.
        dataset: the set that it is evaluated on.
        names: what is scored on it; the published split when left out.

    Returns:
        "training pictures": it is evaluated on what it was trained on. "few-shot (train_16shot)": it saw that split of
        the set. "zero-shot": it saw the set, and of none of the unseen objects any parts; "zero-shot for 3 of 15 unseen
        objects": of these only. "supervised": it saw the set with all names. "cross-dataset": it saw other sets only.
        None: the checkpoint does not say.
    """
    data = trained.get("data")
    if not isinstance(data, Mapping) or not all(isinstance(entry, Mapping) for entry in data.values()):
        return None
    if dataset.fingerprint in [entry.get("fingerprint") for entry in data.values()]:
        return "training pictures"
    entry = data.get(dataset.root.name)
    if entry is None:
        return "cross-dataset"
    split = str(entry.get("split"))
    if split.endswith(SHOTS):
        return f"few-shot ({split})"
    names = scored_names(dataset) if names is None else names
    taught = _taught(trained, dataset, split)
    if names.split is not None:  # what is taught of a kind is taught of all its classes
        taught = {name for kind in taught for name in names.split.classes.get(kind, {}).values()}
    spared = names.unseen - taught
    if not spared:
        return "supervised"
    if len(spared) == len(names.unseen):
        return "zero-shot"
    return f"zero-shot for {len(spared)} of {len(names.unseen)} unseen objects"


def _taught(trained: Mapping[str, Any], dataset: PreparedDataset, split: str) -> set[str]:
    """Objects whose parts a checkpoint was taught: it was asked for them, and a picture showed them, or may have."""
    vocabulary = trained.get("vocabulary")
    asked = {name for name, parts in vocabulary.items() if parts} if isinstance(vocabulary, Mapping) else set()
    others = len(trained["data"]) > 1
    if not asked or others or not (dataset.root / f"{split}.json").is_file():
        return asked
    import pyarrow.compute as compute

    learned = PreparedDataset(dataset.root, split)
    present = set(compute.unique(learned.column("category").combine_chunks().flatten()).to_pylist())
    return asked & {owner for number, owner, _ in learned.categories if number in present}


def _published(dataset: PreparedDataset) -> ZeroShotSplit | None:
    """The published split of a set."""
    splits = [load_split(name) for name in split_names()]
    told = {dataset.root.name, _kind(dataset.root)}
    for split in splits:
        if split.name in told:
            return split
    names = set(dataset.vocabulary.object_names)
    return next((split for split in splits if not split.classes and set(split.objects) == names), None)


def _kind(root: Path) -> str | None:
    """What a set was prepared from; None where nobody knows."""
    try:
        report = json.loads((root / "report.json").read_text(encoding="utf-8"))
        return str(report["kind"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _check(chosen: Sequence[str], known: Sequence[str], root: Path) -> None:
    """See that all names are objects of a set.

    Raises:
        UserError: one is not.
    """
    for name in chosen:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = (
                f"; did you mean '{close[0]}'?"
                if close
                else f"; it has {', '.join(known[:10])}" + ", ..." * (len(known) > 10)
            )
            raise UserError(f"{root} has no object '{name}' that could be unseen{hint}", code=DATA)
