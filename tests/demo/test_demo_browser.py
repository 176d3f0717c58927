"""`langhops demo` as a person uses it: the command itself, a real browser, and the model that comes with the package.

The server may connect to nothing but this machine: whoever it asks otherwise is written down.
"""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.prediction.browser import PATIENCE, Browser, find_chromium

pytest.importorskip("gradio", reason="needs pip install 'langhops[demo]'")
CHROMIUM = find_chromium()
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the path or in LANGHOPS_CHROMIUM")

NAMES = "face:hair,skin,eye*2,eyebrow*2,nose,neck"
GUARDED = """
import socket, sys
connect, find = socket.socket.connect, socket.getaddrinfo
def allowed(host):
    if host not in ("127.0.0.1", "::1", "localhost", None):
        open(sys.argv[1], "a").write(f"{host}\\n")
        raise OSError(f"no network: {host}")
def guarded_connect(self, address):
    if isinstance(address, tuple):
        allowed(address[0])
    return connect(self, address)
def guarded_find(host, *rest, **more):
    allowed(host)
    return find(host, *rest, **more)
socket.socket.connect, socket.getaddrinfo = guarded_connect, guarded_find
from langhops_cli.cli.app import main
sys.argv[:] = ["langhops", "demo", "--port", "0"]
main()
"""
FRAME = "document.querySelector('#found iframe').contentDocument"
IN_FRAME = f"[...{FRAME}.querySelectorAll('{{}}')].map((one) => one.innerText)"


@dataclass(frozen=True)
class Demo:
    """The running command: its process, address, temporary files, and the file of forbidden connections."""

    process: subprocess.Popen[str]
    address: str
    temporary: Path
    asked: Path


