"""The server of the page: its address, the results that are fetched, and what the browser may ask for."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from langhops_cli.demo.finder import COCO, DRAWING, PAGE, Finder, Results
from langhops_cli.demo.page import ROUTE, STYLE, build_page, load_gradio
from langhops_cli.errors import ENVIRONMENT, UserError

if TYPE_CHECKING:
    from fastapi import FastAPI

LARGEST = "200mb"
"""Of a picture that is sent."""
PATIENCE = 2
"""Seconds that open pages are waited for at the end."""
POLICY = b"default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; form-action 'self'; base-uri 'self'"
"""What a browser may load for the page: from here alone. Gradio's own scripts are built to need the rest."""
_KINDS = {PAGE: "text/html; charset=utf-8", COCO: "application/json", DRAWING: "image/jpeg"}
_FONT, _CODE = ("system-ui", "sans-serif"), ("ui-monospace", "Menlo", "Consolas", "monospace")


class SameOrigin:
    """Adds `POLICY` to every answer: the page works, and tells nothing to anyone, without a network.

    Args:
        app: what answers.
    """

    def __init__(self, app: Callable[..., Any]) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass a request on and its answer back, with one more header."""

        async def send_with_policy(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"content-security-policy", POLICY)]
            await send(message)

        await self.app(scope, receive, send_with_policy)


def build_server(finder: Finder, results: Results) -> FastAPI:
    """Put the page and the results' files under one address.

    Args:
        finder: answers the page.
        results: what it found.

    Raises:
        UserError: Gradio is not installed.
    """
    gr = load_gradio()
    from fastapi import FastAPI, Response

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(SameOrigin)

    def send_file(token: str, name: str) -> Response:
        content = results.file(token, name)
        if content is None:
            return Response("This result is no longer kept: look for it again.", 404, media_type="text/plain")
        return Response(content, media_type=_KINDS[name], headers={"Cache-Control": "no-store"})

    app.add_api_route(f"/{ROUTE}/{{token}}/{{name}}", send_file, response_model=None)
    page = build_page(finder, results)
    # Without it Gradio takes any file of this machine for a picture that was sent, if a request says so.
    page.has_launched = True
    return gr.mount_gradio_app(
        app,
        page,
        path="/",
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        mcp_server=False,
        max_file_size=LARGEST,
        theme=_theme(gr),
        # Not as css=, whose selectors Gradio changes so that they reach the middle of the page only.
        head=f"<style>{STYLE.read_text(encoding='utf-8')}</style>",
    )


def _theme(gr: Any) -> Any:
    """Colours with enough contrast to be read, and fonts of the system: none is fetched."""
    theme = gr.themes.Default(primary_hue="indigo", neutral_hue="slate", font=_FONT, font_mono=_CODE)
    faint = {"body_text_color_subdued": "*neutral_500", "input_placeholder_color": "*neutral_500"}
    return theme.set(
        **faint,
        **{f"{name}_dark": "*neutral_400" for name in faint},
        link_text_color="*primary_600",
        link_text_color_dark="*primary_300",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
    )


def listen(host: str, port: int) -> socket.socket:
    """Take an address, before anything heavy is loaded.

    Args:
        host: name or address of a network interface of this machine.
        port: 0 for any that is free.

    Raises:
        UserError: it is not to be had.
    """
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family)
    except socket.gaierror:
        raise UserError(f"--host {host} is no address of this machine; leave it out, or give 0.0.0.0 for all") from None
    except OSError as error:
        reason = f"{host}:{port} is not to be had ({error.strerror}); give another --port, 0 for any that is free"
        raise UserError(reason, code=ENVIRONMENT) from None


@contextmanager
def own_uploads() -> Iterator[Path]:
    """A folder for the pictures that are sent, gone at the end; Gradio has to be imported in it, not before."""
    with TemporaryDirectory(prefix="langhops-demo-") as name:
        folder = Path(name).resolve()
        os.environ["GRADIO_TEMP_DIR"] = str(folder)
        yield folder


def serve(finder: Finder, place: socket.socket, announce: Callable[[], None]) -> None:
    """Serve the page until Ctrl-C or the signal to end.

    Args:
        finder: answers the page.
        place: a listening socket; it is closed at the end.
        announce: called as soon as the page can be opened.
    """
    import uvicorn

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            announce()

    config = uvicorn.Config(build_server(finder, Results()), log_level="warning", timeout_graceful_shutdown=PATIENCE)
    # uvicorn raises the signal that ended it once more when it is done: as this exception, not as a sudden death.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        Server(config).run(sockets=[place])
    except KeyboardInterrupt:
        return
