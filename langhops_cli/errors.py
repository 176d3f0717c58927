"""Errors that are the user's to mend: one clear line, no traceback."""

from __future__ import annotations

USAGE = 2
"""Exit code: the command line, a vocabulary or a recipe is wrong."""
DATA = 3
"""Exit code: a picture, a dataset or a checkpoint is missing or broken."""
ENVIRONMENT = 4
"""Exit code: a device, a package or a pretrained weight is not there."""
TRAINING = 5
"""Exit code: training stopped and cannot go on."""
MISMATCH = 5
"""Exit code: what was made does not compute what it was made from."""


class UserError(Exception):
    """What happened, on which file, and what to do next, in words for the user.

    Args:
        message: one clear line that names the file and the remedy; further lines only to show a place in a text.
        code: exit code of the command: 2 usage, 3 data, 4 environment, 5 training stopped.
    """

    def __init__(self, message: str, *, code: int = USAGE) -> None:
        super().__init__(message)
        self.code = code
