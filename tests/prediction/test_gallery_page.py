"""The gallery in a real browser."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import binary_dilation, binary_erosion

from langhops_cli.prediction.results import Detection, Prediction
from langhops_cli.vocabulary import parse_vocabulary
from tests.prediction.browser import Browser, find_chromium
from tests.prediction.galleries import HOSTILE, disc, noise, picture, scene, write

CHROMIUM = find_chromium()
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the path or in LANGHOPS_CHROMIUM")


@pytest.fixture
def browser(started) -> Iterator[Browser]:
    """The browser; at the end the page must have had no error and asked for nothing but itself."""
    started.resize(1280, 800)
    started.prefer("light")
    started.point(1, 1)
    yield started
    assert not started.told("Runtime.exceptionThrown")
    logged = [row["entry"] for row in started.told("Log.entryAdded")]
    # Chromium advises these tests, which read canvases back, on speed.
    assert not [row for row in logged if row["level"] in {"error", "warning"} and "readback" not in row["text"]]
    asked = {event["request"]["url"].partition(":")[0] for event in started.told("Network.requestWillBeSent")}
    assert asked <= {"file", "data"}
    assert len([row for row in started.told("Network.requestWillBeSent") if row["request"]["url"][:4] == "file"]) == 1


@pytest.fixture(scope="module")
def gallery(tmp_path_factory) -> Path:
    """Four pictures: two scenes, one of another size with a single cat, and one where nothing was found."""
    size = (300, 500)
    cat = Prediction("imgs/cat.jpg", size, (Detection.from_mask(("cat",), 0.9, disc(size, (150, 250), 120)),))
    pairs = [scene(), scene("other/Garage Zürich.png"), (picture(size, 1), cat)]
    pairs.append((picture((40, 50), 2), Prediction("imgs/nothing.jpg", (40, 50))))
    return write(tmp_path_factory.mktemp("gallery") / "index.html", *pairs)


def drawn(browser):
    """Where the canvas of fills has any paint, (h, w)."""
    rows = browser.run(
        "(() => { const canvas = document.getElementById('fills');"
        "const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);"
        "let text = ''; for (let at = 3; at < data.length; at += 4) text += data[at] ? '1' : '0';"
        "return [canvas.height, canvas.width, text]; })()"
    )
    return np.frombuffer(rows[2].encode(), dtype=np.uint8).reshape(rows[:2]) == ord("1")


def texts(browser, selector):
    return browser.run(f"[...document.querySelectorAll({selector!r})].map((found) => found.innerText)")


def rows(browser):
    return texts(browser, ".row .row-name")


def lit(browser):
    return texts(browser, ".row.lit .row-name"), texts(browser, ".row.over .row-name")


def test_a_lit_mask_is_drawn_to_the_pixel(browser, tmp_path):
    """Leaves are filled alone; what is drawn is what was predicted, whatever the run lengths look like."""
    size = (97, 143)
    masks = [noise(size, 1, 0.5), noise(size, 2, 0.001), np.ones(size, dtype=bool), disc(size, (40, 60), 30)]
    masks += [np.eye(*size, dtype=bool), ~disc(size, (50, 50), 45)]
    items = tuple(Detection.from_mask(("cat",), 0.9 - index / 10, mask) for index, mask in enumerate(masks))
    large = (1000, 700)
    big = tuple(
        Detection.from_mask(("car",), 0.9, mask)
        for mask in (disc(large, (500, 300), 290), np.ones(large, dtype=bool), noise(large, 1, 1e-5))
    )
    path = write(
        tmp_path / "p.html",
        (picture(size), Prediction("a.png", size, items)),
        (picture(large), Prediction("b.png", large, big)),
    )
    for number, found in enumerate((items, big), 1):
        browser.open(path, f"#picture-{number}")
        for index, item in enumerate(found):
            browser.point(*browser.middle(f"#row-{index}"))
            assert np.array_equal(drawn(browser), item.mask), (number, index)


def test_outlines_run_along_the_masks(browser, gallery):
    """The outline's inside is the mask: exactly for specks, and but for a pixel at the border where it is smoothed."""
    size = (60, 80)
    ring = disc(size, (30, 40), 25) & ~disc(size, (30, 40), 12)
    specks = np.zeros(size, dtype=bool)
    specks[::3, ::3] = specks[1::3, 1::3] = True  # pairs that touch at a corner only
    specks[59, 79] = True
    browser.open(gallery)
    for mask, exact in ((ring, False), (specks, True)):
        counts = Detection.from_mask(("cat",), 1, mask).rle["counts"].decode()
        inside = browser.run(
            f"(() => {{ const path = new Path2D(outlineOf(decodeMask({json.dumps(counts)}, 60)));"
            "const context = document.createElement('canvas').getContext('2d'); const found = [];"
            "for (let at = 0; at < 4800; at++)"
            "found.push(context.isPointInPath(path, (at % 80) + 0.5, Math.floor(at / 80) + 0.5, 'evenodd'));"
            "return found; })()"
        )
        wrong = np.reshape(inside, size) != mask
        rims = binary_dilation(mask) & ~binary_erosion(mask)
        assert not wrong.any() if exact else not (wrong & ~rims).any() and wrong.sum() < 25


