"""The public way to a checkpoint, in a folder or on the Hub: `LangHOPS.from_pretrained(source)`."""

from __future__ import annotations

import contextlib
import errno
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import torch

from langhops_cli.checkpoint.card import model_card
from langhops_cli.checkpoint.files import write_text
from langhops_cli.checkpoint.folder import CARD, config_of, load_checkpoint, read_config, save_checkpoint
from langhops_cli.errors import DATA, ENVIRONMENT, UserError
from langhops_cli.model.configuration import ModelConfig
from langhops_cli.model.langhops import LangHOPSModel

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
FETCHED = ("config.json", "README.md", "*.safetensors", "*.safetensors.index.json")


def find_checkpoint(source: str | Path, *, revision: str | None = None) -> Path:
    """Return the folder of a checkpoint, fetched from the Hub where `source` names one there.

    Args:
        source: a folder, or a Hub id "owner/name"; what could be either is a folder if the one above it exists.
        revision: branch, tag or commit on the Hub; its newest state when left out.

    Returns:
        The folder, or that of the kept copy. Whether it holds a checkpoint is for `read_config` to say.

    Raises:
        UserError: the Hub does not give it.
    """
    folder = Path(source)
    local = is_local(folder)
    if local and revision is not None:
        raise UserError(f"{source} is no model on the Hub, so it has no revision {revision}; leave the revision out")
    if local:
        return folder
    from huggingface_hub import snapshot_download

    with explained(f"{source} is no folder here, and the Hub"):
        return Path(snapshot_download(folder.as_posix(), revision=revision, allow_patterns=list(FETCHED)))


def checkpoint_name(source: str | Path) -> str:
    """What a record calls a checkpoint or a data set: its Hub id, else its folder's name without the way to it."""
    return Path(source).name if is_local(Path(source)) else Path(source).as_posix()


def is_local(folder: Path) -> bool:
    """Whether a source is meant as a folder here, be it there or not, rather than as an id on the Hub."""
    return folder.exists() or folder.parent.is_dir() or not HUB_ID.fullmatch(folder.as_posix())


@contextlib.contextmanager
def explained(what: str) -> Iterator[None]:
    """Turn what the Hub refuses into one line that begins with `what` and says what to do.

    Raises:
        UserError: the Hub cannot be reached, or refuses what is asked for.
    """
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        HTTPError,
        LocalEntryNotFoundError,
        LocalTokenNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        yield
    except (OSError, ValueError, HTTPError, EntryNotFoundError) as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            message = "no space is left on the disk; make room, and the same command goes on."
            raise UserError(message, code=ENVIRONMENT) from error
        status = getattr(error.response, "status_code", None) if isinstance(error, HfHubHTTPError) else None
        code = ENVIRONMENT
        if isinstance(error, GatedRepoError):
            why = "wants its licence accepted first: open its page, accept, then `hf auth login`"
        elif isinstance(error, RepositoryNotFoundError):
            why, code = "has none of that name, or not for your account: check the name, or `hf auth login`", DATA
        elif isinstance(error, RevisionNotFoundError):
            why, code = "has it, but not that revision: check the branch, tag or commit", DATA
        elif isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
            why, code = "has no such file any more", DATA
        elif isinstance(error, LocalTokenNotFoundError) or status == 401:
            why = "does not know you: `hf auth login` with a token that may do this"
        elif status == 403:
            why = "does not let you: check the owner's name and what your token may do"
        elif isinstance(error, OSError) and error.errno is not None and not isinstance(error, ConnectionError):
            raise  # a folder that cannot be written and the like, which the Hub has no part in
        elif status is None and not isinstance(error, ValueError):
            why = "cannot be reached: connect, or use a local folder"
        else:
            why = "refused: " + " ".join(str(error).split())[:200]
        raise UserError(f"{what} {why}", code=code) from error


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
    def from_pretrained(cls, source: str | Path, *, revision: str | None = None) -> Self:
        """Load a checkpoint, on the CPU and in float32.

        Args:
            source: its folder, or its id on the Hub.
            revision: branch, tag or commit on the Hub.

        Raises:
            UserError: it is missing, damaged, does not fit its own configuration, or the Hub does not give it.
        """
        folder = find_checkpoint(source, revision=revision)
        model, metadata = load_checkpoint(folder)
        return cls(model, config_of(folder, metadata), metadata)

    def save_pretrained(self, folder: str | Path, *, dtype: torch.dtype | None = None) -> None:
        """Write a checkpoint folder.

        Args:
            folder: made where missing.
            dtype: of the floating tensors; float32 where None.
        """
        save_checkpoint(self.model, Path(folder), config=self.config, metadata=self.metadata, dtype=dtype)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        license: str | None = None,
        dtype: torch.dtype | None = None,
    ) -> str:
        """Put the checkpoint with its card on the Hub, in a new repository or as a new commit of an old one.

        Args:
            repo_id: "owner/name".
            private: whether a new repository is; the owner's own default when left out.
            license: id of the licence that the card names; that of the checkpoint, else "unknown", when left out.
            dtype: of the floating tensors; float32 where None.

        Returns:
            Address of its page.

        Raises:
            UserError: the Hub cannot be reached or refuses it.
        """
        from huggingface_hub import HfApi

        if not HUB_ID.fullmatch(repo_id):
            raise UserError(f"{repo_id!r} is no name for the Hub; it is of the form owner/name")
        metadata = self.metadata if license is None else self.metadata | {"license": license}
        with TemporaryDirectory() as place:
            folder = Path(place)
            save_checkpoint(self.model, folder, config=self.config, metadata=metadata, dtype=dtype)
            write_text(folder / CARD, model_card(read_config(folder), name=repo_id))
            with explained(f"{repo_id} was not written: the Hub"):
                api = HfApi()
                page = api.create_repo(repo_id, private=private, exist_ok=True)
                api.upload_folder(repo_id=repo_id, folder_path=folder, commit_message="A langhops checkpoint")
        return str(page)
