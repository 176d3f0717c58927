"""A headless Chromium, driven over a pipe by the DevTools protocol: nothing to install but the browser itself."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

PATIENCE = 120.0
"""Seconds that a busy machine may take for one answer."""
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_ON_3_AND_4 = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); os.execv(sys.argv[3], sys.argv[3:])"
)
_KEYS = {"Escape": 27, "Enter": 13, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, "Tab": 9}
_CONTRASTS = """(async () => {
  const changing = document.getAnimations().filter((one) => one instanceof CSSTransition);
  await Promise.all(changing.map((one) => one.finished));
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = (channel) => (channel /= 255) <= 0.04045 ? channel / 12.92 : ((channel + 0.055) / 1.055) ** 2.4;
  const shine = ([r, g, b]) => 0.2126 * light(r) + 0.7152 * light(g) + 0.0722 * light(b);
  const ground = (node) => {
    for (; node; node = node.parentElement) {
      const colour = parse(getComputedStyle(node).backgroundColor);
      if (colour.length === 3) return colour;
    }
  };
  return [...document.querySelectorAll(%s)]
    .filter((node) => node.innerText?.trim() && node.offsetParent && !node.disabled)
    .map((node) => {
      const [one, other] = [parse(getComputedStyle(node).color), ground(node)].map(shine).sort((a, b) => b - a);
      return [node.id || node.className || node.innerText, (one + 0.05) / (other + 0.05)];
    });
})()"""


def find_chromium() -> str | None:
    """The browser that LANGHOPS_CHROMIUM names or the first one on the path; None on a system without such pipes."""
    if os.name != "posix":
        return None
    named = os.environ.get("LANGHOPS_CHROMIUM")
    return named or next(filter(None, map(shutil.which, _NAMES)), None)


class Browser:
    """One page in a browser of its own.

    Args:
        program: the browser to start.
        profile: an empty folder for it to write to.
    """

    def __init__(self, program: str, profile: Path) -> None:
        there, self._write = _high_pipe()
        self._read, back = _high_pipe()
        flags = ["--headless=new", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--no-first-run"]
        flags += ["--hide-scrollbars", "--disable-dev-shm-usage", "--disable-background-networking"]
        flags += ["--force-device-scale-factor=1", f"--user-data-dir={profile}"]
        self._process = subprocess.Popen(
            [sys.executable, "-c", _ON_3_AND_4, str(there), str(back), program, *flags],
            pass_fds=(there, back),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(there)
        os.close(back)
        self._rest = b""
        self._calls = 0
        self._session: str | None = None
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log", "DOM"):
            self.call(f"{domain}.enable")
        self.resize(1280, 800)

    def close(self) -> None:
        """End the browser."""
        try:
            self._session = None
            self.call("Browser.close")
            self._process.wait(PATIENCE)
        finally:
            if self._process.poll() is None:
                self._process.kill()
                self._process.wait()
            os.close(self._write)
            os.close(self._read)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and return its answer; events that come before it are kept."""
        self._calls += 1
        number = self._calls
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]
            if "method" in answer:
                self.events.append(answer)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._read], [], [], PATIENCE)
            assert ready, f"the browser said nothing for {PATIENCE:.0f} s"
            chunk = os.read(self._read, 1 << 20)
            assert chunk, "the browser ended"
            self._rest += chunk
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)

    def open(self, page: Path, fragment: str = "") -> None:
        """Open a file and wait until it is loaded and drawn."""
        self.call("Page.navigate", url="about:blank")
        self.until("location.href === 'about:blank'")
        self.events.clear()
        self.call("Page.navigate", url=page.resolve().as_uri() + fragment)
        self.until("document.readyState === 'complete' && location.protocol === 'file:'")
        self.frame()

    def visit(self, address: str) -> None:
        """Open a page that a server sends, and wait until it is loaded."""
        self.call("Page.navigate", url="about:blank")
        self.until("location.href === 'about:blank'")
        self.events.clear()
        self.call("Page.navigate", url=address)
        self.until("document.readyState === 'complete' && location.protocol === 'http:'")
        self.frame()

    def give_file(self, selector: str, path: Path) -> None:
        """Choose a file in an input for files."""
        document = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=document, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(path.resolve())])

    def write(self, selector: str, text: str) -> None:
        """Put a text into a field in place of what is there, as a paste does; the field keeps the focus."""
        self.run(f"document.querySelector({json.dumps(selector)}).select()")
        self.call("Input.insertText", text=text)
        self.frame()

    def contrasts(self, selector: str) -> list[tuple[str, float]]:
        """Ratio of the lightness of each text that is seen to that of its ground, 1..21, by WCAG 2; with its name."""
        return [(name, ratio) for name, ratio in self.run(_CONTRASTS % json.dumps(selector))]

    def run(self, script: str) -> Any:
        """Evaluate an expression in the page, waiting for a promise, and return its value."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def until(self, script: str) -> None:
        """Wait until an expression is true; every look lets the page draw."""
        latest = time.monotonic() + PATIENCE
        while time.monotonic() < latest:
            if self.run(f"Boolean({script})"):
                return
            self.run("new Promise((done) => setTimeout(done, 20))")
        raise AssertionError(f"never true: {script}")

    def frame(self) -> None:
        """Let the page draw what has changed."""
        self.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done())))")

    def resize(self, width: int, height: int, *, phone: bool = False, fine: int = 1) -> None:
        """Give the page a size in CSS pixels, with so many pixels of the screen to one; a phone is touched."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=fine, mobile=phone
        )
        self.call("Emulation.setTouchEmulationEnabled", enabled=phone)

    def prefer(self, scheme: str) -> None:
        """Have the system ask for "dark" or "light"."""
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def press(self, key: str) -> None:
        """Press and release a key: "o", "?", "ArrowRight"."""
        text = {"text": key} if len(key) == 1 else {"text": "\r"} if key == "Enter" else {}
        code = _KEYS.get(key, ord(key[0].upper()))
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, windowsVirtualKeyCode=code, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)
        self.frame()

    def point(self, x: float, y: float) -> None:
        """Move the mouse there."""
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        self.frame()

    def click(self, x: float, y: float) -> None:
        """Press and release the mouse there."""
        self.point(x, y)
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)
        self.frame()

    def middle(self, selector: str) -> tuple[float, float]:
        """Middle of an element in the window, scrolled into it."""
        box = self.run(
            f"(() => {{ const found = document.querySelector({json.dumps(selector)});"
            "found.scrollIntoView({block: 'nearest'}); const box = found.getBoundingClientRect();"
            "return [box.left + box.width / 2, box.top + box.height / 2]; })()"
        )
        return box[0], box[1]

    def screenshot(self, path: Path) -> None:
        """Write what the window shows as PNG."""
        self.frame()
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))

    def told(self, *methods: str) -> list[dict[str, Any]]:
        """Events of these kinds since the page was opened."""
        return [event["params"] for event in self.events if event["method"] in methods]


def _high_pipe() -> tuple[int, int]:
    """A pipe away from the numbers 3 and 4, where the browser wants its ends."""
    import fcntl

    reading, writing = os.pipe()
    high = tuple(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in (reading, writing))
    os.close(reading)
    os.close(writing)
    return high[0], high[1]
