"""Open-vocabulary object and part instance segmentation with language-grounded hierarchies.

The public names load on first use, so that importing the package, or asking the command for help, loads no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from langhops_cli.checkpoint.hub import LangHOPS
    from langhops_cli.prediction.predictor import Predictor
    from langhops_cli.vocabulary import Vocabulary, parse_vocabulary

__version__ = "0.1.0"
__all__ = ["LangHOPS", "Predictor", "Vocabulary", "__version__", "parse_vocabulary"]

_HOMES = {
    "LangHOPS": ("langhops_cli.checkpoint.hub", "LangHOPS"),
    "Predictor": ("langhops_cli.prediction.predictor", "Predictor"),
    "Vocabulary": ("langhops_cli.vocabulary", "Vocabulary"),
    "parse_vocabulary": ("langhops_cli.vocabulary", "parse_vocabulary"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _HOMES[name]
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted(__all__)
