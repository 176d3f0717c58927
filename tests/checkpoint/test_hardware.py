import os
import warnings
from types import SimpleNamespace

import pytest

from langhops_cli.checkpoint import hardware
from langhops_cli.checkpoint.hardware import NO_CUDA, Gpu, count_cores, free_disk, read_gpus, read_hardware, read_memory

KB = 1024
MEMINFO = "MemTotal:       8000 kB\nMemFree:  100 kB\nMemAvailable:   6000 kB\n"


def lay(root, **files):
    """Write files; "/" is spelt "__" in their names, and "." as it is."""
    for name, text in files.items():
        path = root.joinpath(*name.split("__"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.mark.parametrize(
    ("files", "total", "free"),
    [
        ({}, 8000 * KB, 6000 * KB),
        # version 2: the limit of the group above counts; cached files can be given up
        (
            {
                "proc__self__cgroup": "0::/job/step\n",
                "sys__fs__cgroup__job__memory.max": str(1000 * KB),
                "sys__fs__cgroup__job__memory.current": str(700 * KB),
                "sys__fs__cgroup__job__memory.stat": f"anon 5\ninactive_file {100 * KB}\n",
                "sys__fs__cgroup__job__step__memory.max": "max\n",
            },
            1000 * KB,
            400 * KB,
        ),
        # version 1 in a container that cannot see its own group; used beyond the limit is not less than nothing free
        (
            {
                "proc__self__cgroup": "9:cpu,cpuacct:/x\n4:memory:/host/path\n0::/\n",
                "sys__fs__cgroup__memory__memory.limit_in_bytes": str(2000 * KB),
                "sys__fs__cgroup__memory__memory.usage_in_bytes": str(2500 * KB),
            },
            2000 * KB,
            0,
        ),
        # version 1 without a limit writes a number that no machine has
        (
            {
                "proc__self__cgroup": "4:memory:/\n",
                "sys__fs__cgroup__memory__memory.limit_in_bytes": "9223372036854771712",
                "sys__fs__cgroup__memory__memory.usage_in_bytes": "5",
            },
            8000 * KB,
            6000 * KB,
        ),
    ],
)
def test_memory_is_what_the_container_allows(tmp_path, files, total, free):
    lay(tmp_path, proc__meminfo=MEMINFO, **files)
    assert read_memory(tmp_path) == (total, free)


def test_where_there_is_no_proc_the_free_memory_is_unknown(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sysconf", {"SC_PHYS_PAGES": 7, "SC_PAGE_SIZE": 4096}.__getitem__)
    assert read_memory(tmp_path) == (7 * 4096, None)

    def unknown(name):
        raise ValueError(name)

    monkeypatch.setattr(os, "sysconf", unknown)
    assert read_memory(tmp_path) == (None, None)


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, 8),
        ({"proc__self__cgroup": "0::/\n", "sys__fs__cgroup__cpu.max": "150000 100000\n"}, 2),
        ({"proc__self__cgroup": "0::/\n", "sys__fs__cgroup__cpu.max": "max 100000\n"}, 8),
        (
            {
                "proc__self__cgroup": "1:cpu:/\n",
                "sys__fs__cgroup__cpu__cpu.cfs_quota_us": "300000",
                "sys__fs__cgroup__cpu__cpu.cfs_period_us": "100000",
            },
            3,
        ),
        (
            {
                "proc__self__cgroup": "1:cpu:/\n",
                "sys__fs__cgroup__cpu__cpu.cfs_quota_us": "-1",
                "sys__fs__cgroup__cpu__cpu.cfs_period_us": "100000",
            },
            8,
        ),
    ],
)
def test_cores_are_those_that_the_process_may_use(tmp_path, monkeypatch, files, cores):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    lay(tmp_path, **files)
    assert count_cores(tmp_path) == cores


def test_the_disk_is_that_of_a_folder_that_need_not_exist(tmp_path, monkeypatch):
    places = []
    monkeypatch.setattr(hardware.shutil, "disk_usage", lambda path: places.append(path) or SimpleNamespace(free=5))
    assert free_disk(tmp_path / "not" / "yet") == 5
    assert places == [tmp_path]


def fake_torch(*devices, available=True, cuda="12.8", hip=None, warning=None, error=None):
    def is_available():
        if warning:
            warnings.warn(warning, stacklevel=1)
        if error:
            raise error
        return available

    return SimpleNamespace(
        cuda=SimpleNamespace(
            is_available=is_available, device_count=lambda: len(devices), get_device_properties=devices.__getitem__
        ),
        version=SimpleNamespace(cuda=cuda, hip=hip),
        backends=SimpleNamespace(mps=SimpleNamespace(is_available=lambda: not available)),
    )


A100 = SimpleNamespace(name="A100", total_memory=40, major=8)
T4 = SimpleNamespace(name="T4", total_memory=16, major=7)


def test_gpus_are_told_with_what_they_can_do():
    assert read_gpus(fake_torch(A100, T4)) == ((Gpu("A100", 40, bf16=True), Gpu("T4", 16, bf16=False)), "")
    assert read_gpus(fake_torch(T4, cuda=None, hip="6.4"))[0][0].bf16


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"cuda": None}, NO_CUDA),
        ({}, "torch finds none"),
        (
            {"warning": "CUDA initialization: the driver is too old (found 1).\n Please update."},
            "torch finds none: CUDA initialization: the driver is too old (found 1)",
        ),
        ({"error": RuntimeError("CUDA error: busy\nmore")}, "torch cannot use it: CUDA error: busy more"),
    ],
)
def test_why_there_is_no_gpu(options, why):
    assert read_gpus(fake_torch(available=False, **options)) == ((), why)


def test_all_of_it_together(tmp_path):
    found = read_hardware(torch=fake_torch(available=False, cuda=None), cache=tmp_path)
    assert (found.mps, found.gpus, found.why_no_gpu, found.cache) == (True, (), NO_CUDA, str(tmp_path))
    assert found.cores >= 1 and found.free_disk_bytes is not None
    without = read_hardware(torch=None, cache=None)
    assert (without.mps, without.gpus, without.free_disk_bytes) == (False, (), None)
