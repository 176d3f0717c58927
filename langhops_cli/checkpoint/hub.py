"""The public way to a checkpoint: `LangHOPS.from_pretrained(folder)`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import torch

from langhops_cli.checkpoint.folder import config_of, load_checkpoint, save_checkpoint
from langhops_cli.model.configuration import ModelConfig
from langhops_cli.model.langhops import LangHOPSModel


@dataclass(frozen=True)
class LangHOPS:
    """A trained model together with what its checkpoint says of it.

    Args:
        model: the module, in evaluation mode.
        config: what it was built from.
        metadata: preprocessing, vocabulary, recipe, data, versions.

    Example:
        >>> langhops = LangHOPS.from_pretrained("runs/stage2")  # doctest: +SKIP
        >>> langhops.model(pictures, vocabulary)  # doctest: +SKIP
    """

    model: LangHOPSModel
    config: ModelConfig
    metadata: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Self:
        """Load a checkpoint folder, on the CPU and in float32.

        Raises:
            UserError: it is missing, damaged, or does not fit its own configuration.
        """
        model, metadata = load_checkpoint(Path(folder))
        return cls(model, config_of(Path(folder), metadata), metadata)

    def save_pretrained(self, folder: str | Path, *, dtype: torch.dtype | None = None) -> None:
        """Write a checkpoint folder.

        Args:
            folder: made where missing.
            dtype: of the floating tensors; float32 where None.
        """
        save_checkpoint(self.model, Path(folder), config=self.config, metadata=self.metadata, dtype=dtype)