def test_switches_show_objects_parts_fill_outlines_names_and_scores(browser, gallery):
    _, prediction = scene()
    parts = prediction.masks[[1, 2, 3, 5, 6]].any(0)
    browser.open(gallery, "#picture-1")
    assert rows(browser) == ["car", "wheel", "door", "wheel", "犬", "head", "ear", "cat"]
    assert np.array_equal(drawn(browser), parts | prediction[7].mask), "objects with parts are outlined, not filled"
    browser.press("o")
    assert np.array_equal(drawn(browser), parts)
    assert rows(browser) == ["car", "wheel", "door", "wheel", "犬", "head", "ear"], "parts keep their objects' rows"
    browser.press("o")
    browser.press("p")
    assert rows(browser) == ["car", "犬", "cat"]
    assert np.array_equal(drawn(browser), prediction.masks[[0, 4, 7]].any(0))
    browser.press("f")
    assert not drawn(browser).any()
    assert browser.run("document.querySelectorAll('#lines path').length") == 6, "a line and a rim for each object"
    browser.press("l")
    assert browser.run("document.querySelectorAll('#lines path').length") == 0
    browser.press("o")
    assert "hidden by the switches" in texts(browser, "#empty")[0]
    for key in "opfl":
        browser.press(key)
    labels = texts(browser, ".label")
    assert "car 0.90" in labels and len(labels) >= 2
    assert texts(browser, ".row .score")[0] == "0.90"
    browser.press("s")
    assert "car" in texts(browser, ".label")
    assert texts(browser, ".row .score") == []
    browser.press("n")
    assert texts(browser, ".label") == []
    pressed = "[...document.querySelectorAll('[aria-pressed=false][data-switch]')].map((one) => one.dataset.switch)"
    assert browser.run(pressed) == ["names", "scores"]
    browser.click(*browser.middle("[data-switch=scores]"))
    assert texts(browser, ".row .score")[0] == "0.90"


def test_pointing_lights_a_part_with_its_object(browser, gallery):
    browser.open(gallery, "#picture-1")
    place = "(() => { const box = document.getElementById('frame').getBoundingClientRect();"
    left, top, scale = browser.run(place + "return [box.left, box.top, box.width / 80]; })()")
    assert scale == 4, "a small picture is shown four times as large"
    browser.point(left + 60.5 * scale, top + 30.5 * scale)
    assert lit(browser) == (["ear"], ["犬", "head"])
    shade = "document.getElementById('shade').getContext('2d').getImageData({}, {}, 1, 1).data[3]"
    ear, head, dog, outside = (browser.run(shade.format(x, 30)) for x in (60, 66, 73, 40))
    assert ear == 0 < head <= dog < outside
    masks = scene()[1].masks
    row, column = np.argwhere(masks[4] & ~masks[[1, 2, 3, 5, 6, 7]].any(0))[0]
    browser.point(left + (column + 0.5) * scale, top + (row + 0.5) * scale)
    assert lit(browser) == (["犬"], [])
    browser.point(1, 1)
    assert lit(browser) == ([], [])
    assert browser.run(shade.format(40, 30)) == 0
    browser.click(*browser.middle("#row-3"))
    browser.point(1, 1)
    assert lit(browser) == (["door"], ["car"]), "held after the pointer has gone"
    assert browser.run("document.querySelector('[aria-selected=true]').id") == "row-3"
    browser.press("Escape")
    assert lit(browser) == ([], [])
    assert browser.run("location.hash") == "#picture-1", "the first step back lets go only"


