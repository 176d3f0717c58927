"""Files that are broken or made to do harm: one clear line or a counted drop, and never more memory than usual."""

import copy
import json
import os
import random
import resource
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from langhops_cli.data.formats.coco_parts import read_coco_parts
from langhops_cli.data.index import PreparedDataset
from langhops_cli.data.prepare import prepare
from langhops_cli.errors import DATA, UserError

Prepare = Callable[..., tuple[dict[str, Any], Path]]
Write = Callable[..., Path]
BOX = [[2, 2, 12, 2, 12, 12, 2, 12]]
MEGABYTE = 1 << 20


def _drops(report: dict[str, Any], split: str = "train") -> dict[str, list[str]]:
    return {row["reason"]: row["first_ids"] for row in report["splits"][split]["dropped"]}


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_cut_off_file_is_one_line_that_names_it_wherever_it_is_cut(dogs: Path, prepare_coco: Prepare) -> None:
    text = (dogs / "train.json").read_text().rstrip()
    for length in range(0, len(text), 7):
        (dogs / "train.json").write_text(text[:length])
        with pytest.raises(UserError) as caught:
            prepare_coco(dogs)
        assert caught.value.code == DATA
        assert str(caught.value).startswith(str(dogs / "train.json"))
        assert "\n" not in str(caught.value)
    assert list((dogs.parent / "data").iterdir()) == []


