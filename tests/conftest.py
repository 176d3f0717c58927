"""What all tests share: a thrifty torch, and the way to the real data."""

import contextlib
import os
from pathlib import Path

import pytest

# Before torch is imported: its idle threads must not spin, and DeepSpeed must not look for an accelerator.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("DS_ACCELERATOR", "cpu")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
if "PYTEST_XDIST_WORKER" in os.environ:  # several processes share the cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Keep the tests of a file in one process, and those of parity: its last one looks at what all have compared."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            file = nodeid.partition("::")[0]
            return "parity" if "/parity/" in file else file

    return ByFile(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave slow tests out unless they are asked for by -m."""
    if config.getoption("-m"):
        return
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.skip(reason="slow; ask for it with -m slow"))


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    """A Chromium for the tests of a file, which are skipped where there is none."""
    from tests.prediction.browser import Browser, find_chromium

    chromium = find_chromium()
    if chromium is None:
        pytest.skip("no Chromium on the path or in LANGHOPS_CHROMIUM")
    with contextlib.closing(Browser(chromium, tmp_path_factory.mktemp("chromium"))) as browser:
        yield browser


@pytest.fixture(scope="session")
def repository() -> Path:
    """The folder of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of shared material; a test that needs it is skipped where it is not there."""
    folder = Path(os.environ.get("LANGHOPS_SHARED", REPOSITORY.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"needs real data: set LANGHOPS_SHARED to its folder ({folder} is not there)")
    return folder


@pytest.fixture(scope="session")
def shared_data(shared: Path) -> Path:
    """The folder of real data sets."""
    if not (shared / "data").is_dir():
        pytest.skip(f"needs real data: {shared / 'data'} is not there")
    return shared / "data"
