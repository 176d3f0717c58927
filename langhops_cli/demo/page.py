"""The form and the place for the answer, as a Gradio page."""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langhops_cli.demo.finder import COCO, DRAWING, PAGE, Finder, Result, Results
from langhops_cli.errors import ENVIRONMENT, UserError
from langhops_cli.prediction.wording import count
from langhops_cli.vocabulary import Vocabulary

if TYPE_CHECKING:
    import gradio

TITLE = "langhops demo"
ROUTE = "results"
"""Where results are served, relative to the page, so that it also works below another address."""
_HERE = Path(__file__).resolve().parent
STYLE, SCRIPT = _HERE / "style.css", _HERE / "answer.js"
_LINKS = ((DRAWING, "Drawing"), (COCO, "COCO"), (PAGE, "Page"))
_START = "What is found will be shown here, with the tree of its parts."


def load_gradio() -> Any:
    """Import Gradio, told to ask nobody for anything.

    Raises:
        UserError: it is not installed.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read while it is imported
    try:
        import gradio
    except ImportError:
        raise UserError("the page is made with Gradio: pip install 'langhops[demo]'", code=ENVIRONMENT) from None
    return gradio


def build_page(finder: Finder, results: Results) -> gradio.Blocks:
    """Build the page.

    Args:
        finder: answers it.
        results: where the answers are kept for the browser to fetch.

    Raises:
        UserError: Gradio is not installed.
    """
    gr = load_gradio()
    known = _known_objects(finder)

    def find(picture: str | None, names: str, min_score: float, propose: bool) -> str:
        return answer(finder, results, picture, names, min_score=min_score, propose=propose)

    def add(names: str, chosen: str | None) -> tuple[str, None]:
        return append_names(names, known.get(chosen or "")), None

    with gr.Blocks(title=TITLE, analytics_enabled=False, fill_width=True, delete_cache=(600, 3600)) as page:
        gr.HTML("<h1>langhops</h1><p>Objects and their parts in a picture, by names of your choice.</p>", elem_id="top")
        with gr.Row(elem_id="both"):
            with gr.Column(min_width=300):
                picture, names, chosen, button, least, propose = _form(gr, list(known), finder.min_score)
            with gr.Column(min_width=300):
                found = gr.HTML(show_hint(_START), js_on_load=SCRIPT.read_text(encoding="utf-8"), elem_id="found")
        inputs = [picture, names, least, propose]
        asked = [button.click, names.submit, picture.upload]
        gr.on(asked, find, inputs, found, trigger_mode="always_last", api_visibility="private")
        both = [names, chosen]
        chosen.input(add, both, both, show_progress="hidden", api_visibility="private")
    return page


def _form(gr: Any, known: list[str], min_score: float) -> tuple[Any, ...]:
    """What is filled in: picture, names, a known object to add to them, the button, least score, propose parts."""
    sources = ["upload", "clipboard", "webcam"]
    picture = gr.Image(label="Picture", sources=sources, buttons=[], height=280, elem_id="picture")
    # Gradio would open it itself, and tell of a broken one in its own words.
    picture.preprocess = lambda sent: None if sent is None else sent.path
    names = gr.Textbox(
        label="Look for",
        info="object:part,part; object:part. leg*4 is up to four legs, head(ear,eye) has parts of its own.",
        placeholder="car:wheel*4,door; person:head,hand",
        lines=1,
        max_lines=8,
        elem_id="names",
    )
    chosen = gr.Dropdown(known, value=None, label="Add what the model knows", visible=bool(known), elem_id="known")
    button = gr.Button("Find", variant="primary", elem_id="find")
    with gr.Accordion("More", open=False, elem_id="more"):
        least = gr.Slider(0, 1, value=min_score, step=0.01, label="Least score", elem_id="least")
        propose = gr.Checkbox(True, label="Look for likely parts where none are named", elem_id="propose")
    return picture, names, chosen, button, least, propose


def answer(
    finder: Finder, results: Results, picture: str | None, names: str, *, min_score: float, propose: bool
) -> str:
    """Look for names in a picture; return the HTML that shows what was found, or what is wrong.

    Args:
        finder: does it.
        results: keeps what is found.
        picture: the file that was dropped; None as long as there is none.
        names: as they were typed.
        min_score: what scores less is left out, 0..1.
        propose: look for likely parts too where the names give none.
    """
    if picture is None:
        return show_hint("Drop a picture first.")
    if not names.strip():
        return show_hint("Now say what to look for, such as car:wheel,door.")
    try:
        result = finder.find(Path(picture), names, min_score=min_score, propose=propose)
    except UserError as error:
        return show_error(str(error))
    except Exception as error:  # a GPU without memory, say: the page goes on, and the terminal tells where it was
        logging.getLogger(__name__).exception("the page got an error")
        return show_error(f"unexpected {type(error).__name__}: {(str(error).splitlines() or [''])[0]}")
    return show_result(result, results.add(result))


def show_hint(text: str) -> str:
    """The HTML of what to do next."""
    return f'<p class="hint">{escape(text)}</p>'


def show_result(result: Result, token: str) -> str:
    """The HTML of what was found: the gallery's own page in a frame, and its files to save."""
    place = f"{ROUTE}/{token}"
    stem = escape(Path(result.picture).stem)
    links = " ".join(
        f'<a href="{place}/{name}" download="{stem}{Path(name).suffix}">{label}</a>' for name, label in _LINKS
    )
    remarks = "".join(f"<li>{escape(remark)}</li>" for remark in result.remarks)
    counts = f"{count(result.objects, 'object')}, {count(result.parts, 'part')} in {result.seconds:.1f} s"
    alone = f'<a href="{place}/{PAGE}" target="_blank">Open alone</a>'
    bar = f'<span role="status">{counts}</span><span class="links">{alone} <span>Save:</span> {links}</span>'
    frame = f'<iframe src="{place}/{PAGE}" title="What was found in {escape(result.picture)}"></iframe>'
    return f'<div class="bar">{bar}</div>' + (f'<ul class="remarks">{remarks}</ul>' if remarks else "") + frame


def show_error(message: str) -> str:
    """The HTML of an error: its line, and below it the place in the text that has the mistake, in equal columns."""
    line, _, place = message.partition("\n")
    shown = f"<pre>{escape(place)}</pre>" if place else ""
    return f'<div class="error" role="alert"><p>{escape(line)}</p>{shown}</div>'


def append_names(text: str, more: str | None) -> str:
    """Put an object with its parts behind what is there already."""
    before = text.strip().rstrip(";").rstrip()
    return "; ".join(filter(None, [before, more]))


def _known_objects(finder: Finder) -> dict[str, str]:
    """The objects that the model was trained on, by name, each as a text in the grammar."""
    from langhops_cli.hierarchy.sources import EMBEDDED, checkpoint_names

    with suppress(UserError):  # a checkpoint may keep no names
        names = checkpoint_names(EMBEDDED if finder.checkpoint is None else finder.checkpoint)
        return {item.name: str(Vocabulary((item,))) for item in names.objects}
    return {}
