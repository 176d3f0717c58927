import struct
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io

from langhops_cli.data.formats import mat_file
from langhops_cli.data.formats.mat_file import read_mat
from langhops_cli.errors import DATA, UserError

HEADER = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H", 0x0100) + b"IM"


def element(kind: int, content: bytes) -> bytes:
    return struct.pack("<II", kind, len(content)) + content + bytes(-len(content) % 8)


def array(kind: int, shape: tuple[int, ...], body: bytes, name: bytes = b"anno") -> bytes:
    flags = element(6, struct.pack("<II", kind, 0))
    return element(14, flags + element(5, struct.pack(f"<{len(shape)}i", *shape)) + element(1, name) + body)


def nested(depth: int) -> bytes:
    inner = array(9, (1, 1), element(2, b"\1"), b"")
    for _ in range(depth):
        inner = array(1, (1, 1), inner, b"")
    return inner


@pytest.mark.parametrize("compressed", [True, False])
def test_values_are_those_that_scipy_wrote(tmp_path: Path, compressed: bool) -> None:
    rng = np.random.default_rng(0)
    numbers = {
        kind: rng.integers(0, 100, (3, 5)).astype(kind) for kind in ("u1", "i2", "u4", "i8", "f4", "f8", "bool", ">u2")
    }
    row = np.empty((1, 2), dtype=[("name", object), ("values", object)])
    row[0, 0] = ("left ear", rng.random((2, 2)))
    row[0, 1] = ("", np.empty((0, 0)))
    cells = np.empty((1, 2), dtype=object)
    cells[0, 0], cells[0, 1] = "längs", np.uint8([[7]])
    path = tmp_path / "a.mat"
    names = {f"n_{number}": value for number, value in enumerate(numbers.values())}
    scipy.io.savemat(path, {**names, "row": row, "cells": cells}, do_compression=compressed)
    read = read_mat(path)
    for name, value in names.items():
        np.testing.assert_array_equal(read[name], value)
    assert [item["name"] for item in read["row"]] == ["left ear", ""]
    np.testing.assert_array_equal(read["row"][0]["values"], row[0, 0][1])
    assert read["cells"][0] == "längs"
    assert read["cells"][1].tolist() == [[7]]


def _same(ours: Any, theirs: Any) -> None:
    """What scipy reads is what is read here."""
    if isinstance(ours, list):
        assert theirs.dtype.names
        assert len(ours) == theirs.size
        for row, other in zip(ours, theirs.ravel(order="F"), strict=True):
            assert tuple(row) == other.dtype.names
            for key, value in row.items():
                _same(value, other[key])
    elif isinstance(ours, str):
        assert ours == (theirs[0] if theirs.size else "")
    else:
        np.testing.assert_array_equal(ours, theirs)


def test_authentic_files_are_read_as_scipy_reads_them(shared_data: Path) -> None:
    files = sorted((shared_data / "pascal_part_mat_sample").glob("*.mat"))
    assert len(files) == 18
    for path in files:
        ours, theirs = read_mat(path), scipy.io.loadmat(path)
        for row, other in zip(ours["anno"], theirs["anno"].ravel(), strict=True):
            for item, their_item in zip(row["objects"], other["objects"].ravel(), strict=True):
                parts = item.pop("parts")
                for key, value in item.items():
                    _same(value, their_item[key])
                if their_item["parts"].size:
                    _same(parts, their_item["parts"])
                else:
                    assert parts == []


