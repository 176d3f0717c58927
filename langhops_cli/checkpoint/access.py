"""Whether the pretrained models that ours build on can be had from here; nothing is downloaded to find out."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Literal

from langhops_cli.errors import UserError
from langhops_cli.model.configuration import BaseModelConfig, ModelConfig

State = Literal["installed", "missing", "cached", "reachable", "gated", "refused", "unreachable", "offline", "unknown"]

HUB_SECONDS = 8.0
"""How long all questions to the Hub may take together; a Hub that has not answered by then counts as out of reach."""
REMEDIES: dict[State, str] = {
    "gated": "accept its licence on its Hub page, then `hf auth login`",
    "refused": "`hf auth login` with an account that may have it",
    "offline": "unset HF_HUB_OFFLINE once, or point the recipe at a local copy",
    "unreachable": "connect to the Hub once, or point the recipe at a local copy",
    "unknown": "leave --offline out, so that the Hub is asked",
}
"""What to do about a model of the Hub in each state, the most pressing first."""


@dataclass(frozen=True)
class BaseModel:
    """A pretrained model that one of ours builds on, and whether it can be had; what to do about it if not."""

    source: str
    state: State
    remedy: str = ""

    @property
    def there(self) -> bool:
        """Whether it is here, or can be fetched."""
        return self.state in ("installed", "cached", "reachable")


def base_models_of(config: ModelConfig) -> list[BaseModelConfig]:
    """The base models of a model, each once."""
    bases = (config.backbone, config.text.base, config.refiner.base)
    return list({base.source: base for base in bases}.values())


def find_shipped(source: str) -> BaseModel:
    """Look for a base model that a package ships."""
    try:
        from langhops_cli.checkpoint.base_models import package_file

        package_file(source)
    except UserError as error:
        return BaseModel(source, "missing", str(error))
    except Exception:  # what a broken torch raises on import; the facts tell of it
        return BaseModel(source, "unknown")
    return BaseModel(source, "installed")


def ask_hub(bases: Sequence[BaseModelConfig], *, offline: bool = False) -> Callable[[], tuple[BaseModel, ...]]:
    """Begin to find out whether base models are here already, or whether the Hub would give them.

    The Hub is asked from daemon threads: one that never answers holds up nothing, not even the end of the program.

    Args:
        bases: with Hub ids.
        offline: do not ask the Hub; nor is it asked when HF_HUB_OFFLINE says so.

    Returns:
        A function that waits for the answers, until `HUB_SECONDS` after the beginning at most.
    """
    states: dict[str, State] = {base.source: _state_here(base, offline=offline) for base in bases}

    def ask(source: str) -> None:
        states[source] = _answer(source)

    waiting = [source for source, state in states.items() if state == "unreachable"]
    threads = [Thread(target=ask, args=(source,), daemon=True) for source in waiting]
    for thread in threads:
        thread.start()
    end = time.monotonic() + HUB_SECONDS

    def wait() -> tuple[BaseModel, ...]:
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))
        known = dict(states)  # a late answer changes nothing any more
        return tuple(BaseModel(source, state, REMEDIES.get(state, "")) for source, state in known.items())

    return wait


def hub_cache() -> Path | None:
    """Folder that downloads from the Hub go to; None where that cannot be known."""
    try:
        from huggingface_hub import constants
    except Exception:  # not installed, or broken: the packages tell of it
        return None
    return Path(constants.HF_HUB_CACHE)


def _state_here(base: BaseModelConfig, *, offline: bool) -> State:
    """What is known of a base model without asking: "unreachable" until the Hub has answered."""
    try:
        from huggingface_hub import auth_check, constants, try_to_load_from_cache

        assert callable(auth_check)  # imported here once, rather than by all threads together
        config = try_to_load_from_cache(base.source, "config.json", revision=base.revision)
    except Exception:  # not installed, or broken: the packages tell of it
        return "unknown"
    if isinstance(config, str) and _is_whole(Path(config).parent, kind=base.kind):
        return "cached"
    if offline:
        return "unknown"
    return "offline" if constants.HF_HUB_OFFLINE else "unreachable"


def _is_whole(snapshot: Path, *, kind: str) -> bool:
    """Whether a kept copy can be loaded without the Hub; a download that was cut off leaves files out."""
    if kind != "swin" and not any(snapshot.glob("tokenizer*")):
        return False
    index = next(iter(sorted(snapshot.glob("*.index.json"))), None)
    if index is None:
        return any(path.exists() for pattern in ("*.safetensors", "*.bin") for path in snapshot.glob(pattern))
    try:
        names = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
    except (OSError, ValueError, KeyError, AttributeError):
        return False
    return all((snapshot / name).exists() for name in names)


def _answer(source: str) -> State:
    """What the Hub says to a request for a model."""
    from huggingface_hub import auth_check
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    try:
        auth_check(source)
    except GatedRepoError:
        return "gated"
    except RepositoryNotFoundError:
        return "refused"
    except HfHubHTTPError as error:
        return "refused" if error.response.status_code in (401, 403) else "unreachable"
    except Exception:  # no name server, no route, a proxy in between: many kinds, one meaning
        return "unreachable"
    return "reachable"
