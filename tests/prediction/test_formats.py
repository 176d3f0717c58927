"""Files of single pictures, read back by the rules of the tools that they are for."""

from __future__ import annotations

import base64
import io
import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from langhops_cli.prediction.formats import FORMATS, picture_format
from langhops_cli.prediction.results import Detection, Prediction
from langhops_cli.vocabulary import parse_vocabulary
from tests.prediction.found import SIZE, VOCABULARY, apart, everything, photograph
from tests.prediction.test_outlines import filled


def labelme_mask(shape, size):
    """As `labelme.utils.shapes_to_label` places a stored mask: its points are the first and the last pixel."""
    patch = np.array(Image.open(io.BytesIO(base64.b64decode(shape["mask"])))).astype(bool)
    (x1, y1), (x2, y2) = np.asarray(shape["points"]).astype(int)
    mask = np.zeros(size, dtype=bool)
    mask[y1 : y2 + 1, x1 : x2 + 1] = patch
    return mask


def check_labelme(content):
    """What LabelMe refuses a file for when it opens it."""
    assert {"version", "imageData", "imagePath", "shapes", "flags", "imageHeight", "imageWidth"} <= content.keys()
    for shape in content["shapes"]:
        assert isinstance(shape["label"], str)
        assert shape["points"]
        assert all(len(point) == 2 and all(type(value) in (int, float) for value in point) for point in shape["points"])
        assert isinstance(shape["shape_type"], str)
        assert all(isinstance(value, bool) for value in shape["flags"].values())
        assert isinstance(shape["description"], str)
        assert shape["group_id"] is None or type(shape["group_id"]) is int


def test_labelme_gives_equal_masks(tmp_path):
    found, picture = everything(), photograph(tmp_path / "pictures" / "ü.png")
    picture_format("labelme", VOCABULARY).write(found, picture, tmp_path / "out", "sub/one")
    path = tmp_path / "out" / "sub" / "one.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    check_labelme(content)
    assert (content["imageHeight"], content["imageWidth"]) == SIZE
    assert (path.parent / content["imagePath"]).samefile(picture)
    assert sorted(shape["instance"] for shape in content["shapes"]) == list(range(1, len(found) + 1))
    for shape in content["shapes"]:
        item = found[shape["instance"] - 1]
        assert np.array_equal(labelme_mask(shape, SIZE), item.mask)
        assert shape["score"] == item.score
        assert shape.get("parent") == (None if item.parent is None else item.parent + 1)
        assert shape.get("track") == item.track
    areas = [found[shape["instance"] - 1].area for shape in content["shapes"]]
    assert areas == sorted(areas, reverse=True)


def test_labelme_takes_no_two_instances_for_one(tmp_path):
    """LabelMe joins shapes of one label and one group."""
    found = everything()
    picture_format("labelme", VOCABULARY).write(found, photograph(tmp_path / "a.png"), tmp_path, "a")
    shapes = {shape["instance"]: shape for shape in json.loads((tmp_path / "a.json").read_text("utf-8"))["shapes"]}
    keys = [(shape["label"], shape["group_id"]) for shape in shapes.values() if shape["group_id"] is not None]
    assert len(keys) == len(set(keys))
    # The better leg has the group of its dog, the other one none.
    assert [shapes[number]["group_id"] for number in (1, 2, 3, 4, 5)] == [1, None, 1, 1, 1]
    assert [shapes[number]["label"] for number in (1, 4, 5, 7, 8, 9)] == [
        "dog", "dog head", "dog ear", "dog:house roof", "dog house", "dog house door",
    ]  # fmt: skip


