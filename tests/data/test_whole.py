"""A prepared set appears whole or not at all, and is made only once."""

import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from langhops_cli.data import prepare as module
from langhops_cli.data.formats.coco_parts import read_coco_parts
from langhops_cli.data.prepare import prepare, prepared_folder, state_of
from langhops_cli.data.whole import written_beside
from langhops_cli.errors import DATA, UserError

Prepare = Callable[..., tuple[dict[str, Any], Path]]
Write = Callable[..., Path]
BOX = [[2, 2, 12, 2, 12, 12, 2, 12]]


def _files(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(p.relative_to(folder)): (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.rglob("*") if p.is_file()
    }


def test_running_again_changes_nothing_until_something_changed(dogs: Path, tmp_path: Path) -> None:
    def run(**options: Any) -> bool:
        inputs = {"source": state_of(dogs), **options}
        return prepare(lambda _: read_coco_parts(dogs, **options), tmp_path / "set", inputs=inputs, workers=1)[1]

    assert run() is True
    before = _files(tmp_path / "set")
    assert run() is False
    assert _files(tmp_path / "set") == before
    assert run(exhaustive=False) is True
    (dogs / "images/train/2.png").write_bytes(b"")
    assert run(exhaustive=False) is True
    assert json.loads((tmp_path / "set/report.json").read_text())["splits"]["train"]["images"] == 1


def test_running_again_reads_no_annotations(dogs: Path, tmp_path: Path) -> None:
    inputs = {"source": state_of(dogs)}
    first, _ = prepare(lambda _: read_coco_parts(dogs), tmp_path / "set", inputs=inputs, workers=1)

    def refuse(_: Path) -> Any:
        raise AssertionError("the source was opened")

    assert prepare(refuse, tmp_path / "set", inputs=inputs, workers=1) == (first, False)
    assert prepare(refuse, tmp_path / "set", inputs=inputs, strict=True, workers=1) == (first, False)
    with pytest.raises(AssertionError, match="was opened"):
        prepare(refuse, tmp_path / "set", inputs=inputs, union=True, workers=1)


def test_the_state_of_a_source_changes_with_every_file(dogs: Path, tmp_path: Path) -> None:
    states = [state_of(dogs), state_of(dogs, None), state_of(dogs / "train.json"), state_of(tmp_path / "none")]
    (dogs / "images/train/._1.png").touch()
    states.append(state_of(dogs))
    os.utime(dogs / "images/train/1.png", ns=(1, 1))
    states.append(state_of(dogs))
    (dogs / "images/train/gone.png").symlink_to(tmp_path / "none")
    states.append(state_of(dogs))
    assert len(set(states)) == len(states)
    assert state_of(dogs) == states[-1]


def test_strict_refuses_to_leave_anything_out_and_writes_nothing(write_coco: Write, prepare_coco: Prepare) -> None:
    rows = [{"category_id": 1, "segmentation": BOX}, *[{"category_id": 1, "segmentation": []}] * 3]
    source = write_coco(rows, [{"id": 1, "name": "car"}], pictures=2)
    (source / "images/train/2.png").unlink()
    told = r"set has faults, .* train: 3 x no mask \(2\); train: 1 x missing picture \(train/2.png\)"
    with pytest.raises(UserError, match=told) as caught:
        prepare_coco(source, strict=True)
    assert caught.value.code == DATA
    assert list((source.parent / "data").iterdir()) == []
    _, folder = prepare_coco(source)
    before = _files(folder)
    with pytest.raises(UserError, match="--strict refuses"):
        prepare_coco(source, strict=True)
    assert _files(folder) == before, "what was asked for before stays"


def test_strict_takes_a_set_without_faults(dogs: Path, prepare_coco: Prepare) -> None:
    assert prepare_coco(dogs, strict=True)[0]["splits"]["train"]["dropped"] == []


def test_nothing_usable_is_an_error_and_leaves_nothing(
    write_coco: Write, prepare_coco: Prepare, tmp_path: Path
) -> None:
    source = write_coco([{"category_id": 1, "segmentation": []}], [{"id": 1, "name": "car"}])
    with pytest.raises(UserError, match=r"no instance is left.*no mask: 1"):
        prepare_coco(source)
    source = write_coco([{"category_id": 1, "segmentation": BOX}], [{"id": 1, "name": "car"}], folder="second")
    (source / "images/train/1.png").write_bytes(b"x")
    with pytest.raises(UserError, match="none of the 1 pictures of train"):
        prepare_coco(source)
    assert list((tmp_path / "data").iterdir()) == []


@pytest.mark.parametrize("fault", [KeyboardInterrupt, OSError("disk full")])
def test_an_interruption_leaves_the_old_set_and_nothing_half_done(
    dogs: Path, prepare_coco: Prepare, monkeypatch: pytest.MonkeyPatch, fault: Any
) -> None:
    _, folder = prepare_coco(dogs)
    before = _files(folder)

    def fail(*_: object, **__: object) -> None:
        raise fault

    monkeypatch.setattr(module, "build_vocabulary", fail)
    with pytest.raises(KeyboardInterrupt if fault is KeyboardInterrupt else OSError):
        prepare_coco(dogs, exhaustive=False)
    assert _files(folder) == before
    assert [path.name for path in folder.parent.iterdir()] == ["set"]


@pytest.mark.parametrize("workers", [1, 2])
def test_an_interruption_among_the_pictures_leaves_nothing(write_coco: Write, tmp_path: Path, workers: int) -> None:
    rows = [{"image_id": n, "category_id": 1, "segmentation": BOX} for n in range(1, 101)]
    source = write_coco(rows, [{"id": 1, "name": "car"}], pictures=100)

    def interrupted(items: Iterable[Any], *, label: str, total: int) -> Iterator[Any]:
        assert (label, total) == ("train pictures", 100)
        for number, item in enumerate(items):
            if number == 40:
                raise KeyboardInterrupt
            yield item

    with pytest.raises(KeyboardInterrupt):
        prepare(lambda _: read_coco_parts(source), tmp_path / "data/set", inputs={}, workers=workers, track=interrupted)
    assert list((tmp_path / "data").iterdir()) == []


def test_what_a_killed_run_left_is_cleared_and_a_moved_set_put_back(tmp_path: Path) -> None:
    dead = 2**22 + 12345  # beyond the largest process number
    (tmp_path / f".set.partial-{dead}").mkdir()
    (tmp_path / f".set.old-{dead}").mkdir()
    (tmp_path / f".set.old-{dead}" / "report.json").write_text("old")
    living = tmp_path / f".set.partial-{os.getppid()}"
    living.mkdir()
    with written_beside(tmp_path / "set") as partial:
        assert (tmp_path / "set" / "report.json").read_text() == "old"
        (partial / "report.json").write_text("new")
    assert (tmp_path / "set" / "report.json").read_text() == "new"
    assert sorted(path.name for path in tmp_path.iterdir()) == [living.name, "set"]


def test_a_folder_of_other_things_is_not_replaced(dogs: Path, prepare_coco: Prepare, tmp_path: Path) -> None:
    (tmp_path / "data/set").mkdir(parents=True)
    (tmp_path / "data/set/diary.txt").write_text("dear diary")
    with pytest.raises(UserError, match="is no prepared set"):
        prepare_coco(dogs)
    assert (tmp_path / "data/set/diary.txt").read_text() == "dear diary"


def test_where_prepared_sets_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LANGHOPS_DATA", raising=False)
    assert prepared_folder(None, "cars") == Path("data/cars")
    monkeypatch.setenv("LANGHOPS_DATA", "/somewhere")
    assert prepared_folder(None, "cars") == Path("/somewhere/cars")
    assert prepared_folder(Path("x"), "cars") == Path("x/cars")
    for name in ("", "..", "a/b", ".hidden", "/etc"):
        with pytest.raises(UserError, match="cannot name a prepared set"):
            prepared_folder(None, name)