@pytest.fixture(scope="module")
def demo(tmp_path_factory, repository) -> Iterator[Demo]:
    folder = tmp_path_factory.mktemp("demo")
    (folder / "temporary").mkdir()
    env = {**os.environ, "TMPDIR": str(folder / "temporary"), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-c", GUARDED, str(folder / "asked")]
    with (folder / "err").open("w") as err:
        process = subprocess.Popen(command, cwd=repository, env=env, stdout=subprocess.PIPE, stderr=err, text=True)
    assert process.stdout is not None
    try:
        ready, _, _ = select.select([process.stdout], [], [], 2 * PATIENCE)
        line = process.stdout.readline() if ready else ""
        found = re.match(r"(http://127\.0\.0\.1:\d+) \(open it", line)
        assert found, (folder / "err").read_text()
        yield Demo(process, found[1], folder / "temporary", folder / "asked")
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture
def browser(started, demo) -> Iterator[Browser]:
    """The page, opened anew; at the end nothing has gone wrong in it and it has asked its own server only."""
    started.resize(1280, 800)
    started.prefer("light")
    started.visit(demo.address)
    started.until("document.querySelector('#find')")
    yield started
    assert not started.told("Runtime.exceptionThrown")
    logged = [row["entry"] for row in started.told("Log.entryAdded")]
    assert not [row for row in logged if row["level"] in {"error", "warning"}]
    asked = [event["request"]["url"] for event in started.told("Network.requestWillBeSent")]
    assert any(url.startswith(demo.address) for url in asked)
    assert not [url for url in asked if not url.startswith((f"{demo.address}/", "data:", "blob:"))]
    assert not demo.asked.exists(), demo.asked.read_text()


def give(browser, picture):
    browser.give_file("#picture input[type=file]", picture)
    browser.until("document.querySelector('#found .hint')?.innerText.includes('Now say')")


def look_for(browser, names):
    """Type names, press Enter and wait for the answer to them."""
    browser.run("document.querySelector('#found').firstElementChild?.setAttribute('data-before', '')")
    browser.run("document.querySelectorAll('#found [role]').forEach((one) => one.setAttribute('data-before', ''))")
    browser.write("#names textarea", names)
    browser.press("Enter")
    answered = "[...document.querySelectorAll('#found [role]')].find((one) => !('before' in one.dataset))"
    browser.until(answered)
    if browser.run(f"({answered}).getAttribute('role')") == "status":
        browser.until(f"{FRAME}?.querySelector('#tree .row, #empty:not([hidden])')")
    browser.frame()


def saved(browser):
    """Fetch what the page offers to save: file name, status, first two bytes, and the text of JSON."""
    return browser.run(
        "Promise.all([...document.querySelectorAll('#found a[download]')].map(async (link) => {"
        "const answer = await fetch(link.href); const bytes = new Uint8Array(await answer.arrayBuffer());"
        "return [link.download, answer.status, String.fromCharCode(...bytes.slice(0, 2)),"
        "link.download.endsWith('.json') ? new TextDecoder().decode(bytes) : '']; }))"
    )


def test_a_dropped_picture_and_typed_names_give_its_tree(browser, repository):
    give(browser, repository / "imgs/portrait.jpg")
    look_for(browser, NAMES)
    assert browser.run("document.activeElement.tagName") == "TEXTAREA", "the next names can be typed at once"
    drawing, coco, page = saved(browser)
    assert drawing[:3] == ["portrait.jpg", 200, "\xff\xd8"]
    assert page[:3] == ["portrait.html", 200, "<!"]
    assert coco[:2] == ["portrait.json", 200]
    found = json.loads(coco[3])
    assert found["images"][0]["file_name"] == "portrait.jpg"
    names = {row["id"]: row.get("part_name", row["name"]) for row in found["categories"]}
    rows = [(names[row["category_id"]], row["score"]) for row in found["annotations"]]
    assert {"face", "hair", "skin"} <= {name for name, _ in rows}
    shown = zip(*(browser.run(IN_FRAME.format(what)) for what in (".row .row-name", ".row .score")), strict=True)
    assert sorted(shown) == sorted((name, f"{score:.2f}") for name, score in rows)
    hair = next(number for number, (name, _) in enumerate(rows) if name == "hair")
    frame = "document.querySelector('#found iframe').getBoundingClientRect()"
    row = f"{FRAME}.getElementById('row-{hair}').getBoundingClientRect()"
    browser.click(*browser.run(f"[{frame}.left + {row}.left + 60, {frame}.top + {row}.top + 10]"))
    assert browser.run(IN_FRAME.format(".row.lit .row-name")) == ["hair"]
    browser.press("o")
    pressed = browser.run(f"{FRAME}.querySelector('[data-switch=objects]').getAttribute('aria-pressed')")
    assert pressed == "false", "the keyboard works in the frame"


def test_mistakes_stand_on_the_page(browser, repository, tmp_path):
    give(browser, repository / "imgs/portrait.jpg")
    look_for(browser, "face:hair,,nose")
    assert browser.run("document.querySelector('#found .error').innerText.split('\\n')[0]") == "empty part name"
    caret = browser.run("document.querySelector('#found .error pre').textContent")
    assert caret == "  face:hair,,nose\n            ^"
    look_for(browser, "@/etc/hostname")
    assert "this page reads none" in browser.run("document.querySelector('#found').innerText")
    browser.write("#names textarea", "face")
    broken = tmp_path / "holiday.jpg"
    broken.write_bytes((repository / "imgs/portrait.jpg").read_bytes()[:2000])
    browser.run("document.querySelector('#picture [aria-label*=Clear], #picture [aria-label*=Remove]').click()")
    browser.until("document.querySelector('#picture input[type=file]')")
    browser.give_file("#picture input[type=file]", broken)
    browser.until("document.querySelector('#found .error')?.innerText.includes('cut off')")
    assert browser.run("document.querySelector('#found .error').innerText").startswith("holiday.jpg is cut off")


def test_what_the_model_knows_is_a_choice_away(browser):
    browser.write("#names textarea", "dog:head")
    browser.click(*browser.middle("#known input"))
    browser.until("document.querySelector('#known [role=option]')")
    for letter in "faca":
        browser.press(letter)
    browser.until("document.querySelectorAll('#known [role=option]').length === 1")
    browser.press("Enter")
    browser.until("document.querySelector('#names textarea').value !== 'dog:head'")
    assert browser.run("document.querySelector('#names textarea').value").startswith("dog:head; facade:")
    browser.until("document.querySelector('#known input').value === ''")


def test_dark_and_light(browser, repository):
    def brightness(where):
        colour = browser.run(f"getComputedStyle({where}.body).backgroundColor")
        return sum(map(int, re.findall(r"\d+", colour)[:3])) / 3

    texts = (
        "#top h1, #top p, #found .hint, #form span, #names span, #names div, #known span, #find, #more span:not(.icon)"
    )
    for scheme in ("light", "dark"):
        browser.prefer(scheme)
        browser.frame()
        assert [row for row in browser.contrasts(texts) if row[1] < 4.5] == []
    give(browser, repository / "imgs/portrait.jpg")
    look_for(browser, "face")
    assert browser.run("document.querySelectorAll('#found .remarks li').length"), (
        "parts were proposed, and that is said"
    )
    answer = "#found [role=status], #found a, #found li, #found .links span"
    for scheme in ("dark", "light"):
        browser.prefer(scheme)
        browser.frame()
        for where in ("document", FRAME):
            assert (brightness(where) > 128) is (scheme == "light"), "the frame goes with the page"
        figures = browser.contrasts(answer)
        assert len(figures) > 5 and [row for row in figures if row[1] < 4.5] == []


@pytest.mark.parametrize("width", [320, 390])
def test_on_a_phone_the_answer_comes_into_sight(browser, repository, width):
    browser.resize(width, 800, phone=True, fine=2)
    give(browser, repository / "imgs/portrait.jpg")
    browser.run("scrollTo(0, 0)")
    look_for(browser, "face")
    assert browser.run("document.documentElement.scrollWidth") == width
    wide = "[...document.querySelectorAll('#found *')].filter((one) => one.getBoundingClientRect().right > innerWidth)"
    assert browser.run(f"{wide}.map((one) => one.outerHTML)") == []
    assert browser.run("[...document.querySelectorAll('#found li')].every((one) => one.scrollWidth <= one.clientWidth)")
    top, wide = browser.run(
        "(() => { const box = document.querySelector('#found iframe').getBoundingClientRect();"
        "return [box.top, box.width]; })()"
    )
    assert 0 <= top < 400
    assert wide >= width - 50, "little is lost at the sides"


def test_nobody_reads_other_pictures_of_the_machine_through_it(browser, repository):
    """A request that names a file which was never sent is refused."""
    secret = json.dumps(str(repository / "imgs/cat.jpg"))
    told = browser.run(
        "(async () => { const data = [{path: " + secret + ", meta: {_type: 'gradio.FileData'}}, 'cat', 0.3, false];"
        "const known = gradio_config.dependencies.find((one) => one.inputs.length === 4).id;"
        "const body = JSON.stringify({data, fn_index: known, session_hash: 'abcdefgh'});"
        "const headers = {'Content-Type': 'application/json'};"
        "const sent = await fetch('gradio_api/queue/join', {method: 'POST', headers, body});"
        "if (!sent.ok) return 'refused ' + sent.status;"
        "const reader = (await fetch('gradio_api/queue/data?session_hash=abcdefgh')).body.getReader();"
        "for (let text = ''; ;) { const {done, value} = await reader.read();"
        "text += new TextDecoder().decode(value); if (done || text.includes('process_completed')) return text; } })()"
    )
    assert '"success":false' in told and "iframe" not in told
    for path, status in {f"gradio_api/file={repository}/imgs/cat.jpg": 403, "results/nobody/index.html": 404}.items():
        assert browser.run(f"fetch('{path}').then((answer) => answer.status)") == status
    browser.events[:] = [event for event in browser.events if event["method"] != "Log.entryAdded"]


def test_the_end_leaves_nothing_behind(demo, started):
    """The last one: an open page does not hold the command up, and what was sent to it is gone."""
    started.visit(demo.address)
    assert list(demo.temporary.iterdir()), "what is sent is kept here"
    demo.process.send_signal(signal.SIGINT)
    assert demo.process.wait(PATIENCE) == 0
    assert [path for path in demo.temporary.iterdir() if not path.name.startswith("torch")] == []