def test_labelme_opens_in_labelme(tmp_path):
    label_file = pytest.importorskip("labelme._label_file", reason="LabelMe is not installed")
    utils = pytest.importorskip("labelme.utils", reason="LabelMe is not installed")
    found = apart()
    picture_format("labelme", VOCABULARY).write(found, photograph(tmp_path / "a.png"), tmp_path, "a")
    shapes = label_file.read_label_file(str(tmp_path / "a.json")).shapes
    for shape in shapes:
        _, ids = utils.shapes_to_label(SIZE, [shape], {shape["label"]: 1})
        assert np.array_equal(ids > 0, found[shape["other_data"]["instance"] - 1].mask)
    _, ids = utils.shapes_to_label(SIZE, shapes, {shape["label"]: 1 for shape in shapes})
    assert len(np.unique(ids)) == 1 + len(found)


@pytest.mark.parametrize("name", ["labelme", "yolo"])
def test_a_frame_of_a_video_is_written_too(tmp_path, name):
    """A label file without its picture is of no use."""
    frame = Image.fromarray(np.full((*SIZE, 3), (200, 30, 60), dtype=np.uint8))
    picture_format(name, VOCABULARY).write(everything("clip.mp4#7"), frame, tmp_path, "clip/7")
    if name == "labelme":
        written = tmp_path / "clip" / json.loads((tmp_path / "clip" / "7.json").read_text("utf-8"))["imagePath"]
    else:
        written = tmp_path / "images" / "clip" / "7.jpg"
    with Image.open(written) as image:
        assert image.size == SIZE[::-1]
        assert np.abs(np.asarray(image).astype(int) - (200, 30, 60)).max() < 6


def test_geojson_gives_equal_masks(tmp_path):
    found = Prediction("clip.mp4#7", SIZE, everything().instances, frame=7, seconds=0.25)
    picture_format("geojson", VOCABULARY).write(found, tmp_path / "absent.png", tmp_path, "a")
    content = json.loads((tmp_path / "a.geojson").read_text(encoding="utf-8"))
    assert content["type"] == "FeatureCollection"
    assert (content["width"], content["height"], content["frame"], content["seconds"]) == (80, 60, 7, 0.25)
    assert len(content["features"]) == len(found)
    kinds = set()
    for index, (feature, item) in enumerate(zip(content["features"], found, strict=True)):
        geometry, properties = feature["geometry"], feature["properties"]
        kinds.add(geometry["type"])
        polygons = [geometry["coordinates"]] if geometry["type"] == "Polygon" else geometry["coordinates"]
        assert all(ring[0] == ring[-1] for polygon in polygons for ring in polygon)
        rings = [[np.array(ring[:-1]) for ring in polygon] for polygon in polygons]
        assert np.array_equal(filled(rings, SIZE), item.mask)
        assert properties["instance"] == index + 1
        assert properties["parent"] == (None if item.parent is None else item.parent + 1)
        assert properties["classification"]["name"] == properties["name"] == item.title
        assert tuple(properties["path"]) == item.path
    assert kinds == {"Polygon", "MultiPolygon"}


def test_geojson_by_shapely_and_rasterio(tmp_path):
    shapely = pytest.importorskip("shapely", reason="shapely is not installed")
    features = pytest.importorskip("rasterio.features", reason="rasterio is not installed")
    found = everything()
    picture_format("geojson", VOCABULARY).write(found, tmp_path / "absent.png", tmp_path, "a")
    content = json.loads((tmp_path / "a.geojson").read_text(encoding="utf-8"))
    for feature, item in zip(content["features"], found, strict=True):
        shape = shapely.from_geojson(json.dumps(feature["geometry"]))
        assert shape.is_valid
        assert shape.area == item.area
        assert np.array_equal(features.rasterize([feature["geometry"]], SIZE).astype(bool), item.mask)


def read_level(folder, level, stem="a"):
    with Image.open(folder / level / f"{stem}.png") as image:
        values = np.asarray(image)
    with Image.open(folder / f"{level}-instances" / f"{stem}.png") as image:
        assert image.mode.startswith("I")  # 16-bit grey
        return values, np.asarray(image)


