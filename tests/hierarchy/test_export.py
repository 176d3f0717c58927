"""What is written for other programs, and read back."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest

from langhops_cli.hierarchy.export import FORMATS, counts
from langhops_cli.vocabulary import Vocabulary, parse_vocabulary
from tests.prediction.browser import find_chromium

TREE = parse_vocabulary("dog:head(ear,eye*2),leg*4,tail; car:wheel; 狗:頭; plain")
HOSTILE = parse_vocabulary(
    '"</script><img src=x onerror=alert(1)>":"a ""quoted"" \\ & <b>part</b>",@@tree@@; "@@title@@":&amp'
)
CHROMIUM = find_chromium()


@pytest.mark.parametrize("tree", [TREE, HOSTILE], ids=["plain", "hostile"])
@pytest.mark.parametrize("ending", ["yaml", "json"])
def test_yaml_and_json_are_vocabulary_files(tmp_path, tree, ending):
    path = tmp_path / f"names.{ending}"
    path.write_text(FORMATS[ending](tree, "title"), encoding="utf-8")
    assert parse_vocabulary(f"@{path}") == tree
    if ending == "json":
        assert Vocabulary.from_dict(json.loads(path.read_text(encoding="utf-8"))) == tree


def read_dot(text):
    """The labels of a graph's nodes and its edges, by the rules of Graphviz for strings in quotes."""
    string = r'"((?:\\.|[^"\\])*)"'
    labels = {number: re.sub(r"\\(.)", r"\1", label) for number, label in re.findall(rf"(n\d+) \[label={string}", text)}
    edges = re.findall(r"(n\d+) -> (n\d+)", text)
    return labels, [(labels[one], labels[other]) for one, other in edges]


def edges_of(tree):
    found = []

    def grow(owner, parts):
        for part in parts:
            label = f"{part.name} x {part.count}" if part.count > 1 else part.name
            found.append((owner, label))
            grow(label, part.parts)

    for item in tree.objects:
        grow(item.name, item.parts)
    return found


@pytest.mark.parametrize("tree", [TREE, HOSTILE], ids=["plain", "hostile"])
def test_the_graph_has_every_name_and_edge(tree):
    text = FORMATS["dot"](tree, 'a "title"')
    labels, edges = read_dot(text)
    assert edges == edges_of(tree)
    assert len(labels) == len(tree.objects) + len(tree.part_classes)
    assert text.startswith('digraph "a \\"title\\"" {') and text.endswith("}\n")


@pytest.mark.skipif(shutil.which("dot") is None, reason="no Graphviz on the path")
def test_graphviz_reads_the_graph():
    text = FORMATS["dot"](HOSTILE, "x")
    drawn = subprocess.run(["dot", "-Tplain"], input=text, capture_output=True, text=True, check=True).stdout
    assert drawn.count("\nnode ") == len(HOSTILE.objects) + len(HOSTILE.part_classes)


class Names(HTMLParser):
    """The texts of all <span> of a page, and the tags in it."""

    def __init__(self):
        super().__init__()
        self.names, self.tags, self.inside = [], [], False

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.inside = tag == "span"
        if self.inside:
            self.names.append("")
        assert not {"src", "href", "onerror"} & {name for name, _ in attributes}

    def handle_data(self, data):
        if self.inside:
            self.names[-1] += data

    def handle_endtag(self, tag):
        self.inside = False


@pytest.mark.parametrize("tree", [TREE, HOSTILE], ids=["plain", "hostile"])
def test_the_page_holds_every_name_as_text_and_nothing_from_outside(tree):
    page = FORMATS["html"](tree, "<i>title</i>")
    read = Names()
    read.feed(page)
    assert sorted(read.names) == sorted([*tree.object_names, *(label for _, label in edges_of(tree))])
    assert not {"img", "b", "i", "link"} & set(read.tags) and read.tags.count("script") == 1
    assert "://" not in page


def test_counts_say_how_many_names_there_are():
    assert counts(parse_vocabulary("dog:head")) == "1 object, 1 part"
    assert counts(parse_vocabulary("dog:head,leg; cat:head")) == "2 objects, 3 parts of 2 names"


SHOWN = "[...document.querySelectorAll('#tree span')].filter(x => x.checkVisibility()).map(x => x.textContent)"


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the path or in LANGHOPS_CHROMIUM")
def test_the_page_is_searched_and_folded_in_a_browser(started, tmp_path):
    path = tmp_path / "tree.html"
    path.write_text(FORMATS["html"](TREE, "names"), encoding="utf-8")
    started.open(path)
    every = [*TREE.object_names[:1], "head", "ear", "eye x 2", "leg x 4", "tail", "car", "wheel", "狗", "頭", "plain"]
    assert started.run(SHOWN) == every

    def search(text):
        started.run(f"search.value = {json.dumps(text)}, search.dispatchEvent(new Event('input'))")
        return started.run(SHOWN)

    assert search("EYE") == ["dog", "head", "eye x 2"]
    assert started.run("counts.textContent") == '1 of 11 names hold "EYE"'
    assert search("car") == ["car"]  # folded, for nothing in it was looked for
    assert search("zz") == []
    assert search("") == every
    started.run("document.getElementById('close').click()")
    assert started.run(SHOWN) == ["dog", "car", "狗", "plain"]
    assert search("頭") == ["狗", "頭"]
    assert search("") == ["dog", "car", "狗", "plain"]  # as it was before the search
    started.run("document.getElementById('open').click()")
    assert started.run(SHOWN) == every
    started.press("/")
    assert started.run("document.activeElement.id") == "search"


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the path or in LANGHOPS_CHROMIUM")
def test_the_page_is_dark_where_that_is_wanted_and_runs_no_name(started, tmp_path):
    path = tmp_path / "tree.html"
    path.write_text(FORMATS["html"](HOSTILE, "names"), encoding="utf-8")
    colours = {}
    for scheme in ("light", "dark"):
        started.prefer(scheme)
        started.open(path)
        colours[scheme] = started.run("getComputedStyle(document.body).backgroundColor")
    assert colours == {"light": "rgb(255, 255, 255)", "dark": "rgb(22, 24, 27)"}
    assert started.run("document.images.length") == 0
    assert not started.told("Runtime.exceptionThrown", "Page.javascriptDialogOpening")
    assert {event["request"]["url"][:5] for event in started.told("Network.requestWillBeSent")} == {"file:"}
    started.resize(320, 600)
    assert started.run("document.documentElement.scrollWidth") <= 320