LARGEST = 10 << 20
PACKED = zlib.compress(bytes(LARGEST + 1))
FIELDS = element(5, struct.pack("<i", 8)) + element(1, b"objects\0")
MANY_ARRAYS = array(2, (1, 1 << 20), FIELDS + element(14, b"") * (1 << 20))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "no header"),
        (b"\0" * 200, "no header"),
        (b"MATLAB 7.3 MAT-file, HDF5".ljust(512), "version 7.3, which is HDF5; save it again with -v7"),
        (HEADER + array(9, (2, 3), element(2, bytes(6)))[:-5], "cut off"),
        (HEADER + struct.pack("<II", 15, 40) + zlib.compress(bytes(9000))[:20].ljust(40), "invalid|cut off|Error"),
        (HEADER + array(9, (1, 2_000_000_000), element(2, b"\1")), "cannot reshape"),
        (HEADER + array(9, (3, -3), element(2, b"\1" * 9)), "without a shape"),
        (HEADER + array(9, (3, 3), element(77, b"\1" * 9)), "unknown kind 77"),
        (HEADER + array(4, (1, 3), element(77, b"\1" * 3)), "unknown kind 77"),
        (HEADER + array(1, (1, 2_000_000_000), b""), "fewer elements than it says"),
        (HEADER + array(2, (1, 2_000_000_000), FIELDS), "fewer elements than it says"),
        (HEADER + array(2, (1, 1), element(5, struct.pack("<i", 0)) + element(1, b"x")), "no length"),
        (HEADER + array(1, (1, 1), element(9, bytes(8))), "no array"),
        (HEADER + MANY_ARRAYS, "more than 262,144 arrays"),
        (HEADER + nested(5000), "nested too deeply"),
        (HEADER + struct.pack("<II", 14, 24) + bytes(24), "."),
        (HEADER + array(9, (1, 1), struct.pack("<HHI", 2, 99, 0)), "impossible size"),
        (HEADER + array(9, (1, 1), struct.pack("<II", 2, 10**9)), "larger than what holds it"),
        (HEADER + struct.pack("<II", 15, len(PACKED)) + PACKED, "unpacks to more than"),
    ],
)  # fmt: skip
def test_a_hostile_file_is_one_clear_line_and_takes_no_more_memory_than_its_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, told: str
) -> None:
    monkeypatch.setattr(mat_file, "LARGEST", LARGEST)
    path = tmp_path / "a.mat"
    path.write_bytes(content)
    tracemalloc.start()
    with pytest.raises(UserError, match=told) as caught:
        read_mat(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * LARGEST
    assert str(caught.value).startswith(f"{path} is no MATLAB file that can be read")
    assert caught.value.code == DATA
    assert "\n" not in str(caught.value)


def test_a_file_cut_off_anywhere_never_gives_values(tmp_path: Path) -> None:
    whole = tmp_path / "whole.mat"
    scipy.io.savemat(whole, {"a": np.arange(300).reshape(3, 100), "b": "text"}, do_compression=True)
    content = whole.read_bytes()
    ends = {128}  # behind the header and behind each variable a file may well end
    while (end := max(ends)) < len(content):
        ends.add(end + 8 + struct.unpack_from("<I", content, end + 4)[0])
    path = tmp_path / "cut.mat"
    read = []
    for length in range(0, len(content), 7):
        path.write_bytes(content[:length])
        try:
            read.append((length, len(read_mat(path))))
        except UserError:
            continue
    assert all(number == sum(end <= length for end in ends - {128}) for length, number in read)
    assert len(read) < 10


def test_random_bytes_in_a_file_are_a_fault_or_values_but_no_crash(tmp_path: Path) -> None:
    whole = tmp_path / "whole.mat"
    row = np.empty((1, 1), dtype=[("name", object), ("mask", object)])
    row[0, 0] = ("head", np.ones((4, 4), np.uint8))
    scipy.io.savemat(whole, {"row": row}, do_compression=False)
    rng, faults = np.random.default_rng(0), 0
    for _ in range(300):
        content = bytearray(whole.read_bytes())
        content[int(rng.integers(128, len(content)))] = int(rng.integers(0, 256))
        (tmp_path / "a.mat").write_bytes(content)
        try:
            read_mat(tmp_path / "a.mat")
        except UserError:
            faults += 1
    assert faults > 50


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing.mat"):
        with pytest.raises(UserError, match=str(path)):
            read_mat(path)