def test_keyboard_walks_the_tree_and_the_pictures(browser, gallery):
    browser.open(gallery)
    browser.press("ArrowRight")
    browser.press("ArrowRight")
    browser.press("Enter")
    browser.until("location.hash === '#picture-2'")
    browser.frame()
    assert texts(browser, "#title") == ["Garage Zürich.png"]
    assert texts(browser, "#place") == ["2 of 4"]
    browser.press("ArrowDown")
    browser.press("ArrowDown")
    assert lit(browser) == (["wheel"], ["car"])
    browser.press("s")
    assert lit(browser) == (["wheel"], ["car"]), "a switch does not lose the place in the tree"
    assert browser.run("document.activeElement.id") == "row-1"
    browser.press("Enter")
    assert browser.run("document.querySelector('[aria-selected=true]').id") == "row-1"
    browser.press("ArrowRight")
    browser.until("location.hash === '#picture-3'")
    browser.frame()
    assert lit(browser) == ([], [])
    assert rows(browser) == ["cat"]
    for _ in range(3):
        browser.press("ArrowRight")
    browser.until("location.hash === '#picture-4'")
    browser.press("ArrowLeft")
    browser.until("location.hash === '#picture-3'")
    browser.press("?")
    assert browser.run("document.getElementById('help').open")
    browser.press("Escape")
    assert not browser.run("document.getElementById('help').open")
    browser.press("Escape")
    browser.until("!document.getElementById('sheet').hidden")
    assert browser.run("document.activeElement.getAttribute('href')") == "#picture-3", "back where one came from"


def test_search_and_score(browser, gallery):
    browser.open(gallery)
    shown = "li:not([hidden]) > .card .card-name"
    assert texts(browser, shown) == ["car.jpg", "Garage Zürich.png", "cat.jpg", "nothing.jpg"]
    browser.press("/")
    for letter in "ZURI":  # neither case nor accents count
        browser.press(letter)
    assert texts(browser, shown) == ["Garage Zürich.png"]
    browser.press("Enter")
    browser.until("location.hash === '#picture-2'")
    browser.frame()
    assert len(rows(browser)) == 8, "a picture found by its own name shows everything"
    browser.run("search('head')")
    assert rows(browser) == ["犬", "head", "ear"]
    assert texts(browser, "#place") == ["2 of 2"]
    browser.press("Escape")
    browser.press("Escape")
    slide = "(() => {{ const slider = document.getElementById('least'); slider.value = {};"
    slide += "slider.dispatchEvent(new Event('input')); }})()"
    browser.open(gallery, "#picture-1")
    browser.run(slide.format(0.5))
    assert rows(browser) == ["car", "wheel", "door", "犬", "head"]
    assert texts(browser, "#hidden") == ["3 hidden with a score below 0.50."]
    browser.run(slide.format(0.75))
    assert rows(browser) == ["car", "wheel"], "a part goes with its object"
    browser.run(slide.format(1))
    assert "hidden" in texts(browser, "#empty")[0]
    browser.open(gallery)
    browser.run("search('unicorn')")
    assert texts(browser, shown) == []
    assert "unicorn" in texts(browser, "#nothing p")[0]
    browser.click(*browser.middle("#clear"))
    assert len(texts(browser, shown)) == 4


def test_contact_sheet_says_and_draws_what_was_found(browser, gallery):
    browser.open(gallery)
    assert texts(browser, "#counts") == ["4 pictures · 7 objects · 10 parts"]
    assert texts(browser, ".card-found") == [
        "car\n犬\ncat\nwheel ×2, door, head, ear",
        "car\n犬\ncat\nwheel ×2, door, head, ear",
        "cat",
        "nothing found",
    ]
    browser.until("document.querySelectorAll('.card[data-stale]').length === 0")
    painted = "[...document.querySelectorAll('.card canvas')].map((canvas) => canvas.getContext('2d')"
    painted += ".getImageData(0, 0, canvas.width, canvas.height).data.filter((one, at) => at % 4 === 3 && one).length)"
    scene_, _, cat, nothing = browser.run(painted)
    assert nothing == 0
    assert scene_ > 80 * 60 / 3
    radius = 120 * 384 / 500 + (2.5 + 2) * 1.1 / 2
    assert cat == pytest.approx(np.pi * radius**2, rel=0.03), "the disc with half its outline"
    browser.click(*browser.middle("#legend button"))
    assert browser.run("document.getElementById('search').value") == "wheel"
    browser.click(*browser.middle(".card"))
    browser.until("location.hash === '#picture-1'")


def test_addresses_limits_and_empty_galleries(browser, gallery, tmp_path):
    browser.open(gallery, "#picture-4")
    assert texts(browser, "#title") == ["nothing.jpg"]
    assert "Nothing was found" in texts(browser, "#empty")[0]
    assert texts(browser, "#missing") == ["Looked for and not found: car, 犬, cat."]
    browser.open(gallery, "#picture-5")
    assert "no picture 5" in texts(browser, "#notice")[0]
    assert not browser.run("document.getElementById('sheet').hidden")
    many = [(picture((4, 5)), Prediction(f"{number}.jpg", (4, 5))) for number in range(3)]
    browser.open(write(tmp_path / "many.html", *many, most=2, elsewhere="OUT/labels"))
    assert texts(browser, "#notice") == ["The first 2 of 3 pictures are shown here; the others are in OUT/labels."]
    browser.open(write(tmp_path / "none.html"))
    assert texts(browser, "#nothing") == ["There are no pictures in this gallery."]
    browser.open(write(tmp_path / "one.html", scene()))
    assert texts(browser, "#title") == ["car.jpg"], "a single picture needs no contact sheet"


