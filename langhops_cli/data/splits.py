"""The zero-shot settings of benchmarks, told in data files: which objects are unseen, what is scored at a time."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from langhops_cli.data.manifests import Strict, load_manifest
from langhops_cli.errors import UserError
from langhops_cli.resources import manifests_folder

Unit = Literal["class", "instance"]
"""What a record is: all that a picture shows of one object name, or one object."""


class ZeroShotSplit(Strict):
    """The published split of a benchmark into seen and unseen objects; their parts go with them.

    Args:
        name: of the benchmark.
        manifest: the dataset that it is made of.
        source: the paper.
        records: what is scored at a time.
        unseen: object names.
        classes: where the benchmark's objects are finer than those of the dataset: object of the dataset -> first word
            of a picture's file name -> object of the benchmark, which has the parts of the dataset's.
    """

    name: str
    manifest: str
    source: str
    records: Unit
    unseen: list[str]
    classes: dict[str, dict[str, str]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if strange := set(self.classes) - set(load_manifest(self.manifest).vocabulary):
            raise ValueError(f"{self.manifest} has no object {sorted(strange)[0]!r}")
        if strange := set(self.unseen) - set(self.objects):
            raise ValueError(f"{self.name} has no object {sorted(strange)[0]!r} that could be unseen")
        return self

    @property
    def objects(self) -> dict[str, list[str]]:
        """Every object of the benchmark with its parts."""
        tree = load_manifest(self.manifest).vocabulary
        if not self.classes:
            return tree
        return {name: tree[kind] for kind, names in self.classes.items() for name in names.values()}


def split_names() -> list[str]:
    """The benchmarks whose split is known."""
    return sorted(path.stem for path in (manifests_folder() / "splits").glob("*.yaml"))


@lru_cache
def load_split(name: str) -> ZeroShotSplit:
    """Read the split of a benchmark.

    Raises:
        UserError: there is none of that name.
    """
    import yaml

    path = manifests_folder() / "splits" / f"{name}.yaml"
    if not path.is_file():
        raise UserError(f"no split is called '{name}'; known are {', '.join(split_names())}")
    content: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return ZeroShotSplit.model_validate(content)