def test_masks_hold_classes_and_instances(tmp_path):
    found, form = apart(), picture_format("masks", VOCABULARY)
    form.write(found, tmp_path / "absent.png", tmp_path, "a")
    form.finish(tmp_path)
    names = json.loads((tmp_path / "names.json").read_text(encoding="utf-8"))
    rows = json.loads((tmp_path / "instances" / "a.json").read_text(encoding="utf-8"))["instances"]
    assert list(names) == ["objects", "parts", "parts-2"]
    levels = {level: read_level(tmp_path, level) for level in names}
    for row, item in zip(rows, found, strict=True):
        values, ids = levels[row["level"]]
        assert np.array_equal(ids == row["id"], item.mask)
        assert set(values[item.mask]) == {row["value"]}
        (named,) = (entry for entry in names[row["level"]] if entry["value"] == row["value"])
        assert tuple(named["path"]) == item.path
        assert row["parent"] == (None if item.parent is None else item.parent + 1)
        assert row["area"] == row["seen"] == item.area
    assert [entry["name"] for entry in names["parts"]] == [
        "dog head", "dog leg", "dog house roof", "dog house door", "café: bar stool",
    ]  # fmt: skip
    with Image.open(tmp_path / "parts" / "a.png") as image:
        assert image.mode == "P"
        palette = image.getpalette()
    assert [palette[3 * entry["value"] : 3 * entry["value"] + 3] for entry in names["parts"]] == [
        entry["colour"] for entry in names["parts"]
    ]


def test_masks_show_small_instances_and_say_what_is_hidden(tmp_path):
    found = everything()
    picture_format("masks", VOCABULARY).write(found, tmp_path / "absent.png", tmp_path, "a")
    rows = json.loads((tmp_path / "instances" / "a.json").read_text(encoding="utf-8"))["instances"]
    _, ids = read_level(tmp_path, "objects")
    large, first, line = found[5], found[0], found[7]  # 4800, 1440 and 60 pixels
    assert np.array_equal(ids == 8, line.mask)
    assert np.array_equal(ids == 1, first.mask & ~line.mask)
    assert np.array_equal(ids == 6, large.mask & ~first.mask & ~line.mask)
    assert rows[5]["seen"] == (ids == 6).sum() < rows[5]["area"] == 4800


def test_masks_of_more_classes_than_a_palette_has(tmp_path):
    vocabulary = parse_vocabulary("; ".join(f"thing {number}" for number in range(300)))
    found = Prediction("a.png", SIZE, (Detection.from_mask(("thing 299",), 0.5, np.ones(SIZE, dtype=bool)),))
    picture_format("masks", vocabulary).write(found, tmp_path / "a.png", tmp_path, "a")
    values, _ = read_level(tmp_path, "objects")
    assert set(values.ravel()) == {300}


@pytest.mark.parametrize("name", FORMATS)
def test_nothing_found_is_written_too(tmp_path, name):
    form = picture_format(name, VOCABULARY)
    form.write(Prediction("a.png", SIZE), photograph(tmp_path / "a.png"), tmp_path / "out", "a")
    form.finish(tmp_path / "out")
    written = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert [path for path in written if path.stem == "a"]
    assert not [path for path in written if path.name.startswith(".")]


@pytest.mark.parametrize("name", FORMATS)
def test_many_threads_write_what_one_writes(tmp_path, name):
    picture, form = photograph(tmp_path / "a.png"), picture_format(name, VOCABULARY)

    def write(number):
        form.write(everything(), picture, tmp_path / "many", f"{number}")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    form.write(everything(), picture, tmp_path / "one", "0")
    for path in (tmp_path / "one").rglob("*"):
        if path.is_file():
            assert (tmp_path / "many" / path.relative_to(tmp_path / "one")).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("name", FORMATS)
def test_an_unknown_name_is_refused(tmp_path, name):
    strange = Prediction("a.png", SIZE, (Detection.from_mask(("horse",), 0.5, np.ones(SIZE, dtype=bool)),))
    with pytest.raises(KeyError):
        picture_format(name, VOCABULARY).write(strange, photograph(tmp_path / "a.png"), tmp_path / "out", "a")
