"""A server of files on this machine that can be told to misbehave, and manifests of what it serves."""

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from langhops_cli.data.manifests import Annotations, Manifest, RemoteFile
from langhops_cli.errors import UserError

CONTENT = bytes(range(256)) * 4096  # 1 MiB
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Served:
    """What the server gives under a path; `cuts` and `answers` hold for one request each, from the first on."""

    content: bytes = CONTENT
    tag: str | None = '"one"'
    ranges: bool = True
    cuts: list[int | None] = field(default_factory=list)
    answers: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    kind: str = "application/octet-stream"
    measured: bool = True


@dataclass
class Server:
    address: str
    files: dict[str, Served] = field(default_factory=dict)
    seen: list[tuple[str, str | None, str | None]] = field(default_factory=list)

    def url(self, name: str) -> str:
        return f"{self.address}/{name}"

    @property
    def ranges(self) -> list[str | None]:
        return [asked for _, asked, _ in self.seen]


class Handler(BaseHTTPRequestHandler):
    state: Server

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        name, asked, version = self.path.lstrip("/"), self.headers["Range"], self.headers["If-Range"]
        self.state.seen.append((name, asked, version))
        file = self.state.files.get(name)
        if file is None or file.answers:
            status, headers = file.answers.pop(0) if file else (404, {})
            self.send_response(status)
            for key, value in {"Content-Length": "0", **headers}.items():
                self.send_header(key, value)
            self.end_headers()
            return
        start, end = 0, len(file.content)
        if asked and file.ranges and version in (None, file.tag):
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= end:
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{end}")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{end}")
        else:
            self.send_response(200)
        if file.measured:
            self.send_header("Content-Length", str(end - start))
        self.send_header("Content-Type", file.kind)
        if file.tag:
            self.send_header("ETag", file.tag)
        self.end_headers()
        cut = file.cuts.pop(0) if file.cuts else None
        self.wfile.write(file.content[start : end if cut is None else start + cut])


@contextmanager
def serve() -> Iterator[Server]:
    listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    listener.handle_error = lambda *_: None  # type: ignore[method-assign]  # a client that hangs up is no fault here
    state = Server(f"http://127.0.0.1:{listener.server_port}")
    listener.RequestHandlerClass = type("Bound", (Handler,), {"state": state})
    thread = threading.Thread(target=lambda: listener.serve_forever(poll_interval=0.01), daemon=True)
    thread.start()
    yield state
    listener.shutdown()
    listener.server_close()
    thread.join()


def manifest(*files: RemoteFile) -> Manifest:
    return Manifest(
        name="test",
        title="A test",
        summary="A test.",
        command="langhops prepare test --source DIR",
        source="nowhere",
        licence="none",
        annotations=Annotations(objects="masks", parts="masks", parents="given", exhaustive=True),
        files=list(files),
    )


def one(server: Server, **facts: Any) -> Manifest:
    return manifest(RemoteFile(url=server.url("a.bin"), path="below/a.bin", **facts))


def names_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def refusal(call: Callable[[], object], code: int) -> str:
    with pytest.raises(UserError) as caught:
        call()
    assert caught.value.code == code
    assert "\n" not in str(caught.value)
    return str(caught.value)
