"""Files over HTTP: broken connections, servers that misbehave, full disks."""

import hashlib
import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request

import pytest

from langhops_cli.data.fetching import download as downloading
from langhops_cli.data.fetching.download import WebRedirects
from langhops_cli.data.fetching.fetch import FetchReport, fetch
from langhops_cli.data.manifests import RemoteFile
from langhops_cli.errors import DATA, ENVIRONMENT
from tests.data.serving import CONTENT, SHA256, Handler, Served, Server, manifest, names_in, one, refusal, serve


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(downloading, "SECONDS", 5.0)
    with serve() as running:
        yield running


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses between tries, which take no time here."""
    made: list[float] = []
    monkeypatch.setattr(downloading, "time", SimpleNamespace(sleep=made.append))
    return made


@pytest.mark.parametrize(
    "facts",
    [
        {},
        {"size": len(CONTENT)},
        {"sha256": SHA256},
        {"md5": hashlib.md5(CONTENT).hexdigest(), "sha256": SHA256.upper(), "size": len(CONTENT)},
    ],
    ids=["nothing known", "size", "sha256", "all"],
)
def test_a_file_comes_whole_and_only_once(server: Server, tmp_path: Path, facts: dict[str, Any]) -> None:
    server.files["a.bin"] = Served()
    told: list[tuple[str, int, int | None]] = []
    report = fetch(one(server, **facts), tmp_path / "new", track=lambda *step: told.append(step))
    assert report == FetchReport(fetched=["below/a.bin"])
    assert (tmp_path / "new/below/a.bin").read_bytes() == CONTENT
    assert names_in(tmp_path) == ["new/below/a.bin"]
    steps = [(done, total) for label, done, total in told if label == "fetch below/a.bin"]
    assert steps[0] == (0, len(CONTENT)) and steps[-1] == (len(CONTENT), len(CONTENT)) and steps == sorted(steps)

    again = fetch(one(server, **facts), tmp_path / "new")
    assert again == FetchReport(there=["below/a.bin"])
    assert again.lines() == ["below/a.bin was there already"]
    assert len(server.seen) == 1


def test_a_stop_by_the_keyboard_leaves_a_part_that_is_gone_on_with(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloading, "CHUNK", 1000)
    server.files["a.bin"] = Served()

    def stop(label: str, done: int, total: int | None) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(one(server), tmp_path, track=stop)
    assert names_in(tmp_path) == ["below/a.bin.part", "below/a.bin.part.json"]
    done = (tmp_path / "below/a.bin.part").stat().st_size
    assert 0 < done <= 1000

    fetch(one(server), tmp_path)
    assert (tmp_path / "below/a.bin").read_bytes() == CONTENT
    assert names_in(tmp_path) == ["below/a.bin"]
    assert server.seen[1:] == [("a.bin", f"bytes={done}-", '"one"')]


def test_a_broken_connection_is_gone_on_with_at_once(server: Server, tmp_path: Path, waits: list[float]) -> None:
    server.files["a.bin"] = Served(cuts=[1000, 500_000])
    fetch(one(server, sha256=SHA256), tmp_path)
    assert (tmp_path / "below/a.bin").read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=1000-", "bytes=501000-"]
    assert waits == [1.0, 2.0]


def test_a_part_of_an_older_version_is_not_gone_on_with(server: Server, tmp_path: Path, waits: list[float]) -> None:
    server.files["a.bin"] = Served(content=b"x" * len(CONTENT), cuts=[5000] * 5)
    refusal(lambda: fetch(one(server), tmp_path), ENVIRONMENT)
    assert len(waits) == 4
    server.files["a.bin"] = Served(tag='"two"')
    fetch(one(server), tmp_path)
    assert server.seen[-1] == ("a.bin", "bytes=25000-", '"one"')
    assert (tmp_path / "below/a.bin").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("served", "facts", "goes_on"),
    [
        (Served(ranges=False), {"sha256": SHA256}, True),  # asks, but the server sends all of it
        (Served(tag=None), {}, False),
        (Served(tag='W/"weak"'), {}, False),
        (Served(tag=None), {"sha256": SHA256}, True),
    ],
    ids=["no ranges", "no version", "weak version", "a checksum will tell"],
)
def test_a_part_is_gone_on_with_only_where_it_is_safe(
    server: Server, tmp_path: Path, waits: list[float], served: Served, facts: dict[str, Any], goes_on: bool
) -> None:
    served.cuts = [4096]
    server.files["a.bin"] = served
    fetch(one(server, **facts), tmp_path)
    assert (tmp_path / "below/a.bin").read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=4096-" if goes_on else None]


def test_a_part_that_is_whole_already_is_only_checked(server: Server, tmp_path: Path) -> None:
    server.files["a.bin"] = Served()
    part = tmp_path / "below/a.bin.part"
    part.parent.mkdir()
    part.write_bytes(CONTENT)
    fetch(one(server, size=len(CONTENT), sha256=SHA256), tmp_path)
    assert server.seen == []
    part.write_bytes(CONTENT)
    part.with_name("a.bin.part.json").write_text(json.dumps({"url": server.url("a.bin"), "version": '"one"'}))
    (tmp_path / "below/a.bin").unlink()
    fetch(one(server, sha256=SHA256), tmp_path)
    assert server.ranges == [f"bytes={len(CONTENT)}-"]
    assert names_in(tmp_path) == ["below/a.bin"]


def test_a_part_longer_than_the_file_is_thrown_away(server: Server, tmp_path: Path, waits: list[float]) -> None:
    server.files["a.bin"] = Served()
    part = tmp_path / "below/a.bin.part"
    part.parent.mkdir()
    part.write_bytes(CONTENT + b"more")
    part.with_name("a.bin.part.json").write_text(json.dumps({"url": server.url("a.bin"), "version": '"one"'}))
    fetch(one(server), tmp_path)
    assert server.ranges == [f"bytes={len(CONTENT) + 4}-", None]
    assert (tmp_path / "below/a.bin").read_bytes() == CONTENT


@pytest.mark.parametrize("facts", [{"sha256": "0" * 64}, {"md5": "0" * 32}], ids=["sha256", "md5"])
def test_a_wrong_checksum_leaves_nothing(server: Server, tmp_path: Path, facts: dict[str, str]) -> None:
    server.files["a.bin"] = Served()
    message = refusal(lambda: fetch(one(server, **facts), tmp_path), DATA)
    assert next(iter(facts)) in message and "was removed" in message
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("served", [Served(), Served(measured=False)], ids=["stated", "not stated"])
def test_a_file_of_another_size_is_refused(server: Server, tmp_path: Path, served: Served) -> None:
    server.files["a.bin"] = served
    refusal(lambda: fetch(one(server, size=len(CONTENT) - 9), tmp_path), DATA)
    assert names_in(tmp_path) == []


def test_a_connection_that_always_breaks_is_given_up(server: Server, tmp_path: Path, waits: list[float]) -> None:
    server.files["a.bin"] = Served(cuts=[100, 0, 0, 0, 0])
    message = refusal(lambda: fetch(one(server), tmp_path), ENVIRONMENT)
    assert "5 times" in message and "goes on later" in message
    assert waits == [1.0, 2.0, 4.0, 8.0]
    assert names_in(tmp_path) == ["below/a.bin.part", "below/a.bin.part.json"]


def test_tries_are_counted_anew_when_enough_has_come(
    server: Server, tmp_path: Path, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloading, "GAIN", 100_000)
    server.files["a.bin"] = Served(cuts=[100_000] * 10)
    fetch(one(server, sha256=SHA256), tmp_path)
    assert waits == [1.0] * 10


def test_a_busy_server_is_waited_for(server: Server, tmp_path: Path, waits: list[float]) -> None:
    server.files["a.bin"] = Served(answers=[(503, {"Retry-After": "7"}), (429, {}), (500, {"Retry-After": "9999"})])
    fetch(one(server), tmp_path)
    assert waits == [7.0, 2.0, 60.0]


@pytest.mark.parametrize(
    ("answer", "code", "words"),
    [
        ((404, {}), DATA, "not there any more"),
        ((403, {}), ENVIRONMENT, "open it in a browser"),
        ((400, {}), ENVIRONMENT, "refuses"),
        ((302, {"Location": "file:///etc/passwd"}), ENVIRONMENT, "not allowed"),
        ((302, {"Location": "ftp://127.0.0.1/a"}), ENVIRONMENT, "not safe"),
    ],
    ids=["404", "403", "400", "to a file", "to ftp"],
)
def test_what_a_server_refuses_is_said_in_one_line(
    server: Server, tmp_path: Path, answer: tuple[int, dict[str, str]], code: int, words: str
) -> None:
    server.files["a.bin"] = Served(answers=[answer])
    message = refusal(lambda: fetch(one(server), tmp_path), code)
    assert words in message and server.url("a.bin") in message
    assert names_in(tmp_path) == []


def test_redirects_are_followed_and_keep_the_range(server: Server, tmp_path: Path, waits: list[float]) -> None:
    server.files["a.bin"] = Served(answers=[(302, {"Location": "/b.bin"}), (301, {"Location": server.url("b.bin")})])
    server.files["b.bin"] = Served(cuts=[2048])
    fetch(one(server), tmp_path)
    assert [(name, asked) for name, asked, _ in server.seen[-2:]] == [
        ("a.bin", "bytes=2048-"),
        ("b.bin", "bytes=2048-"),
    ]
    assert (tmp_path / "below/a.bin").read_bytes() == CONTENT


def test_https_is_never_left_for_http() -> None:
    def follow(old: str, new: str) -> object:
        return WebRedirects().redirect_request(Request(old), None, 302, "Found", {}, new)  # type: ignore[arg-type]

    assert follow("http://a.org/", "https://a.org/") is not None
    assert follow("https://a.org/", "https://b.org/") is not None
    with pytest.raises(HTTPError, match="not safe"):
        follow("https://a.org/", "http://a.org/")


def test_a_web_page_is_no_file(server: Server, tmp_path: Path) -> None:
    server.files["a.bin"] = Served(content=b"<html>log in</html>", kind="text/html; charset=utf-8")
    assert "web page" in refusal(lambda: fetch(one(server), tmp_path), DATA)
    assert names_in(tmp_path) == []


def test_no_network_is_said_at_once(server: Server, tmp_path: Path, waits: list[float]) -> None:
    closed = manifest(RemoteFile(url="http://127.0.0.1:1/a", path="a"))
    message = refusal(lambda: fetch(closed, tmp_path), ENVIRONMENT)
    assert "127.0.0.1 cannot be reached" in message
    assert waits == [] and names_in(tmp_path) == []


def test_a_silent_server_is_given_up(
    server: Server, tmp_path: Path, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()

    def say_nothing(handler: Handler) -> None:
        release.wait(20)

    monkeypatch.setattr(Handler, "do_GET", say_nothing)
    monkeypatch.setattr(downloading, "SECONDS", 0.05)
    try:
        message = refusal(lambda: fetch(one(server), tmp_path), ENVIRONMENT)
    finally:
        release.set()
    assert "silent" in message and len(waits) == 4


@pytest.mark.parametrize(
    ("facts", "when"), [({"size": len(CONTENT)}, "before"), ({}, "after")], ids=["size known", "server says"]
)
def test_a_full_disk_is_seen_beforehand(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, facts: dict[str, int], when: str
) -> None:
    server.files["a.bin"] = Served()
    usage = SimpleNamespace(free=len(CONTENT) - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    assert "free" in refusal(lambda: fetch(one(server, **facts), tmp_path), ENVIRONMENT)
    assert len(server.seen) == (0 if when == "before" else 1)
    assert names_in(tmp_path) == []
    usage.free += 1
    fetch(one(server, **facts), tmp_path)


def test_a_disk_that_fills_up_keeps_the_part(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.files["a.bin"] = Served()
    real = Path.open

    def open_small(path: Path, mode: str = "r", *rest: Any, **named: Any) -> Any:
        return SmallDisk(real(path, mode, *rest, **named), 3000) if path.suffix == ".part" else real(path, mode)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", open_small)
        assert "make room" in refusal(lambda: fetch(one(server), tmp_path), ENVIRONMENT)
    assert (tmp_path / "below/a.bin.part").stat().st_size == 3000
    fetch(one(server), tmp_path)
    assert server.ranges == [None, "bytes=3000-"]
    assert (tmp_path / "below/a.bin").read_bytes() == CONTENT


class SmallDisk:
    """A file on a disk that has room for a few bytes more."""

    def __init__(self, file: Any, room: int) -> None:
        self.file, self.room = file, room

    def write(self, chunk: bytes) -> int:
        self.file.write(chunk[: self.room])
        self.file.flush()
        self.room -= len(chunk)
        if self.room < 0:
            raise OSError(28, "No space left on device")
        return len(chunk)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def __enter__(self) -> "SmallDisk":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()


def test_two_runs_do_not_write_one_part(server: Server, tmp_path: Path) -> None:
    server.files["a.bin"] = Served()
    found: list[str] = []

    def meanwhile(label: str, done: int, total: int | None) -> None:
        if not found:
            found.append(refusal(lambda: fetch(one(server), tmp_path), ENVIRONMENT))

    fetch(one(server), tmp_path, track=meanwhile)
    assert "another run" in found[0]
    assert (tmp_path / "below/a.bin").read_bytes() == CONTENT
