from __future__ import annotations

import base64
import hashlib
import io
import tracemalloc

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from langhops_cli.prediction.colours import colours_of
from langhops_cli.prediction.gallery import GalleryWriter
from langhops_cli.prediction.results import Detection, Prediction
from langhops_cli.vocabulary import parse_vocabulary
from tests.prediction.galleries import HOSTILE, VOCABULARY, Page, noise, picture, scene, write


def decoded(counts, shown):
    width, height = shown
    return coco_mask.decode({"size": [height, width], "counts": counts.encode()}).astype(bool)


def test_masks_scores_and_parents_come_back_equal(tmp_path):
    image, prediction = scene()
    page = Page(write(tmp_path / "index.html", (image, prediction), (picture((9, 7)), Prediction("empty", (9, 7)))))
    (about,) = page.values("about")
    summary, empty = page.values("summary")
    details, nothing = page.values("details")
    assert summary["size"] == summary["shown"] == [80, 60]
    for found, (category, score, parent, area), counts in zip(
        prediction, summary["found"], details["masks"], strict=True
    ):
        assert tuple(about["categories"][category]["path"]) == found.path
        assert (score, parent, area) == (found.score, found.parent, found.area)
        assert np.array_equal(decoded(counts, summary["shown"]), found.mask)
    assert empty["found"] == nothing["masks"] == []
    assert page.values("totals") == [{"pictures": 2}]
    assert [path.name for path in tmp_path.iterdir()] == ["index.html"]


def test_pictures_are_those_that_were_given_but_smaller(tmp_path):
    gradient = Image.linear_gradient("L").resize((1600, 800)).convert("RGB")
    page = Page(write(tmp_path / "p.html", (gradient, Prediction("g", (800, 1600)))))
    for uri, size in (
        (page.values("details")[0]["image"], (1024, 512)),
        (page.values("summary")[0]["thumbnail"], (240, 120)),
    ):
        kind, _, content = uri.partition(",")
        assert kind == "data:image/jpeg;base64"
        shown = Image.open(io.BytesIO(base64.b64decode(content)))
        assert shown.size == size
        difference = np.asarray(shown, float) - np.asarray(gradient.resize(size), float)
        assert np.abs(difference).mean() < 2


def test_masks_of_a_large_picture_cover_what_they_cover_by_half(tmp_path):
    size = (200, 400)
    aligned, sliver, speck = (np.zeros(size, dtype=bool) for _ in range(3))
    aligned[40:120, 80:240] = True
    sliver[40:120, 80:243] = True
    speck[101, 301] = True
    items = tuple(Detection.from_mask(("cat",), 0.5, mask) for mask in (aligned, sliver, speck))
    path = write(tmp_path / "p.html", (picture(size), Prediction("p", size, items)), longest=100)
    page = Page(path)
    shown = page.values("summary")[0]["shown"]
    assert shown == [100, 50]
    masks = [decoded(counts, shown) for counts in page.values("details")[0]["masks"]]
    expected = np.zeros((50, 100), dtype=bool)
    expected[10:30, 20:60] = True
    assert np.array_equal(masks[0], expected)
    expected[10:30, 60] = True  # three of its four columns of pixels
    assert np.array_equal(masks[1], expected)
    assert np.argwhere(masks[2]).tolist() == [[25, 75]], "a speck keeps the pixel that it lies in"
    assert [row[3] for row in page.values("summary")[0]["found"]] == [item.area for item in items]


def test_hostile_names_stay_names(tmp_path):
    vocabulary = parse_vocabulary('"</script><script>alert(1)</script>":"<!--","&lt;b&gt;"')
    size = (8, 9)
    items = (
        Detection.from_mask((HOSTILE[0],), 0.9, noise(size, 1)),
        Detection.from_mask((HOSTILE[0], "<!--"), 0.9, noise(size, 2), parent=0),
    )
    pairs = [(picture(size), Prediction(name, size, items)) for name in HOSTILE]
    harmless = Page(write(tmp_path / "a.html", *[scene()] * len(HOSTILE)))
    page = Page(write(tmp_path / "b.html", *pairs, vocabulary=vocabulary, elsewhere="</script>"))
    assert [tag for tag, _ in page.elements] == [tag for tag, _ in harmless.elements]
    assert [row["name"] for row in page.values("summary")] == HOSTILE
    assert page.values("about")[0]["categories"][0]["path"] == [HOSTILE[0]]
    assert page.values("about")[0]["elsewhere"] == "</script>"


