"""JSON files larger than memory, read entry by entry.

The libraries that stream JSON refuse a file for one `NaN`, which Python's own writer puts there without a word; here
such an entry arrives, and is counted and left out like any other bad one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from json import JSONDecodeError, JSONDecoder
from pathlib import Path
from typing import Any, TextIO

from langhops_cli.errors import DATA, UserError

CHUNK = 1 << 20
"""Characters read at a time."""
LARGEST = 1 << 26
"""Characters that a single entry may have."""
_NEAR_END = 16
"""An error this close to the end of what was read may be due to the end."""
_SPACE = " \t\n\r"


class Items:
    """The entries of a list in a JSON file, each with its text; what is not taken is skipped."""

    def __init__(self, text: _Text) -> None:
        self._text = text
        self._entries = self._read()

    def __iter__(self) -> Iterator[tuple[Any, str]]:
        return self._entries

    def _read(self) -> Iterator[tuple[Any, str]]:
        self._text.expect("[")
        if self._text.peek() == "]":
            self._text.expect("]")
            return
        while True:
            yield self._text.value()
            if self._text.expect(",", "]") == "]":
                return


def stream_mapping(path: Path) -> Iterator[tuple[str, Any]]:
    """Go through a file that holds one mapping.

    Args:
        path: the file, UTF-8.

    Yields:
        Key and value; a value that is a list comes as `Items`, to be gone through before the next key.

    Raises:
        UserError: the file is missing, cannot be read, is no JSON, or holds no mapping.
    """
    with _opened(path) as file:
        text = _Text(file, path)
        if text.peek() != "{":
            raise UserError(f"{path} holds no mapping of keys to values; export it again.", code=DATA)
        text.expect("{")
        if text.peek() == "}":
            text.expect("}")
            text.expect_end()
            return
        while True:
            key, _ = text.value()
            if not isinstance(key, str):
                raise text.fault("a key that is no text")
            text.expect(":")
            if text.peek() == "[":
                items = Items(text)
                yield key, items
                for _ in items:
                    pass
            else:
                yield key, text.value()[0]
            if text.expect(",", "}") == "}":
                text.expect_end()
                return


def stream_list(path: Path) -> Iterator[tuple[Any, str]]:
    """Go through a file that holds one list.

    Yields:
        Each entry and its text.

    Raises:
        UserError: the file is missing, cannot be read, is no JSON, or holds no list.
    """
    with _opened(path) as file:
        text = _Text(file, path)
        if text.peek() != "[":
            raise UserError(f"{path} holds no list; export it again.", code=DATA)
        yield from Items(text)
        text.expect_end()


def _opened(path: Path) -> TextIO:
    try:
        return path.open(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; check the path.", code=DATA) from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.", code=DATA) from None


class _Text:
    """A window that moves over a file."""

    def __init__(self, file: TextIO, path: Path) -> None:
        self._file = file
        self._path = path
        self._buffer = ""
        self._place = 0
        self._before = 0
        self._ended = False
        self._decode = JSONDecoder().raw_decode

    def peek(self) -> str:
        """The next character that is no space; nothing at the end."""
        while True:
            while self._place < len(self._buffer):
                if self._buffer[self._place] not in _SPACE:
                    return self._buffer[self._place]
                self._place += 1
            if self._ended:
                return ""
            self._fill(CHUNK)

    def expect(self, *marks: str) -> str:
        """Step over one of these characters and return it."""
        found = self.peek()
        if found not in marks:
            raise self.fault(f"expected {' or '.join(marks)}" + (f", found {found}" if found else ", found the end"))
        self._place += 1
        return found

    def expect_end(self) -> None:
        """See that nothing follows."""
        if found := self.peek():
            raise self.fault(f"expected the end, found {found}")

    def value(self) -> tuple[Any, str]:
        """Step over a value; return it and its text."""
        self.peek()
        more = CHUNK
        while True:
            try:
                value, end = self._decode(self._buffer, self._place)
            except JSONDecodeError as error:
                may_go_on = error.pos >= len(self._buffer) - _NEAR_END or error.msg.startswith("Unterminated")
                if self._ended or not may_go_on:
                    raise self.fault(error.msg, error.pos) from None
            except RecursionError:
                raise self.fault("nested too deep") from None
            except ValueError:
                raise self.fault("a number of too many digits") from None
            else:
                if end < len(self._buffer) - _NEAR_END or self._ended:  # a number near the end may go on: "1." "5"
                    text = self._buffer[self._place : end]
                    self._check_text(text, value)
                    self._place = end
                    return value, text
            if len(self._buffer) - self._place > LARGEST:
                raise self.fault(f"an entry of more than {LARGEST:,} characters")
            self._fill(more)
            more *= 2

    def _check_text(self, text: str, value: Any) -> None:
        """Half of a character, a surrogate alone, is allowed in JSON but can be written to no file."""
        if "\\u" in text:
            try:
                json.dumps(value, ensure_ascii=False).encode()
            except UnicodeEncodeError:
                raise self.fault("half of a character") from None

    def fault(self, reason: str, place: int | None = None) -> UserError:
        """The error that says what is wrong where."""
        where = self._before + (self._place if place is None else place)
        return UserError(f"{self._path} is no JSON ({reason}, character {where:,}); export it again.", code=DATA)

    def _fill(self, size: int) -> None:
        try:
            more = self._file.read(size)
        except UnicodeDecodeError as error:
            raise UserError(f"{self._path} is no text in UTF-8 ({error.reason}); export it again.", code=DATA) from None
        self._ended = not more
        self._before += self._place
        self._buffer = self._buffer[self._place :] + more
        self._place = 0
