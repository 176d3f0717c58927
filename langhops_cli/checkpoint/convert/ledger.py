"""The book-keeping of a conversion: what was taken under which name, what was dropped by which rule, what is left."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from langhops_cli.errors import DATA, UserError

Change = Callable[[Tensor], Tensor]
Rename = tuple[str, str]
"""A pattern that a whole name must match, and what it becomes."""


class Ledger:
    """Tensors of a foreign checkpoint, each to be taken or dropped once.

    Args:
        tensors: by their foreign names.
        source: the file they came from, for messages.
    """

    def __init__(self, tensors: Mapping[str, Tensor], *, source: str) -> None:
        self.source = source
        self.taken: dict[str, Tensor] = {}
        self.origins: dict[str, list[str]] = {}
        self.dropped: dict[str, str] = {}
        self._tensors = dict(tensors)
        self._left = dict.fromkeys(tensors)

    @property
    def left(self) -> list[str]:
        """Foreign names that nothing was said about."""
        return list(self._left)

    def below(self, prefix: str) -> list[str]:
        """Rests of the names left below a prefix."""
        return [name.removeprefix(prefix) for name in self._left if name.startswith(prefix)]

    def has(self, prefix: str) -> bool:
        """Whether the checkpoint holds anything below a prefix, taken or not."""
        return any(name.startswith(prefix) for name in self._tensors)

    def look(self, name: str) -> Tensor:
        """A tensor, without taking it.

        Raises:
            UserError: there is none of this name.
        """
        if name not in self._tensors:
            raise UserError(f"{self.source}: lacks {name}; is it a checkpoint of another kind? See --from", code=DATA)
        return self._tensors[name]

    def take(self, name: str, ours: str, change: Change | None = None) -> None:
        """Take a tensor under our name, changed on the way."""
        tensor = self.look(name)
        self.put(ours, tensor if change is None else change(tensor.float()), of=[name])

    def put(self, ours: str, tensor: Tensor, *, of: Sequence[str]) -> None:
        """Take a tensor that was computed of several."""
        self.taken[ours] = tensor
        self.origins[ours] = list(of)
        for name in of:
            self._left.pop(name, None)

    def drop(self, pattern: str, why: str, *, below: str = "") -> None:
        """Leave out what is still left below a prefix and whose rest matches a pattern as a whole."""
        rule = re.compile(pattern)
        for name in self.below(below):
            if rule.fullmatch(name):
                self.dropped[below + name] = why
                del self._left[below + name]

    def same(self, name: str, other: str) -> None:
        """Leave out a second name of a tensor.

        Raises:
            UserError: the two differ, so that taking one would lose the other.
        """
        if not torch.equal(self.look(name), self.look(other)):
            raise UserError(
                f"{self.source}: {name} and {other} should be two names of one tensor, but they differ", code=DATA
            )
        self.dropped[name] = f"second name of {other}"
        self._left.pop(name, None)

    def rename(self, source: str, target: str, renames: Sequence[Rename]) -> None:
        """Take everything left below a prefix that one of the patterns matches, each by the first that does.

        Args:
            source: prefix of the foreign names; target: of ours.
            renames: patterns for the rest of the name.
        """
        rules = [(re.compile(pattern), replacement) for pattern, replacement in renames]
        for name in self.below(source):
            match = next(((rule, to) for rule, to in rules if rule.fullmatch(name)), None)
            if match is not None:
                self.take(source + name, target + match[0].sub(match[1], name))

    def count(self, prefix: str) -> int:
        """How many there are of what is numbered behind a prefix, from 0."""
        rests = (name.removeprefix(prefix) for name in self._tensors if name.startswith(prefix))
        numbers = (rest.partition(".")[0] for rest in rests)
        return max((int(number) + 1 for number in numbers if number.isdecimal()), default=0)