def test_nothing_is_loaded_from_anywhere(tmp_path):
    page = Page(write(tmp_path / "p.html", scene()))
    addresses = [
        value
        for tag, attributes in page.elements
        for name, value in attributes.items()
        if name in {"src", "href", "srcset", "action", "data", "poster", "style"} or name.startswith("on")
    ]
    assert addresses, "icons and links are there"
    assert all(address.startswith("#") for address in addresses)
    assert "url(" not in page.styles[0] and "@import" not in page.styles[0]
    (policy,) = [row["content"] for _, row in page.elements if row.get("http-equiv") == "Content-Security-Policy"]
    assert "default-src 'none'" in policy
    for text in (page.styles[0], page.scripts[-1][1]):
        assert base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() in policy


def test_colours_are_those_of_the_overlays(tmp_path):
    colours = colours_of([*VOCABULARY.object_names, *(part.name for part in VOCABULARY.part_classes)])
    (about,) = Page(write(tmp_path / "p.html", scene())).values("about")
    assert {row["path"][-1]: tuple(row["colour"]) for row in about["categories"]} == colours


def test_only_the_first_are_shown_and_all_are_counted(tmp_path):
    pairs = [(picture((4, 5), seed), Prediction(f"{seed}.jpg", (4, 5))) for seed in range(5)]
    page = Page(write(tmp_path / "p.html", *pairs, most=2))
    assert [row["name"] for row in page.values("summary")] == ["0.jpg", "1.jpg"]
    assert page.values("totals") == [{"pictures": 5}]


def test_memory_does_not_grow_with_the_pictures(tmp_path):
    image, prediction = scene()
    with GalleryWriter(tmp_path / "p.html", VOCABULARY, most=60) as writer:
        writer.add(image, prediction)
        tracemalloc.start()
        try:
            for _ in range(50):
                writer.add(image, prediction)
            held, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert (tmp_path / "p.html").stat().st_size > 400_000
    assert held < 40_000


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_interruption_leaves_the_older_file(tmp_path, error):
    path = tmp_path / "p.html"
    path.write_text("older")
    with pytest.raises(error), GalleryWriter(path, VOCABULARY) as writer:  # noqa: PT012 (both lines belong to it)
        writer.add(*scene())
        raise error
    assert path.read_text() == "older"
    assert [entry.name for entry in tmp_path.iterdir()] == ["p.html"]


def test_what_does_not_fit_is_refused(tmp_path):
    strange = Prediction("a.jpg", (4, 4), (Detection.from_mask(("horse",), 0.5, np.ones((4, 4), dtype=bool)),))
    with pytest.raises(KeyError), GalleryWriter(tmp_path / "p.html", VOCABULARY) as writer:
        writer.add(picture((4, 4)), strange)
    with (
        pytest.raises(ValueError, match="the picture is 5 x 4, its prediction 4 x 5"),
        GalleryWriter(tmp_path / "p.html", VOCABULARY) as writer,
    ):
        writer.add(picture((4, 5)), Prediction("a.jpg", (5, 4)))
    with pytest.raises(ValueError, match="not open"):
        GalleryWriter(tmp_path / "p.html", VOCABULARY).add(*scene())
    for settings in ({"most": 0}, {"longest": 15}, {"longest": 9000}):
        with pytest.raises(ValueError, match=r"at least 1|16\.\.8192"):
            GalleryWriter(tmp_path / "p.html", VOCABULARY, **settings)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (700, 3)])
def test_any_size(tmp_path, size):
    items = (Detection.from_mask(("cat",), 0.5, np.ones(size, dtype=bool)),)
    page = Page(write(tmp_path / "p.html", (picture(size), Prediction("p", size, items))))
    shown = page.values("summary")[0]["shown"]
    assert decoded(page.values("details")[0]["masks"][0], shown).all()
