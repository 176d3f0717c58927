"""`langhops demo`: a page in the browser to try a model on pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Option

from langhops_cli.cli.console import note, say

LOCAL = ("127.0.0.1", "localhost", "::1")
EVERYWHERE = ("0.0.0.0", "::")


def demo(
    checkpoint: Annotated[
        Path | None, Option(help="Folder or Hub id of a model; the embedded one if not given.")
    ] = None,
    port: Annotated[int, Option(min=0, max=65535, help="Where the page is served; 0 for any that is free.")] = 7860,
    host: Annotated[
        str, Option(help="Network address to serve it on; 0.0.0.0 lets other machines use it.")
    ] = "127.0.0.1",
    device: Annotated[str, Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Serve a page to try a model: drop a picture, type names, see the tree and the masks.

    It runs on this machine alone and loads nothing from elsewhere. Ctrl-C ends it, and deletes what was sent to it.

    Example: langhops demo

    Example: langhops demo --checkpoint runs/stage2 --port 8080
    """
    from langhops_cli.demo.page import load_gradio
    from langhops_cli.demo.server import listen, own_uploads, serve

    with own_uploads(), listen(host, port) as place:
        load_gradio()
        from langhops_cli.demo.finder import Finder
        from langhops_cli.prediction.predictor import Predictor

        finder = Finder(Predictor.from_pretrained(checkpoint, device=device), checkpoint)
        shown = "127.0.0.1" if host in EVERYWHERE else f"[{host}]" if ":" in host else host
        address = f"http://{shown}:{place.getsockname()[1]}"
        if host not in LOCAL:
            note("whoever reaches this machine can use the page; there is no password")
        serve(finder, place, lambda: say(f"{address} (open it in a browser; Ctrl-C ends it)"))
