"""What stands behind the page: pictures and names in, files for the browser out."""

from __future__ import annotations

import io
import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from langhops_cli.demo.finder import COCO, DRAWING, PAGE, Finder, Result, Results, read_names
from langhops_cli.errors import UserError
from langhops_cli.prediction.results import Prediction
from langhops_cli.vocabulary import VocabularyError, parse_vocabulary
from tests.prediction.galleries import Page, scene

NAMES = "car:wheel*4,door; 犬:head(ear); cat"
FOUND = scene()[1].instances


class Recorder:
    """A predictor that finds the same in every picture and remembers what it was asked."""

    def __init__(self, *, found=FOUND, finds_parts=True, max_queries=100):
        hierarchy = SimpleNamespace(max_queries=max_queries, queries_per_part=2)
        self.config = SimpleNamespace(min_score=0.25, hierarchy=hierarchy)
        self.finds_parts = finds_parts
        self.found = found
        self.asked = []

    def predict(self, image, vocabulary, *, min_score, name):
        self.asked.append((np.asarray(image), vocabulary, min_score))
        return Prediction(name, (image.height, image.width), self.found)


@pytest.fixture
def sent(tmp_path):
    image, _ = scene()
    image.save(tmp_path / "Garage Zürich.png")
    return tmp_path / "Garage Zürich.png"


def test_files_hold_what_was_found(sent):
    predictor = Recorder()
    result = Finder(predictor).find(sent, NAMES, min_score=0.4)
    image, expected = scene()
    pixels, vocabulary, min_score = predictor.asked[0]
    assert np.array_equal(pixels, np.asarray(image))
    assert (vocabulary, min_score) == (parse_vocabulary(NAMES), 0.4)
    assert (result.picture, result.objects, result.parts, result.remarks) == ("Garage Zürich.png", 3, 5, ())
    coco = json.loads(result.files[COCO])
    assert coco["images"][0]["file_name"] == "Garage Zürich.png"
    assert [coco_mask.decode(row["segmentation"]).tolist() for row in coco["annotations"]] == [
        found.mask.tolist() for found in expected
    ]
    (sent.parent / PAGE).write_bytes(result.files[PAGE])
    (summary,) = Page(sent.parent / PAGE).values("summary")
    assert (summary["name"], len(summary["found"])) == ("Garage Zürich.png", 8)
    with Image.open(io.BytesIO(result.files[DRAWING])) as drawing:
        assert drawing.format == "JPEG" and drawing.width % 80 == drawing.height % 60 == 0


def test_lines_are_texts_of_their_own_and_empty_ones_do_not_count():
    assert read_names("car:wheel\n\n  dog:head;cat \r\n") == parse_vocabulary(["car:wheel", "dog:head;cat"])


@pytest.mark.parametrize("text", ["@names.yaml", "  @/etc/passwd", "car:wheel\n @names.txt", "car\r@names.txt"])
def test_the_page_reads_no_file_of_the_machine(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("names.yaml", "names.txt"):
        (tmp_path / name).write_text("dog:\n  head:\n" if name.endswith("yaml") else "dog:head\n")
    assert parse_vocabulary(["@names.yaml"]) == parse_vocabulary("dog:head"), "the command line does read it"
    with pytest.raises(VocabularyError, match="this page reads none"):
        read_names(text)


@pytest.mark.parametrize(
    ("text", "message"), [("car:wheel,,door", "empty part name\n"), (" \n", "say what to look for")]
)
def test_mistakes_are_told_before_the_model_is_asked(sent, text, message):
    predictor = Recorder()
    with pytest.raises(UserError, match=message):
        Finder(predictor).find(sent, text)
    assert predictor.asked == []


@pytest.mark.parametrize(
    ("content", "reason"), [(b"", "empty"), (b"no picture", "is not a picture"), (None, "cut off")]
)
def test_a_broken_picture_is_named_as_the_user_knows_it(sent, content, reason):
    sent.write_bytes(sent.read_bytes()[:900] if content is None else content)
    with pytest.raises(UserError, match=reason) as caught:
        Finder(Recorder()).find(sent, NAMES)
    assert str(caught.value).startswith("Garage Zürich.png ")


def test_parts_are_proposed_where_none_is_named_and_said(sent):
    predictor = Recorder(found=())
    finder = Finder(predictor)
    assert finder.find(sent, "car; 犬:head").remarks == ()
    proposed = finder.find(sent, "car")
    assert finder.find(sent, "car", propose=False).remarks == ()
    named, completed, bare = (vocabulary for _, vocabulary, _ in predictor.asked)
    assert (named, bare) == (parse_vocabulary("car; 犬:head"), parse_vocabulary("car"))
    assert "wheel" in [part.name for part in completed.part_classes]
    assert proposed.remarks[-1] == f"no parts were named; looked for are {completed}"


def test_what_a_model_cannot_do_is_said(sent):
    few = Finder(Recorder(max_queries=5)).find(sent, NAMES)
    assert few.remarks == ("car has 6 parts to look for, this model takes 5 at a time: the last ones are left out",)
    nested = Finder(Recorder(max_queries=3, found=())).find(sent, "dog:head(ear*3,eye),leg; cat:head")
    expected = "dog has 9 parts to look for, this model takes 3 at a time: the last ones are left out"  # ears count too
    assert nested.remarks == (expected,)
    objects = Finder(Recorder(finds_parts=False)).find(sent, NAMES)
    assert objects.remarks == ("this model was trained on objects only: parts are not looked for",)


def test_the_latest_results_are_kept_under_names_of_their_own():
    results = Results(most=2)
    tokens = [results.add(Result(f"{number}.jpg", 0, 0, 0.1, (), {PAGE: b"%d" % number})) for number in range(3)]
    assert len(set(tokens)) == 3 and min(map(len, tokens)) >= 20
    assert [results.file(token, PAGE) for token in tokens] == [None, b"1", b"2"]
    assert results.file(tokens[2], COCO) is None
    assert results.file("other", PAGE) is None
