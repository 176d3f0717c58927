"""The page: its figures are the report's, nothing is loaded, no name becomes markup."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from langhops_cli.data.index import PreparedDataset
from langhops_cli.evaluation.html import PAGE, write_html
from langhops_cli.evaluation.html.elements import Markup, element, joined, table
from langhops_cli.evaluation.html.pictures import MOST_BYTES, _jpeg, to_prediction
from langhops_cli.evaluation.instances.matches import RECALLS
from langhops_cli.evaluation.scoring import score_results
from tests.handmade import write_index

from .prepared import SIDE, car, make_set, wheel
from .scenes import encode

EVIL = '<script>alert("x")</script>&amp;"\'>'
VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Reads a page: elements with their texts; a tag that is left open or closed twice is an error."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.tables = [], [], []
        self.feed(text)
        self.close()
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag, attrs):
        entry = {"tag": tag, "attrs": dict(attrs), "text": ""}
        self.elements.append(entry)
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append(entry)
        if tag not in VOID:
            self.open.append(entry)

    def handle_endtag(self, tag):
        assert self.open.pop()["tag"] == tag

    def handle_data(self, data):
        for entry in self.open:
            entry["text"] += data

    def all(self, tag):
        return [entry for entry in self.elements if entry["tag"] == tag]

    def rows(self, first):
        """The rows of the table whose head starts so, as texts."""
        for rows in self.tables:
            texts = [[cell["text"] for cell in row] for row in rows]
            if texts[0][: len(first)] == first:
                return texts
        raise AssertionError(f"no table starts with {first}")


def entry(number, category, mask, share):
    row = {"image_id": 100 + number, "category_id": category, "score": share, "segmentation": encode(mask)}
    return {**row, "bbox": [0, 0, SIDE, SIDE]}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A set with an evil name and an evil picture, its report and its page."""
    root = tmp_path_factory.mktemp("data") / "toys"
    make_set(root, pictures=5)
    content = json.loads((root / "val.json").read_text())
    for row in content["categories"]:
        row["name"] = row["name"].replace("dog", EVIL)
    evil_file = f"{EVIL.replace('/', '')}.png"
    (root / "pictures" / "4.png").rename(root / "pictures" / evil_file)
    content["images"][4]["file_name"] = evil_file
    for row in content["annotations"]:
        if row["image_id"] == 104 and row["category_id"] == 7:
            row["category_id"] = 3
        if row["image_id"] == 104 and row["category_id"] == 40:
            row["category_id"] = 12
    (root / "val.json").write_text(json.dumps(content))
    (root / "hierarchy.yaml").write_text(json.dumps({"car": {"wheel": None, "door": None}, EVIL: {"head": None}}))
    write_index(root, "val")
    dataset = PreparedDataset(root, "val")
    found = [entry(n, 7, np.roll(car(n), 3 * n, axis=1), 0.9 - n / 50) for n in range(5)]
    found += [entry(n, 40, wheel(n), 0.8 - n / 50) for n in (0, 1, 4)] + [entry(2, 11, wheel(2), 0.7)]
    report = score_results(found, dataset, model_name=EVIL, command=f"langhops eval '{EVIL}'", settings={EVIL: EVIL})
    folder = tmp_path_factory.mktemp("out")
    path = write_html(folder, report, dataset)
    assert path == folder / PAGE
    return dataset, report, path.read_text()


def test_the_figures_are_the_reports(made):
    _, report, text = made
    page = Page(text)
    told = json.loads(json.dumps(report.to_dict()))["sections"]["instance AP"]

    def shown(share):
        return "-" if share is None else f"{100 * share:.1f}"

    rows = page.rows(["", "names", "instances", "AP"])[1:]
    assert [row[0] for row in rows] == [
        f"{level}, {kind}" for kind in ("mask", "box") for level in ("objects", "parts", "all")
    ]
    for row, (kind, level) in zip(rows, [(k, n) for k in ("mask", "box") for n in ("obj", "part", "all")], strict=True):
        own = told[kind][level]
        keys = ("ap", "ap50", "ap75", "small", "medium", "large", "recall1", "recall10", "recall_max", "recall50")
        assert row[1:] == [str(own["names"]), str(own["instances"]), *(shown(own[key]) for key in keys)]
    names = {row[0]: row for row in page.rows(["name", "level"])[1:]}
    assert len(names) == len(told["per_name"]) == 4
    for row in told["per_name"]:
        own = names[row["name"]]
        assert (own[2], own[3], own[4], own[6]) == (
            str(row["instances"]), str(row["results"]), shown(row["mask_ap"]), shown(row["mask_ap50"])
        )  # fmt: skip
    confused = page.rows(["annotated", "found as", "times"])[1:]
    expected = report.sections["name confusion"].parts.confusions()
    assert [row[:3] for row in confused] == [[true, said, str(count)] for true, said, count in expected]
    text_ = re.sub(r"\s+", " ", text)
    card = report.dataset
    for value in (card.fingerprint, card.names_hash, *report.to_dict()["versions"].values()):
        assert value in text_


