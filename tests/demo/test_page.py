"""What the page shows for an answer, a mistake and an accident, and what the command says before it serves."""

from __future__ import annotations

import logging
import socket
import sys
from html.parser import HTMLParser

import pytest
from typer.testing import CliRunner

from langhops_cli.cli.app import app
from langhops_cli.demo.finder import COCO, DRAWING, PAGE, Result, Results
from langhops_cli.demo.page import answer, append_names, show_error, show_result
from langhops_cli.demo.server import listen
from langhops_cli.errors import UserError
from langhops_cli.vocabulary import parse_vocabulary
from tests.prediction.galleries import HOSTILE


class Elements(HTMLParser):
    """Elements with their attributes, and all texts."""

    def __init__(self, text):
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.texts.append(data)


class Failing:
    def __init__(self, error):
        self.error = error

    def find(self, picture, names, *, min_score, propose):
        raise self.error


def ask(error, picture="/tmp/x/a.jpg", names="car"):
    return answer(Failing(error), Results(), picture, names, min_score=0.3, propose=True)


@pytest.mark.parametrize("name", HOSTILE)
def test_names_stay_texts_whatever_they_hold(name):
    shown = Elements(show_result(Result(name, 2, 1, 0.44, (name, "two"), {}), "TOKEN"))
    assert {tag for tag, _ in shown.found} == {"div", "span", "a", "ul", "li", "iframe"}
    (frame,) = [attributes for tag, attributes in shown.found if tag == "iframe"]
    assert frame == {"src": f"results/TOKEN/{PAGE}", "title": f"What was found in {name}"}
    links = [attributes["href"] for tag, attributes in shown.found if tag == "a"]
    assert sorted(set(links)) == sorted(f"results/TOKEN/{file}" for file in (PAGE, COCO, DRAWING))
    assert name in shown.texts and "2 objects, 1 part in 0.4 s" in shown.texts
    assert Elements(show_error(name)).texts == name.split("\n")


def test_a_mistake_keeps_its_caret_in_its_column():
    try:
        parse_vocabulary("<b>:head,,leg")
    except UserError as error:
        shown = Elements(ask(error))
    assert shown.texts == ["empty part name", "  <b>:head,,leg\n           ^"]
    assert [tag for tag, _ in shown.found] == ["div", "p", "pre"]


def test_what_is_missing_is_no_mistake():
    assert "Drop a picture first" in answer(Failing(None), Results(), None, "", min_score=0.3, propose=True)
    assert "say what to look for" in ask(None, names=" \n")


def test_an_accident_is_told_on_the_page_and_in_the_terminal(caplog):
    with caplog.at_level(logging.ERROR):
        shown = Elements(ask(RuntimeError("out of <memory>\nand more")))
    assert shown.texts == ["unexpected RuntimeError: out of <memory>"]
    assert "Traceback" in caplog.text and "out of <memory>" in caplog.text


@pytest.mark.parametrize(
    ("before", "after"), [("", "car:door"), ("dog:leg", "dog:leg; car:door"), (" dog ; ", "dog; car:door")]
)
def test_a_known_object_comes_behind_what_is_there(before, after):
    assert append_names(before, "car:door") == after
    assert append_names("dog", None) == "dog"


def test_without_gradio_the_command_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    result = CliRunner().invoke(app, ["demo"])
    assert (result.exit_code, result.stdout) == (4, "")
    assert result.stderr == "error: the page is made with Gradio: pip install 'langhops[demo]'\n"


def test_an_address_that_is_not_to_be_had_is_refused():
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        assert port > 0
        with socket.create_connection(("127.0.0.1", port)):
            pass
        with pytest.raises(UserError, match=rf"127.0.0.1:{port} is not to be had .* give another --port") as caught:
            listen("127.0.0.1", port)
        assert caught.value.code == 4
    with pytest.raises(UserError, match=r"--host 256.0.0.1 is no address of this machine"):
        listen("256.0.0.1", 0)
    with pytest.raises(UserError, match=r"203.0.113.1:0 is not to be had"):
        listen("203.0.113.1", 0)