def test_coordinates_that_are_no_numbers_cost_their_annotation_alone(write_coco: Write, prepare_coco: Prepare) -> None:
    nan, inf = float("nan"), float("inf")
    rows: list[dict[str, Any]] = [
        {"category_id": 1, "segmentation": BOX, "bbox": [nan, nan, nan, nan], "area": nan},
        {"category_id": 1, "bbox": [nan, 2, 10, 10]},
        {"category_id": 1, "bbox": [2, 2, inf, 10]},
        {"category_id": 1, "segmentation": [[2, 2, nan, 2, 12, 12]]},
        {"category_id": nan, "segmentation": BOX},
        {"category_id": 1, "segmentation": BOX, "image_id": nan},
        {"category_id": 1, "segmentation": BOX, "id": nan},
        {"category_id": 1, "segmentation": BOX, "parent_id": nan},
    ]
    source = write_coco(rows, [{"id": 1, "name": "car"}])
    assert "NaN" in (source / "train.json").read_text()
    report, folder = prepare_coco(source)
    assert _drops(report) == {
        "box with coordinates that are no numbers": ["2", "3"],
        "polygon with coordinates that are no numbers": ["4"],
        "unknown category": ["5"],
        "annotation of an unknown picture": ["6"],
        "annotation id that is no whole number": ["nan"],
    }
    content = json.loads((folder / "train.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert [row["bbox"] for row in content["annotations"]] == [[2, 2, 10, 10]] * 2, "the box is that of the mask"


def test_a_path_that_climbs_out_is_refused(write_coco: Write, prepare_coco: Prepare, tmp_path: Path) -> None:
    Image.new("RGB", (40, 30)).save(tmp_path / "secret.png")
    source = write_coco([{"category_id": 1, "segmentation": BOX}], [{"id": 1, "name": "car"}])
    content = json.loads((source / "train.json").read_text())
    for name in ("../secret.png", "train/../../../secret.png", str(tmp_path / "secret.png")):
        content["images"][0]["file_name"] = name
        (source / "train.json").write_text(json.dumps(content))
        with pytest.raises(UserError, match="leads out of the picture folder; refused"):
            prepare_coco(source)


def _declare(path: Path, width: int, height: int) -> None:
    """A picture of a few bytes that says it is as large as this."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(3 * 60_000), 9)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b""))


@pytest.fixture
def thrifty() -> Iterator[None]:
    """At most half a gigabyte more than now."""
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (taken + 512 * MEGABYTE, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs to know how much memory is taken")
@pytest.mark.usefixtures("thrifty")
def test_a_picture_that_would_fill_all_memory_is_one_picture_left_out(write_coco: Write, prepare_coco: Prepare) -> None:
    rows = [{"image_id": n, "category_id": 1, "segmentation": BOX} for n in (1, 2)]
    source = write_coco(rows, [{"id": 1, "name": "car"}], pictures=2)
    bomb = source / "images/train/2.png"
    _declare(bomb, 60_000, 60_000)
    assert bomb.stat().st_size < 1000
    content = json.loads((source / "train.json").read_text())
    content["images"][1] |= {"width": 60_000, "height": 60_000}
    (source / "train.json").write_text(json.dumps(content))
    report, folder = prepare_coco(source)
    assert _drops(report) == {
        "unreadable picture": ["train/2.png"],
        "instance in a picture that was left out": ["train/2.png"],
    }
    assert PreparedDataset(folder, "train").image_ids == [1]


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs to know how much memory is taken")
@pytest.mark.usefixtures("thrifty")
def test_a_picture_that_only_its_annotation_calls_large_is_left_out(write_coco: Write, prepare_coco: Prepare) -> None:
    """Its masks would be of that size, and so are its run lengths: a few bytes for 10^18 pixels."""
    huge = {"size": [10**9, 10**9], "counts": [0, 10**18]}
    rows = [{"image_id": 1, "category_id": 1, "segmentation": BOX}, {"image_id": 2, "category_id": 1}]
    source = write_coco([rows[0], {**rows[1], "segmentation": huge}], [{"id": 1, "name": "car"}], pictures=2)
    content = json.loads((source / "train.json").read_text())
    content["images"][1] |= {"width": 10**9, "height": 10**9}
    (source / "train.json").write_text(json.dumps(content))
    assert "picture of another size than annotated" in _drops(prepare_coco(source)[0])


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs to know how much memory is taken")
@pytest.mark.usefixtures("thrifty")
def test_masks_made_to_crash_the_rasteriser_are_left_out(write_coco: Write, prepare_coco: Prepare) -> None:
    masks: list[Any] = [
        [[-40, -30, 80, 60, -40, 60] * 100_000],
        [[1e300, 0, 0, 1e300, 1, 1]],
        [[10**400, 0, 0, 1, 1, 1]],
        {"size": [30, 40], "counts": "Èÿo"},
        {"size": [30, 40], "counts": "o" * 100_000},
        {"size": [30, 40], "counts": "\ud83d\ude00"},
        {"size": [30, 40], "counts": [0] * 100_000 + [-1, 1201]},
        {"size": [30, 40], "counts": [2**63, -(2**63), 1200]},
        {"size": [-30, -40], "counts": [1200]},
        {"size": [30, 40], "counts": None},
        {"size": None},
        {"size": 30, "counts": "x"},
    ]
    rows = [{"category_id": 1, "segmentation": mask} for mask in [BOX, *masks]]
    report, folder = prepare_coco(write_coco(rows, [{"id": 1, "name": "car"}]))
    assert sum(row["count"] for row in report["splits"]["train"]["dropped"]) == len(masks)
    assert len(PreparedDataset(folder, "train")[0].objects) == 1


def test_annotations_nested_too_deep_for_a_worker_are_left_out(
    write_coco: Write, prepare_coco: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"image_id": n, "category_id": 1, "segmentation": BOX} for n in (1, 2)]
    source = write_coco(rows, [{"id": 1, "name": "car"}], pictures=2)
    text = (source / "train.json").read_text()
    for depth in (50, 100_000):
        (source / "train.json").write_text(text.replace('"id": 2, "image_id": 2', f'"x": {"[" * depth}{"]" * depth}, "id": 2, "image_id": 2'))  # fmt: skip  # noqa: E501
        if depth == 50:
            assert _drops(prepare_coco(source)[0]) == {}
            continue
        with pytest.raises(UserError, match="nested too deep"):
            prepare_coco(source)


VALUES: list[Any] = [
    None, True, -1, 0, 1.5, 2**31, 2**63, 10**30, float("nan"), float("inf"), 1e308, "", "x", "../x", "a\nb", "nul\0",
    "ß" * 300, [], [[]], [1], [None, [1, 2]], {}, {"id": {}}, {"size": [30, 40], "counts": "0"},
]  # fmt: skip


def _places(value: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The ways to all values of a document."""
    if above:
        yield above
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _places(inner, (*above, key))


def _spoil(document: Any, generator: random.Random) -> Any:
    """The document with one value put out, doubled, or replaced by one of the above."""
    spoilt = copy.deepcopy(document)
    *way, last = generator.choice(list(_places(document)))
    inner = spoilt
    for key in way:
        inner = inner[key]
    kind = generator.randrange(8)
    if kind == 0:
        del inner[last]
    elif kind == 1 and isinstance(inner, list):
        inner.append(copy.deepcopy(inner[last]))
    else:
        inner[last] = copy.deepcopy(generator.choice(VALUES))
    return spoilt


@pytest.mark.parametrize("seed", range(6))
def test_whatever_stands_where_it_should_not_ends_in_a_set_or_in_one_line(
    write_coco: Write, tmp_path: Path, seed: int
) -> None:
    """Each value of a whole document in turn put out or replaced, one to three at a time."""
    rows: list[dict[str, Any]] = [
        {"category_id": 1, "segmentation": BOX, "parent_id": None, "iscrowd": 0, "bbox": [2, 2, 10, 10]},
        {"category_id": 2, "segmentation": {"size": [30, 40], "counts": [100, 50, 1050]}, "parent_id": 1},
        {"category_id": 2, "bbox": [3, 3, 5, 5], "parent_id": 2, "image_id": 2},
    ]
    categories = [{"id": 1, "name": "dog", "parent_id": None}, {"id": 2, "name": "dog head", "parent_id": 1}]
    info = {"exhaustive": False, "image_root": "images"}
    source = write_coco(rows, categories, pictures=2, info=info)
    document = json.loads((source / "train.json").read_text())
    document["images"][1]["checked_category_ids"] = [1, 2]
    generator = random.Random(seed)
    made = 0
    for number in range(40):
        spoilt = document
        for _ in range(generator.choice([1, 1, 2, 3])):
            spoilt = _spoil(spoilt, generator)
        (source / "train.json").write_text(json.dumps(spoilt))
        before = _files(source)
        code = None
        try:
            prepare(
                lambda _: read_coco_parts(source), tmp_path / "set", inputs={"seed": [seed, number]}, union=True,
                workers=1,
            )  # fmt: skip
        except UserError as error:
            code = error.code
        else:
            made += 1
            dataset = PreparedDataset(tmp_path / "set", "train")
            assert all(dataset[place].size == (30, 40) for place in range(len(dataset)))
        assert code in (None, DATA)
        assert _files(source) == before
    assert 5 < made < 40


MILLION = r"""
import re, resource, sys
from pathlib import Path
from langhops_cli.data.formats.coco_parts import read_coco_parts
from langhops_cli.data.prepare import prepare

if __name__ == "__main__":
    source, folder = map(Path, sys.argv[1:])
    report, _ = prepare(lambda _: read_coco_parts(source), folder, inputs={}, workers=2)
    # What the system counts as this process's own peak begins with that of the one which started it.
    own = int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1])
    largest_child = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    print(report["splits"]["train"]["objects"], report["splits"]["train"]["parts"], own, largest_child)
"""


@pytest.mark.slow
def test_a_million_annotations_take_no_more_memory_than_a_few(tmp_path: Path) -> None:
    """A million annotations in one file, the annotations before the pictures; each process keeps below 400 MB.

    A list of them all, as json.load makes it, takes 800 MB.
    """
    source = tmp_path / "source"
    (source / "images").mkdir(parents=True)
    pictures, each = 2000, 500
    first = source / "images/0.png"
    Image.new("RGB", (48, 32)).save(first)
    for number in range(1, pictures):
        os.link(first, source / f"images/{number}.png")
    with (source / "train.json").open("w") as file:
        file.write('{"annotations": [')
        for number in range(pictures * each):
            image, place = divmod(number, each)
            x, y = place % 40, place // 40
            polygon = f"{x},{y},{x + 5},{y},{x + 5},{y + 5},{x},{y + 5}"
            part = place % 2
            parent = number if part else "null"
            file.write(
                f'{"," if number else ""}{{"id":{number + 1},"image_id":{image},"category_id":{1 + part},'
                f'"segmentation":[[{polygon}]],"bbox":[{x},{y},5,5],"area":25,"iscrowd":0,"parent_id":{parent}}}\n'
            )
        rows = [{"id": n, "file_name": f"{n}.png", "width": 48, "height": 32} for n in range(pictures)]
        categories = [{"id": 1, "name": "dog", "parent_id": None}, {"id": 2, "name": "head", "parent_id": 1}]
        file.write(f'], "images": {json.dumps(rows)}, "categories": {json.dumps(categories)}}}')
    (tmp_path / "run.py").write_text(MILLION)
    words = [sys.executable, str(tmp_path / "run.py"), str(source), str(tmp_path / "set")]
    output = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    objects, parts, own, largest_child = map(int, output.split())
    assert (objects, parts) == (500_000, 500_000)
    assert max(own, largest_child) * 1024 < 400 * MEGABYTE