def test_curves_follow_the_matches(made):
    """The mean of a curve's points is the AP beside its name."""
    _, report, text = made
    page = Page(text)
    levels = report.figures.mask
    described = [item["text"] for item in page.all("desc")]
    assert f"objects: mean precision {100 * levels.obj.ap50:.1f} percent" in described[0]
    rows = {row[0]: row for row in page.rows(["recall", "0.0"])}
    lines = [item["attrs"] for item in page.all("path") if item["attrs"]["d"].count("L") == len(RECALLS) - 1]
    assert [line["class"] for line in lines] == ["object", "part", "all"] * 2
    for line, share in zip(
        lines, (*(n.ap50 for n in vars(levels).values()), *(n.ap for n in vars(levels).values())), strict=True
    ):
        heights = [float(point.split()[1]) for point in re.split("[ML]", line["d"])[1:]]
        bottom, top = 260, 12
        assert np.mean([(bottom - y) / (bottom - top) for y in heights]) == pytest.approx(share, abs=0.001)
    assert float(rows["objects, IoU 0.50"][1]) >= float(rows["objects, IoU 0.50"][-1])


def test_no_text_of_the_data_becomes_markup(made):
    _, _, text = made
    page = Page(text)
    (script,) = page.all("script")
    assert "alert" not in script["text"]
    assert text.count("<script") == 1
    assert sum(EVIL in item["text"] for item in page.all("th")) > 2
    assert any(EVIL in item["text"] for item in page.all("pre"))
    assert any(item["attrs"].get("alt", "").endswith(f"{EVIL.replace('/', '')}.png") for item in page.all("img"))
    assert not any(key.startswith("on") for item in page.elements for key in item["attrs"])


