"""One file over HTTP: it goes on where it was cut off, and is checked before it takes its name."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import shutil
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPException, HTTPMessage, HTTPResponse
from pathlib import Path
from typing import IO, Any, BinaryIO
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import (
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPRedirectHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
    UnknownHandler,
)

from langhops_cli.errors import DATA, ENVIRONMENT, UserError

CHUNK = 1 << 20
TRIES = 5
"""How often a connection may break without anything gained before it is given up."""
GAIN = 16 << 20
"""Bytes beyond what any earlier try reached that make a broken connection worth as many tries again."""
SECONDS = 30.0
"""How long a server may be silent."""
LONGEST_WAIT = 60.0
PASSING = {408, 425, 429, 500, 502, 503, 504}
"""Answers that may be others in a moment."""

Advance = Callable[[int, int | None], None]
"""Is told how many bytes are there, and of how many, where that is known."""


class _DroppedError(Exception):
    """What may well go better in a moment; `wait` seconds where the server says so."""

    def __init__(self, why: str, *, wait: float = 0.0) -> None:
        super().__init__(why)
        self.wait = wait


class _UnreachableError(_DroppedError):
    """There was no connection at all."""


def download(
    url: str,
    path: Path,
    *,
    size: int | None,
    checked: bool,
    check: Callable[[Path], None],
    advance: Advance,
) -> None:
    """Fetch a file; until it is whole and right it lies beside its place as `<name>.part`.

    Args:
        url: of a http or https server.
        path: where the file goes; its folder is made.
        size: in bytes, where known.
        checked: `check` compares a checksum, so that a part may be gone on from whatever the server says of it.
        check: given the whole file before it takes its name; it raises a UserError if that is not the right one, and
            the part is removed.
        advance: shows how far it is.

    Raises:
        UserError: it cannot be had, or is not the right one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = _Part(url, path.with_name(f"{path.name}.part"), size, checked)
    with part.opened() as file:
        _receive(part, file, advance)
        os.fsync(file.fileno())
        try:
            check(part.path)
        except UserError:
            part.discard(file)
            raise
        os.replace(part.path, path)
        part.note.unlink(missing_ok=True)


