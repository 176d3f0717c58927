"""What the tests of training share: a data root of tiny sets, one thread, a process group that is closed at the end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .tiny import make_set


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A data root with `cars` (four pictures, one of them empty) and `one` (a single picture)."""
    import torch

    root = tmp_path_factory.mktemp("data")
    make_set(root / "cars", pictures=4)
    make_set(root / "one", pictures=1)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield root
    torch.set_num_threads(threads)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
