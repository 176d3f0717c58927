"""Label files as Ultralytics reads them, and the whole formats as data sets of this package."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import numpy as np
import pytest
import yaml
from PIL import Image
from scipy import ndimage

from langhops_cli.data.formats.coco_parts import read_coco_parts
from langhops_cli.data.formats.labelme_parts import read_labelme_parts
from langhops_cli.data.formats.yolo_parts import read_yolo_parts
from langhops_cli.data.prepare import prepare
from langhops_cli.prediction.export import write_coco
from langhops_cli.prediction.formats import picture_format
from langhops_cli.prediction.results import Detection, Prediction
from langhops_cli.vocabulary import parse_vocabulary
from tests.prediction.found import SIZE, VOCABULARY, apart, everything, photograph, ring


def read_labels(path):
    """A label file as `verify_image_label` of Ultralytics takes it: classes, and polygons as float32 shares."""
    lines = [line.split() for line in path.read_text(encoding="utf-8").strip().splitlines()]
    assert all(len(line) > 6 for line in lines)
    classes = np.array([line[0] for line in lines], dtype=np.float32)
    segments = [np.array(line[1:], dtype=np.float32).reshape(-1, 2) for line in lines]
    assert (classes % 1 == 0).all()
    assert all(segment.min() >= 0 and segment.max() <= 1 for segment in segments)
    return classes.astype(int), segments


def drawn(segment, size):
    """As `polygon2mask` of Ultralytics: shares times the sides, cut off to whole numbers, filled."""
    cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")
    height, width = size
    points = (segment * np.array((width, height), dtype=np.float32)).astype(np.int32)
    return cv2.fillPoly(np.zeros(size, dtype=np.uint8), [points], 1).astype(bool)


def test_ultralytics_gets_equal_masks(tmp_path):
    found, form = everything(), picture_format("yolo", VOCABULARY)
    form.write(found, photograph(tmp_path / "in" / "ü.png"), tmp_path / "out", "sub/a")
    form.finish(tmp_path / "out")
    data = yaml.safe_load((tmp_path / "out" / "data.yaml").read_text(encoding="utf-8"))
    classes, segments = read_labels(tmp_path / "out" / "labels" / "sub" / "a.txt")
    for number, segment, item in zip(classes, segments, found, strict=True):
        assert data["names"][number].replace(":", " ") == item.title
        mask = drawn(segment, SIZE)
        whole = ndimage.label(item.mask, np.ones((3, 3)))[1] == 1
        assert np.array_equal(mask, item.mask) == whole
        assert (mask >= item.mask).all()  # of several pieces the lines between them come back too


@pytest.mark.parametrize("size", [(3, 4), (1080, 1919), (2999, 8001)])
def test_shares_are_exact_enough_for_large_pictures(tmp_path, size):
    mask = np.zeros(size, dtype=bool)
    mask[-3:, -4:] = True
    mask[-2, -2] = False
    found = Prediction("a.png", size, (Detection.from_mask(("dog",), 0.5, mask),))
    picture_format("yolo", VOCABULARY).write(found, Image.new("RGB", (8, 8)), tmp_path, "a")
    _, (segment,) = read_labels(tmp_path / "labels" / "a.txt")
    assert np.array_equal(drawn(segment, size), mask)


def test_pictures_are_linked_and_others_converted(tmp_path):
    form = picture_format("yolo", VOCABULARY)
    plain, odd = photograph(tmp_path / "in" / "a.png"), photograph(tmp_path / "in" / "b.gif")
    form.write(everything(), plain, tmp_path / "out", "a")
    form.write(everything(), odd, tmp_path / "out", "b")
    form.write(everything(), plain, tmp_path / "out", "a")  # a second run
    images = tmp_path / "out" / "images"
    assert sorted(path.name for path in images.iterdir()) == ["a.png", "b.jpg"]
    assert (images / "a.png").samefile(plain)
    assert not os.path.isabs(os.readlink(images / "a.png"))
    with Image.open(images / "b.jpg") as image:
        assert (image.format, image.size) == ("JPEG", SIZE[::-1])


def test_pictures_are_copied_where_links_are_not_allowed(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError("no right to make links")

    monkeypatch.setattr("pathlib.Path.symlink_to", refuse)
    picture = photograph(tmp_path / "in" / "a.png")
    picture_format("yolo", VOCABULARY).write(everything(), picture, tmp_path / "out", "a")
    copy = tmp_path / "out" / "images" / "a.png"
    assert not copy.is_symlink()
    assert copy.read_bytes() == picture.read_bytes()


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    """Two pictures and what was found in them, with names as `predict` gives them."""
    monkeypatch.chdir(tmp_path)
    paths = [photograph(tmp_path / "in" / f"{name}.png") for name in ("one", "two")]
    cat = Prediction("", SIZE, (Detection.from_mask(("dog house",), 0.8, ring(3, 4, 20)),))
    return [
        (path, replace(found, picture=path.relative_to(tmp_path).as_posix()))
        for path, found in zip(paths, (apart(), cat), strict=True)
    ]


def prepared(source, folder):
    """The instances of a source when it is a prepared set: (object, part), mask and the parent's mask, sorted."""
    prepare(lambda _: source, folder, inputs={}, workers=0, strict=True)
    rows = []
    for split in source.splits:
        content = json.loads((folder / f"{split.name}.json").read_text(encoding="utf-8"))
        names = {row["id"]: row["name"] for row in content["categories"]}
        by_id = {row["id"]: row for row in content["annotations"]}
        for row in content["annotations"]:
            parent = by_id.get(row.get("parent_id"))
            above = None if parent is None else parent["segmentation"]["counts"]
            rows.append((names[row["category_id"]], row["segmentation"]["counts"], above))
    return sorted(rows, key=str)