@dataclass(frozen=True)
class _Part:
    """What of a file is there, with a note of where it is from and which version of it."""

    url: str
    path: Path
    size: int | None
    checked: bool

    @property
    def note(self) -> Path:
        return self.path.with_name(f"{self.path.name}.json")

    @contextlib.contextmanager
    def opened(self) -> Iterator[BinaryIO]:
        """Open the part for this process alone; what is still empty at the end is removed."""
        with self.path.open("ab") as file:
            if not self._is_ours(file):
                raise UserError(f"{self.path} is being fetched by another run; wait for it.", code=ENVIRONMENT)
            try:
                yield file
            finally:
                if self.path.exists() and not self.path.stat().st_size:
                    self.discard(file)

    def _is_ours(self, file: BinaryIO) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return os.path.samestat(os.fstat(file.fileno()), self.path.stat())  # else it was just finished and renamed
        except (BlockingIOError, FileNotFoundError):
            return False
        except OSError:  # a file system without locks
            return True

    def discard(self, file: BinaryIO) -> None:
        """Remove the part."""
        file.truncate(0)
        self.path.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)

    def clear(self, file: BinaryIO) -> None:
        """Start anew."""
        file.truncate(0)
        self.note.unlink(missing_ok=True)

    def remember(self, headers: HTTPMessage) -> None:
        """Note which version of the file this is; a weak tag does not tell versions apart to the byte."""
        tag = headers.get("ETag", "")
        version = tag if tag.startswith('"') else headers.get("Last-Modified")
        self.note.write_text(json.dumps({"url": self.url, "version": version}), encoding="utf-8")

    def range_headers(self, done: int) -> dict[str, str] | None:
        """What to ask the server for to go on behind `done` bytes; None where only a new start is safe."""
        try:
            noted = json.loads(self.note.read_text(encoding="utf-8"))
            same, version = noted["url"] == self.url, noted["version"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        if not same or not (version or self.checked):
            return None
        return {"Range": f"bytes={done}-"} | ({"If-Range": version} if version else {})


def _receive(part: _Part, file: BinaryIO, advance: Advance) -> None:
    """Fill the part, trying again when a connection breaks."""
    start = best = _length(file)
    tries = 0
    while True:
        try:
            return _transfer(part, file, advance)
        except _DroppedError as drop:
            done = _length(file)
            host = urlsplit(part.url).hostname
            if isinstance(drop, _UnreachableError) and best == start and not tries:
                raise UserError(f"{host} cannot be reached ({drop}); check the network.", code=ENVIRONMENT) from None
            tries = 1 if done >= best + GAIN else tries + 1
            best = max(best, done)
            if tries == TRIES:
                raise UserError(
                    f"{part.url}: {drop}, {TRIES} times without anything gained; the same command goes on later.",
                    code=ENVIRONMENT,
                ) from None
            time.sleep(min(max(drop.wait, 2.0 ** (tries - 1)), LONGEST_WAIT))


def _transfer(part: _Part, file: BinaryIO, advance: Advance) -> None:
    """Ask once for what is missing, and write what comes."""
    done = _length(file)
    if done and done == part.size:
        return
    ranges = part.range_headers(done) if done and (part.size is None or done < part.size) else None
    if ranges is None:
        part.clear(file)
    total = part.size
    request = Request(part.url, headers={"User-Agent": "langhops", **(ranges or {})})
    with _explained(part, file), _open(request) as answer:
        done, total = _begin(part, file, answer)
        advance(done, total)
        while chunk := answer.read1(CHUNK):
            if total is not None and done + len(chunk) > total:
                part.clear(file)
                raise UserError(f"{part.url}: the server sends more than the {total:,} bytes it should.", code=DATA)
            _write(part, file, chunk)
            done += len(chunk)
            advance(done, total)
    if total is not None and done < total:
        raise _DroppedError(f"the connection broke after {done:,} of {total:,} bytes")


def _begin(part: _Part, file: BinaryIO, answer: HTTPResponse) -> tuple[int, int | None]:
    """Look at what is about to come; return how many bytes are there, and how many there will be."""
    done, total = 0, None
    if answer.status == 206:
        stated = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", ""))
        if stated is None or int(stated[1]) != _length(file):
            part.clear(file)
            raise _DroppedError("the server sends another range than it was asked for")
        done, total = int(stated[1]), None if stated[2] == "*" else int(stated[2])
    else:
        part.clear(file)  # the server knows no ranges, or the file has changed since
        if answer.headers.get("Content-Length", "").isdecimal():
            total = int(answer.headers["Content-Length"])
    if total is not None and part.size is not None and total != part.size:
        part.clear(file)
        raise UserError(
            f"{part.url} has {total:,} bytes instead of {part.size:,}: it is not the file that was published.",
            code=DATA,
        )
    wanted = part.path.name.removesuffix(".part")
    if answer.headers.get_content_type() == "text/html" and not wanted.endswith((".html", ".htm")):
        part.clear(file)
        raise UserError(f"{part.url} is a web page and not {wanted}; open it in a browser to see why.", code=DATA)
    total = total if total is not None else part.size
    free = shutil.disk_usage(part.path.parent).free
    if total is not None and total - done > free:
        raise _full_disk(part, f"{total - done:,} bytes are to come and {free:,} are free")
    part.remember(answer.headers)
    return done, total


def _write(part: _Part, file: BinaryIO, chunk: bytes) -> None:
    try:
        file.write(chunk)
        file.flush()
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _full_disk(part, "no space is left") from error
        raise UserError(f"{part.path} cannot be written: {error.strerror}.", code=ENVIRONMENT) from error


def _full_disk(part: _Part, why: str) -> UserError:
    folder = part.path.parent
    return UserError(f"{folder}: {why}; make room, and the same command goes on.", code=ENVIRONMENT)


@contextlib.contextmanager
def _explained(part: _Part, file: BinaryIO) -> Iterator[None]:
    """Turn what goes wrong on the way to a server into one line, or into another try."""
    try:
        yield
    except HTTPError as error:
        with error:
            _judge(part, file, error)
    except URLError as error:
        reason = error.reason
        if isinstance(reason, ssl.SSLCertVerificationError):
            raise UserError(
                f"{part.url}: the server's certificate is not to be trusted ({reason.verify_message}).",
                code=ENVIRONMENT,
            ) from error
        raise _UnreachableError(str(getattr(reason, "strerror", None) or reason)) from error
    except TimeoutError as error:
        raise _DroppedError(f"the server was silent for {SECONDS:.0f} seconds") from error
    except (ConnectionError, HTTPException, ssl.SSLError) as error:
        raise _DroppedError("the connection broke") from error


def _judge(part: _Part, file: BinaryIO, error: HTTPError) -> None:
    """Say what an answer other than success means; nothing to say if the file is whole after all."""
    if error.code == 416:
        if error.headers.get("Content-Range") == f"bytes */{_length(file)}":
            return  # the part is the whole file already
        part.clear(file)
        raise _DroppedError("the server has no such range") from None
    if error.code in PASSING:
        wait = error.headers.get("Retry-After", "")
        told = f"the server answers {error.code} ({error.reason})"
        raise _DroppedError(told, wait=float(wait) if wait.isdecimal() else 0.0) from None
    if error.code in (404, 410):
        raise UserError(f"{part.url} is not there any more ({error.code}).", code=DATA) from None
    if error.code in (401, 403):
        why = "the server does not give it to everyone; open it in a browser to see why"
        raise UserError(f"{part.url}: {why} ({error.code}).", code=ENVIRONMENT) from None
    reason = " ".join(str(error.reason).split())[:200]
    raise UserError(f"{part.url}: the server refuses ({error.code} {reason}).", code=ENVIRONMENT) from None


class WebRedirects(HTTPRedirectHandler):
    """Follows a server to other web addresses only, and from https never back to http."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        """Return the request that follows, or raise."""
        allowed = {"https"} if req.type == "https" else {"http", "https"}
        if urlsplit(newurl).scheme not in allowed:
            raise HTTPError(req.full_url, code, f"sends on to {newurl}, which is not safe", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _open(request: Request) -> Any:
    """Send a request; only http and https are known, so that no address opens a file or another service."""
    opener = OpenerDirector()
    for handler in (ProxyHandler(), HTTPHandler(), HTTPSHandler(), WebRedirects()):
        opener.add_handler(handler)
    for last in (HTTPDefaultErrorHandler(), HTTPErrorProcessor(), UnknownHandler()):
        opener.add_handler(last)
    return opener.open(request, timeout=SECONDS)


def _length(file: BinaryIO) -> int:
    return os.fstat(file.fileno()).st_size
