"""MATLAB files of version 5 to 7, as much of them as annotations need, read in bounded memory.

scipy trusts what a file says of its own size: two hundred bytes can make it take all memory for minutes. Here nothing
is made that the file does not hold.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from langhops_cli.data.formats.folders import check_file
from langhops_cli.errors import DATA, UserError

LARGEST = 1 << 28
"""Bytes that a file, and all its variables unpacked, may have."""
MOST = 1 << 18
"""Arrays that a file may hold, each field of a struct counted."""
_DEPTH = 16
_MATRIX, _COMPRESSED = 14, 15
_CELL, _STRUCT, _CHAR = 1, 2, 4
_NUMBERS = range(6, 16)
"""Classes of arrays: double, single, and whole numbers of 8 to 64 bits, signed and unsigned."""
_COMPLEX = 0x800
_STORED = {
    1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8", 16: "u1", 17: "u2",
}  # fmt: skip
_ENCODINGS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16"}


class _BrokenError(ValueError):
    """What is wrong with the file."""


def read_mat(path: Path) -> dict[str, Any]:
    """Read the variables of a MATLAB file.

    Args:
        path: the file.

    Returns:
        Name -> value. A struct array is a list of mappings and a cell array a list, both column by column; characters
        are a text; numbers an array of the shape they have in MATLAB; anything else is None.

    Raises:
        UserError: the file is missing, broken, too large, or of another version; the message names it.
    """
    check_file(path, LARGEST)
    try:
        return dict(_variables(path.read_bytes()))
    except (ValueError, IndexError, struct.error, zlib.error) as error:
        raise UserError(f"{path} is no MATLAB file that can be read ({error}).", code=DATA) from None


def _variables(content: bytes) -> Iterator[tuple[str, Any]]:
    if content.startswith((b"MATLAB 7.3", b"\x89HDF")):
        raise _BrokenError("it is of version 7.3, which is HDF5; save it again with -v7")
    if len(content) < 128 or content[126:128] not in (b"IM", b"MI"):
        raise _BrokenError("it has no header of version 5 to 7")
    reader = _Reader("<" if content[126:128] == b"IM" else ">")
    rest, left = memoryview(content)[128:], LARGEST
    while len(rest) >= 8:
        kind, size = struct.unpack_from(reader.order + "II", rest)
        data = rest[8 : 8 + size]
        if len(data) < size:
            raise _BrokenError(f"it is cut off: {size:,} bytes should follow, {len(data):,} do")
        if kind == _COMPRESSED:
            unpacked = _unpack(data, left)
            left -= len(unpacked)
            kind, data, _ = reader.element(memoryview(unpacked))
        if kind == _MATRIX:
            yield reader.array(data)
        rest = rest[8 + size :]


def _unpack(data: memoryview, largest: int) -> bytes:
    unpacking = zlib.decompressobj()
    unpacked = unpacking.decompress(data, largest + 1)
    if len(unpacked) > largest:
        raise _BrokenError(f"it unpacks to more than {LARGEST:,} bytes")
    if not unpacking.eof:
        raise _BrokenError("it is cut off")
    return unpacked


class _Reader:
    """Reads arrays, counting them.

    Args:
        order: of the bytes, "<" or ">".
    """

    def __init__(self, order: str) -> None:
        self.order = order
        self._left = MOST

    def element(self, data: memoryview) -> tuple[int, memoryview, memoryview]:
        """Kind and content of the first element, and what follows it."""
        (tag,) = struct.unpack_from(self.order + "I", data)
        if tag >> 16:  # up to four bytes, which lie in the tag itself
            size = tag >> 16
            if size > 4 or len(data) < 8:
                raise _BrokenError("an element of impossible size")
            return tag & 0xFFFF, data[4 : 4 + size], data[8:]
        (size,) = struct.unpack_from(self.order + "I", data, 4)
        if size > len(data) - 8:
            raise _BrokenError("an element that is larger than what holds it")
        return tag, data[8 : 8 + size], data[8 + -(-size // 8) * 8 :]

    def array(self, data: memoryview, depth: int = 0) -> tuple[str, Any]:
        """Name and value of the content of a matrix element."""
        if not data:
            return "", None
        if depth > _DEPTH:
            raise _BrokenError("it is nested too deeply")
        _, flags, data = self.element(data)
        _, sizes, data = self.element(data)
        _, name, data = self.element(data)
        (flag,) = struct.unpack_from(self.order + "I", flags)
        shape = tuple(np.frombuffer(sizes, self.order + "i4").tolist())
        if len(shape) < 2 or min(shape) < 0:
            raise _BrokenError("an array without a shape")
        kind = flag & 0xFF
        value: Any = None
        if kind == _STRUCT:
            value = self._structs(data, prod(shape), depth)
        elif kind == _CELL:
            value = list(self._arrays(data, prod(shape), depth))
        elif kind == _CHAR:
            value = self._text(data)
        elif kind in _NUMBERS and not flag & _COMPLEX:
            value = self._numbers(data, shape)
        return bytes(name).decode("latin-1"), value

    def _structs(self, data: memoryview, count: int, depth: int) -> list[dict[str, Any]]:
        _, length, data = self.element(data)
        _, names, data = self.element(data)
        (width,) = struct.unpack_from(self.order + "i", length)
        if width < 1 or len(names) % width:
            raise _BrokenError("a struct whose field names have no length")
        starts = range(0, len(names), width)
        fields = [bytes(names[start : start + width]).split(b"\0")[0].decode("latin-1") for start in starts]
        if not fields:
            return []
        values = self._arrays(data, count * len(fields), depth)
        return [dict(zip(fields, row, strict=True)) for row in zip(*[values] * len(fields), strict=True)]

    def _arrays(self, data: memoryview, count: int, depth: int) -> Iterator[Any]:
        # Each takes eight bytes at least: a file cannot promise more of them than it holds.
        if count * 8 > len(data):
            raise _BrokenError("a struct or a cell array of fewer elements than it says")
        self._left -= count
        if self._left < 0:
            raise _BrokenError(f"it holds more than {MOST:,} arrays")
        for _ in range(count):
            kind, content, data = self.element(data)
            if kind != _MATRIX:
                raise _BrokenError("an element that is no array")
            yield self.array(content, depth + 1)[1]

    def _text(self, data: memoryview) -> str:
        kind, content, _ = self.element(data)
        encoding = _ENCODINGS.get(kind)
        if encoding is None:
            raise _BrokenError(f"characters of the unknown kind {kind}")
        if encoding == "utf-16":
            encoding = "utf-16-le" if self.order == "<" else "utf-16-be"
        return bytes(content).decode(encoding, "replace")

    def _numbers(self, data: memoryview, shape: tuple[int, ...]) -> np.ndarray:
        kind, content, _ = self.element(data)
        if kind not in _STORED:
            raise _BrokenError(f"numbers of the unknown kind {kind}")
        return np.frombuffer(content, self.order + _STORED[kind]).reshape(shape, order="F")