def test_hostile_names_are_shown_as_they_are(browser, tmp_path):
    vocabulary = parse_vocabulary('"<img src=x onerror=alert(1)>":"</script><script>alert(2)</script>"')
    (item,) = vocabulary.objects
    size = (30, 40)
    items = (
        Detection.from_mask((item.name,), 0.9, disc(size, (15, 20), 12)),
        Detection.from_mask((item.name, item.parts[0].name), 0.9, disc(size, (15, 20), 5), parent=0),
    )
    pairs = [(picture(size), Prediction(name, size, items)) for name in HOSTILE]
    path = write(tmp_path / "p.html", *pairs, vocabulary=vocabulary)
    browser.open(path)
    assert texts(browser, ".card-name")[1] == HOSTILE[1]
    browser.open(path, "#picture-3")
    browser.point(*browser.middle("#row-0"))
    assert rows(browser) == [item.name, item.parts[0].name]
    assert texts(browser, "#title") == [HOSTILE[2]]
    assert f"{item.name} 0.90" in browser.run("[...document.querySelectorAll('.label')].map((one) => one.textContent)")
    assert not browser.told("Page.javascriptDialogOpening")
    assert browser.run("document.querySelectorAll('img[src=x]').length") == 0


TEXTS = "button, .remark, #counts, #facts, #title, .row-name, .score, .card-parts, .least, #place"


def test_dark_and_light(browser, gallery):
    def background():
        return sum(map(int, re.findall(r"\d+", browser.run("getComputedStyle(document.body).backgroundColor"))[:3]))

    for scheme in ("light", "dark"):
        browser.prefer(scheme)
        for fragment in ("", "#picture-1"):
            browser.open(gallery, fragment)
            assert (background() > 384) is (scheme == "light")
            figures = browser.contrasts(TEXTS)
            assert len(figures) > 5
            assert [row for row in figures if row[1] < 4.5] == []
    browser.press("t")
    assert background() > 384, "the switch goes against the system"
    browser.open(gallery)
    assert background() > 384, "and is kept"
    browser.press("t")
    assert background() < 384
    browser.run("localStorage.clear()")


@pytest.mark.parametrize("width", [320, 390])
def test_a_phone_shows_everything_without_scrolling_sideways(browser, gallery, width):
    browser.resize(width, 800, phone=True, fine=2)
    for fragment in ("", "#picture-1"):
        browser.open(gallery, fragment)
        assert browser.run("document.documentElement.scrollWidth") == width
        small = "[...document.querySelectorAll('header button, .row, #steps button')].filter((one) => one.offsetParent)"
        heights = browser.run(small + ".map((one) => one.offsetHeight)")
        assert heights and min(heights) >= 40, "large enough for a finger"
    browser.run("document.getElementById('row-1').click()")
    assert lit(browser) == (["wheel"], ["car"])
    picture_, row = browser.run(
        "['frame', 'row-1'].map((id) => document.getElementById(id).getBoundingClientRect().toJSON())"
    )
    assert picture_["top"] >= 0 and picture_["bottom"] <= row["top"] + 1, "the picture stays in sight above the tree"


def test_roles_for_those_who_do_not_see_it(browser, gallery):
    browser.open(gallery, "#picture-1")
    levels = browser.run("[...document.querySelectorAll('[role=tree] [role=treeitem]')].map((one) => one.ariaLevel)")
    assert levels == ["1", "2", "2", "2", "1", "2", "3", "1"]
    assert browser.run("document.querySelectorAll('[role=treeitem][tabindex=\"0\"]').length") == 1
    assert browser.run("document.getElementById('status').textContent").startswith("Picture 1 of 4, car.jpg: ")
    nodes = browser.call("Accessibility.getFullAXTree")["nodes"]
    named = {"button", "link", "searchbox", "combobox", "slider", "tree", "treeitem", "image", "dialog"}
    without = [
        node
        for node in nodes
        if not node["ignored"] and node["role"]["value"] in named and not node.get("name", {}).get("value")
    ]
    assert without == []
    assert {"tree", "treeitem", "slider", "image"} <= {node["role"]["value"] for node in nodes if not node["ignored"]}
