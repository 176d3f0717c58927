"""Other words for the names of data sets, and more names than they have; told in data files."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import numpy as np
import yaml

from langhops_cli.data.manifests import Strict, load_manifest, manifest_names
from langhops_cli.resources import manifests_folder
from langhops_cli.vocabulary import Vocabulary
from langhops_cli.vocabulary.plurals import plural
from langhops_cli.vocabulary.tree import name_key

ANYTHING = "object"
"""The name of a set that calls whatever it shows by it."""
_REMARK = re.compile(r"\s*\([^)]*\)$")


class Synonyms(Strict):
    """Other words for names, the most usual one first.

    Args:
        objects: by the name of an object.
        parts: by the name of a part with its object, "car hood", or alone.
    """

    objects: dict[str, list[str]]
    parts: dict[str, list[str]]

    def of(self, name: str, owner: str | None = None) -> list[str]:
        """Other words for an object, or for a part of the object `owner`; a remark in brackets need not fit."""
        if owner is None:
            return self.objects.get(name) or self.objects.get(_bare(name), [])
        keys = (f"{owner} {name}", f"{_bare(owner)} {name}", name)
        return next((self.parts[key] for key in keys if key in self.parts), [])


@lru_cache
def load_synonyms() -> Synonyms:
    """Read the synonyms that come with the package."""
    return Synonyms.model_validate(_read("synonyms"))


def plurals(name: str, _owner: str | None = None) -> list[str]:
    """The plural of a name, if it has one of its own."""
    many = plural(name)
    return [] if many is None else [many]


def more_names(vocabulary: Vocabulary, count: int, *, seed: int) -> list[str]:
    """Draw names of objects that a vocabulary does not have.

    They come from LVIS and the manifests. None is a name of the vocabulary, of an object or of a part, nor its plural,
    nor another word for it, nor one of its kinds by its last word ("race car" of "car"). Wider and narrower words that
    do not show it ("minivan") may be among them. With one seed fewer names are the first of more.

    Args:
        vocabulary: the set's own names.
        count: how many; fewer come back where there are no more.
        seed: of the draw.
    """
    own = _family(vocabulary)
    heads = tuple(f" {_key(name)}" for name in vocabulary.object_names)
    free = [name for name in _pool() if not _forms(name) & own and not _key(name).endswith(heads)]
    order = np.random.default_rng(seed).permutation(len(free))
    return [free[place] for place in order[:count]]


@lru_cache
def _pool() -> tuple[str, ...]:
    """Names of objects in the order of the alphabet; of names that differ in case or remark alone the first."""
    manifests = [manifest for manifest in map(load_manifest, manifest_names()) if manifest.kind == "dataset"]
    names = {name for manifest in manifests for name in manifest.vocabulary} | set(_read("lvis")["names"])
    # "cabinet/shelf" is two names, "other shoes" are no more than shoes.
    usable = sorted(name for name in names if "/" not in name and not name.startswith("other ") and name != ANYTHING)
    return tuple({_key(name): name for name in reversed(usable)}.values())[::-1]


def _family(vocabulary: Vocabulary) -> set[str]:
    """The names of a vocabulary in all their forms, and other words for them."""
    synonyms = load_synonyms()
    names = {*vocabulary.object_names}
    names |= {name for part in vocabulary.part_classes for name in (part.name, part.text)}
    others = {word for name in vocabulary.object_names for word in synonyms.of(name)}
    owners = vocabulary.object_names
    others |= {word for part in vocabulary.part_classes for word in synonyms.of(part.name, owners[part.object])}
    family = _all_forms([*names, *others])
    # The other way round: what one of these is another word for.
    for table in (synonyms.objects, synonyms.parts):
        others |= {name for name, words in table.items() if _all_forms(words) & family}
    return family | _all_forms(others)


def _all_forms(names: Iterable[str]) -> set[str]:
    return {form for name in names for form in _forms(name)}


def _forms(name: str) -> set[str]:
    """A name and its plural, without case and remark."""
    return {_key(form) for form in (name, plural(name)) if form is not None}


def _key(name: str) -> str:
    return name_key(_bare(name))


def _bare(name: str) -> str:
    """A name without its remark in brackets, "car (automobile)" -> "car"."""
    return _REMARK.sub("", name) or name


def _read(name: str) -> Any:
    path = manifests_folder() / "names" / f"{name}.yaml"
    return yaml.safe_load(path.read_text(encoding="utf-8"))
