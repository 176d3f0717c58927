import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from langhops_cli.data.masks import encode
from langhops_cli.data.records import InstanceRecord, Picture, PictureRecords
from langhops_cli.data.verify import CheckedPicture, Checker, look_at, parts_of_objects
from langhops_cli.errors import UserError

SIZE = (40, 30)


def _save(path: Path, size: tuple[int, int] = SIZE, *, orientation: int | None = None, seed: int = 0) -> Path:
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    Image.fromarray(pixels).save(path, exif=exif)
    return path


def _mask(left: int, top: int, right: int, bottom: int) -> np.ndarray:
    mask = np.zeros((30, 40), np.uint8)
    mask[top:bottom, left:right] = 1
    return mask


def _dog(path: Path, picture: Picture, size: tuple[int, int]) -> PictureRecords:
    """A head before its dog, another dog, and what was left out."""
    records = PictureRecords(
        [
            InstanceRecord(7, "dog", "head", encode(_mask(2, 2, 8, 8)), parent=3),
            InstanceRecord(3, "dog", None, encode(_mask(0, 0, 20, 20))),
            InstanceRecord(4, "dog", None, None, box=(20.5, 0, 40, 20)),
            InstanceRecord(5, "dog", "head", encode(_mask(2, 2, 8, 8)), parent=3, crowd=True),
        ]
    )
    records.drops.add("empty mask", 9)
    records.checked = (("dog", None),)
    return records


def _fail(path: Path, picture: Picture, size: tuple[int, int]) -> PictureRecords:
    raise UserError(f"{path} has annotations of another kind.")


def _dive(path: Path, picture: Picture, size: tuple[int, int]) -> PictureRecords:
    raise RecursionError


def _check(root: Path, picture: Picture, read: object = _dog, *, writes: bool = False) -> CheckedPicture:
    return Checker(root, read, union=False, writes=writes)(picture)  # type: ignore[arg-type]


def test_objects_come_first_and_parts_point_at_their_place(tmp_path: Path) -> None:
    _save(tmp_path / "1.png")
    found = _check(tmp_path, Picture(1, "1.png", SIZE, 4))
    assert [item.role for item in found.instances] == [("dog", None)] * 2 + [("dog", "head")] * 2
    assert [item.parent for item in found.instances] == [-1, -1, 0, 0]
    assert [item.area for item in found.instances] == [400, 390, 36, 36]
    assert [item.box for item in found.instances][:2] == [(0, 0, 20, 20), (20.5, 0, 40, 20)]
    assert [bool(item.counts) for item in found.instances] == [True, False, True, True]
    assert [item.crowd for item in found.instances] == [False, False, False, True]
    assert (found.fault, found.width, found.height) == (None, *SIZE)
    assert found.drops.first == {"empty mask": ["9"]}
    assert found.checked == (("dog", None),)
    assert found.parents.stated == 2
    assert parts_of_objects(found) == {(("dog", "head"), 0): 1}, "a crowd is no number of parts"


def test_the_size_is_read_where_the_source_does_not_say_it(tmp_path: Path) -> None:
    _save(tmp_path / "1.png")
    found = _check(tmp_path, Picture(1, "1.png"))
    assert (found.fault, found.width, found.height) == (None, *SIZE)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_measured_upright(tmp_path: Path, orientation: int) -> None:
    turned = orientation >= 5
    path = _save(tmp_path / "1.jpg", orientation=orientation)
    upright = SIZE[::-1] if turned else SIZE
    assert look_at(path, None)[:2] == (None, upright)
    assert look_at(path, upright)[:2] == (None, upright)
    fault = look_at(path, upright[::-1])[0]
    assert fault == (
        "picture annotated without its EXIF rotation" if turned else "picture of another size than annotated"
    )


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("absent.png", "missing picture"),
        ("folder.png", "missing picture"),
        ("x" * 300 + ".png", "missing picture"),
        ("nul\0.png", "missing picture"),
        ("half \ud800.png", "missing picture"),
        ("._1.png", "macOS ._ file, no picture"),
        ("empty.png", "unreadable picture"),
        ("text.png", "unreadable picture"),
        ("cut.jpg", "unreadable picture"),
        ("cut.png", "unreadable picture"),
        ("large.png", "picture of another size than annotated"),
    ],
)
def test_each_fault_of_a_picture_is_told_and_its_instances_are_counted(tmp_path: Path, name: str, fault: str) -> None:
    _save(tmp_path / "._1.png")
    _save(tmp_path / "large.png", (41, 30))
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("<html>not found</html>")
    for cut in ("cut.jpg", "cut.png"):
        whole = _save(tmp_path / cut, (400, 300)).read_bytes()
        (tmp_path / cut).write_bytes(whole[: len(whole) * 3 // 4])
    found = _check(tmp_path, Picture(1, name, SIZE, 12))
    assert (found.fault, found.instances) == (fault, ())
    assert found.drops.counts == {fault: 1, "instance in a picture that was left out": 12}
    assert found.drops.first[fault] == [name]


def test_annotations_that_cannot_be_read_leave_out_their_picture_alone(tmp_path: Path) -> None:
    path = _save(tmp_path / "1.png")
    found = _check(tmp_path, Picture(1, "1.png", SIZE), _fail)
    assert found.drops.first == {"annotations that cannot be read": [f"{path} has annotations of another kind."]}
    found = _check(tmp_path, Picture(1, "1.png", SIZE), _dive)
    assert found.drops.first == {"annotations nested too deep": ["1.png"]}


def test_the_digest_is_that_of_the_bytes(tmp_path: Path) -> None:
    one, two = _save(tmp_path / "1.png", seed=1), _save(tmp_path / "2.png", seed=2)
    shutil.copy(one, tmp_path / "3.jpg")
    digests = [look_at(path, None)[2] for path in (one, two, tmp_path / "3.jpg")]
    assert digests[0] == digests[2] != digests[1]
    assert all(0 < digest < 2**64 for digest in digests)


def test_a_picture_that_the_reader_makes_is_not_looked_for(tmp_path: Path) -> None:
    found = _check(tmp_path, Picture(1, "not there yet.png", SIZE), writes=True)
    assert (found.fault, found.width, found.height, found.digest) == (None, *SIZE, 0)
    assert len(found.instances) == 4


def test_a_process_that_reads_pictures_loads_no_heavy_library() -> None:
    code = (
        "import sys, langhops_cli.data.verify, langhops_cli.data.work, langhops_cli.data.formats.coco_parts; "
        "sys.exit(str({'torch', 'transformers', 'datasets', 'pyarrow', 'pandas'} & set(sys.modules) or ''))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.stderr.strip() == ""