def wanted(predictions):
    """What a prepared set has of predictions: parts of parts belong to the object."""
    rows = []
    for found in predictions:
        for index, item in enumerate(found):
            root = found.root(index)
            above = None if root == index else found[root].rle["counts"].decode()
            rows.append((item.title, item.rle["counts"].decode(), above))
    return sorted(rows, key=str)


def test_predictions_become_a_set_to_correct_in_labelme(tmp_path, pictures):
    form = picture_format("labelme", VOCABULARY)
    for path, found in pictures:
        form.write(found, path, tmp_path / "out" / "labelme", path.stem)
    form.finish(tmp_path / "out" / "labelme")
    # "dog house" is no part of a dog, which only a tree can say.
    tree = parse_vocabulary("dog:head(ear),leg; dog house")
    source = read_labelme_parts(tmp_path / "out" / "labelme", images=tmp_path / "in", tree=tree, val_share=0)
    assert prepared(source, tmp_path / "set") == wanted(found for _, found in pictures)


def test_labelme_needs_no_tree_where_names_are_plain(tmp_path, pictures):
    path, found = pictures[0]
    picture_format("labelme", VOCABULARY).write(found, path, tmp_path / "in", "sub/one")
    source = read_labelme_parts(tmp_path / "in", val_share=0)
    assert prepared(source, tmp_path / "set") == wanted([found])


def test_predictions_become_a_set_for_ultralytics(tmp_path, pictures):
    form = picture_format("yolo", VOCABULARY)
    for path, found in pictures:
        form.write(found, path, tmp_path / "out" / "yolo", path.stem)
    form.finish(tmp_path / "out" / "yolo")
    source = read_yolo_parts(tmp_path / "out" / "yolo", tree=VOCABULARY)
    once = wanted(found for _, found in pictures)
    assert prepared(source, tmp_path / "set") == sorted([*once, *once], key=str)  # all pictures are of both splits


def test_predictions_become_a_coco_set(tmp_path, pictures):
    (tmp_path / "out").mkdir()
    info = {"image_root": ".."}
    write_coco(tmp_path / "out" / "predictions.json", (found for _, found in pictures), VOCABULARY, info=info)
    source = read_coco_parts(tmp_path / "out", train=tmp_path / "out" / "predictions.json")
    assert prepared(source, tmp_path / "set") == wanted(found for _, found in pictures)