def test_the_page_loads_nothing(made):
    _, _, text = made
    page = Page(text)
    assert not re.search(r"https?://|url\(|@import|//[a-z]", re.sub(r"data:image/jpeg;base64,[^\"]+", "", text))
    assert not page.all("link") and not page.all("iframe") and not page.all("a")
    assert all(item["attrs"]["src"].startswith("data:image/jpeg;base64,") for item in page.all("img"))
    (policy,) = [item["attrs"]["content"] for item in page.all("meta") if "http-equiv" in item["attrs"]]
    for tag in ("script", "style"):
        (own,) = page.all(tag)
        digest = base64.b64encode(hashlib.sha256(own["text"].encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
        assert not own["attrs"]
    assert "default-src 'none'" in policy
    assert not any("style" in item["attrs"] for item in page.elements), "the policy forbids them"


def test_the_page_can_be_read_without_seeing_it(made):
    _, _, text = made
    page = Page(text)
    ids = [item["attrs"]["id"] for item in page.elements if "id" in item["attrs"]]
    assert len(ids) == len(set(ids))
    for item in page.elements:
        for name in (item["attrs"].get("aria-labelledby") or "").split():
            assert name in ids
    for drawing in page.all("svg"):
        assert drawing["attrs"].get("role") == "img" or drawing["attrs"].get("aria-hidden") == "true"
    assert all(item["attrs"]["alt"] for item in page.all("img"))
    assert len(page.all("h1")) == 1 and page.all("html")[0]["attrs"]["lang"] == "en"
    assert all(row["attrs"].get("scope") in ("col", "row") for row in page.all("th"))


def contrast(first, second):
    def light(colour):
        full = colour if len(colour) == 7 else "#" + "".join(2 * digit for digit in colour[1:])
        parts = [int(full[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    low, high = sorted((light(first), light(second)))
    return (high + 0.05) / (low + 0.05)


def test_text_stands_out_in_light_and_dark(made):
    (style,) = Page(made[2]).all("style")
    schemes = [dict(re.findall(r"--([a-z]+): (#[0-9a-f]{3,6});", block)) for block in style["text"].split("@media")[:2]]
    assert len(schemes) == 2
    for scheme in schemes:
        for ink in ("ink", "grey", "object", "part", "all", "good", "bad"):
            assert contrast(scheme[ink], scheme["paper"]) >= 4.5, ink


def test_best_and_worst_pictures_are_drawn(made):
    _, report, text = made
    page = Page(text)
    figures = report.sections["pictures"]
    assert len(page.all("img")) == 2 * (len(figures.best) + len(figures.worst)) == 10
    captions = [item["text"] for item in page.all("figcaption")][-5:]
    expected = [f"{item.file_name}, quality {100 * item.quality:.1f}" for item in (*figures.worst, *figures.best)]
    assert captions == expected
    first = page.all("img")[0]["attrs"]
    image = Image.open(io.BytesIO(base64.b64decode(first["src"].partition(",")[2])))
    assert image.size == (int(first["width"]), int(first["height"]))
    # Something was drawn on the even picture, and not the same for truth and results.
    assert np.asarray(image).std() > 5
    assert first["src"] != page.all("img")[1]["attrs"]["src"]
    assert len(text) < 3_000_000


def test_a_picture_takes_no_more_than_its_share():
    noise = np.random.default_rng(0).integers(0, 255, (560, 560, 3), dtype=np.uint8)
    assert len(_jpeg(Image.fromarray(noise))) <= MOST_BYTES
    smooth = Image.new("RGB", (560, 560), "teal")
    assert len(_jpeg(smooth)) < 10_000


def test_parts_go_to_their_objects():
    roles = {7: ("car",), 3: ("dog",), 40: ("car", "wheel")}
    near, far = car(0), np.roll(car(0), 24, axis=0)

    def item(number, category, mask, **more):
        return {"id": number, "category_id": category, "segmentation": encode(mask), "score": 0.5, **more}

    def make(*entries, size=(SIDE, SIDE)):
        return to_prediction(entries, roles, "a.png", size=size, original=(SIDE, SIDE))

    stated = make(item(5, 40, wheel(0), parent_id=2), item(1, 7, near), item(2, 7, far))
    assert [(found.path, found.parent) for found in stated] == [
        (("car",), None),
        (("car",), None),
        (("car", "wheel"), 1),
    ]
    through = make(
        item(6, 40, wheel(0), parent_id=5), item(5, 40, wheel(0), parent_id=2), item(1, 7, near), item(2, 7, far)
    )
    assert [found.parent for found in through] == [None, None, 1, 1]
    guessed = make(item(None, 40, wheel(0)), item(None, 7, far), item(None, 7, near), item(None, 3, near))
    assert guessed[3].parent == 1
    circle = make(item(5, 40, wheel(0), parent_id=6), item(6, 40, wheel(0), parent_id=5))
    alone = make(item(5, 40, wheel(0), parent_id=None), item(2, 3, near))
    assert [found.path for found in alone] == [("dog",), ("car wheel",)]
    assert [found.path for found in circle] == [("car wheel",)] * 2
    smaller = make(item(5, 7, near), size=(SIDE // 2, SIDE // 2))
    assert smaller[0].area == near.sum() // 4
    boxed = make({"id": 1, "category_id": 7, "bbox": [8.0, 16.0, 16.0, 8.0]}, size=(SIDE // 2, SIDE // 2))
    assert boxed[0].box == (4.0, 8.0, 12.0, 12.0)
    assert len(make(item(1, 7, np.zeros((SIDE, SIDE), bool)))) == 0


PUBLISHED = {
    "dataset": "PartImageNet",
    "reason": "",
    "figures": ["obj", "part", "all"],
    "rows": [
        {
            "method": method,
            "trained_on": trained_on,
            "same_training": same,
            "source": "Paper",
            "published": dict(zip(("obj", "part", "all"), figures, strict=True)),
            "difference": dict(zip(("obj", "part", "all"), differences, strict=True)),
        }
        for method, trained_on, same, figures, differences in (
            ("A", "X", False, (50.0, 4.5, None), (1.25, -2.0, None)),
            (EVIL, "Y", True, (60.0, 1.0, 2.0), (0.0, 1.0, 1.0)),
        )
    ],
}


def test_published_figures_stand_beside_ours(made, tmp_path):
    dataset, report, text = made
    shown = write_html(tmp_path, replace(report, published=PUBLISHED), dataset).read_text()
    assert Page(shown).rows(["method", "trained on"]) == [
        ["method", "trained on", "obj", "ours less it", "part", "ours less it", "all", "ours less it"],
        [EVIL, "Y (as this model)", "60.0", "+0.0", "1.0", "+1.0", "2.0", "+1.0"],
        ["A", "X", "50.0", "+1.2", "4.5", "-2.0", "-", "-"],
    ]
    nothing = {"dataset": None, "reason": "Nothing comparable is published: no.", "figures": [], "rows": []}
    shown = write_html(tmp_path, replace(report, published=nothing), dataset).read_text()
    assert "Nothing comparable is published: no." in [item["text"] for item in Page(shown).all("p")]
    assert "Published figures" not in text


def test_a_set_without_results_or_truth_has_a_page(made, tmp_path):
    dataset, _, _ = made
    nothing = score_results([], dataset)
    page = Page(write_html(tmp_path, nothing, dataset).read_text())
    assert page.rows(["", "names"])[1][3] == "0.0"
    boxes = replace(nothing, figures=replace(nothing.figures, mask=None))
    assert len(Page(write_html(tmp_path, boxes, dataset).read_text()).rows(["", "names"])) == 4


def test_elements_escape_all_but_markup():
    assert element("p", "<&>", element("b", "x"), title='"') == '<p title="&quot;">&lt;&amp;&gt;<b>x</b></p>'
    assert element("img", alt=None, hidden=True, width=3.0, data_x=False) == '<img hidden width="3">'
    assert joined(["<", Markup("<")]) == "&lt;<"
    assert "&lt;i&gt;" in table(["<i>"], [["a", "<i>"]], caption="<i>") and "<i>" not in table(
        ["<i>"], [], caption="<i>"
    )
