"""What a job finds and names: inputs, file names of their own, and the folder that keeps other settings out."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from langhops_cli.errors import UserError
from langhops_cli.prediction.job.folder import RUN, RunFolder
from langhops_cli.prediction.job.record import Record
from langhops_cli.prediction.job.sources import list_inputs, name_sources, read_list

from .test_job_record import write

SETTINGS = {"min_score": 0.3, "vocabulary": {"dog": None}}


def nothing() -> bytes:
    pytest.fail("the list was read")


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


@pytest.mark.parametrize(
    ("content", "paths"),
    [
        (b"a.png\nb c.png\r\n\n./d//e.png", ["a.png", "b c.png", "d/e.png"]),
        (b"a\nb.png\0 c.png\0", ["a\nb.png", " c.png"]),
        (b"\xff.png\n", ["\udcff.png"]),
    ],
)
def test_lists_by_line_and_by_zero_byte(content, paths):
    assert read_list(content) == paths


def test_an_empty_list_is_told():
    with pytest.raises(UserError, match="standard input, which is empty"):
        read_list(b"\n \n")


def test_inputs_come_once_in_the_order_of_the_words(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    touch(*(tmp_path / name for name in ("imgs/b.png", "imgs/a.jpg", "imgs/deep/c.mp4", "imgs/notes.txt", "x.dat")))
    found = list_inputs(["x.dat", "-", "imgs"], listed=lambda: b"imgs/b.png\nlost.png\n")
    assert found.paths == ["x.dat", "imgs/b.png", "lost.png", "imgs/a.jpg", "imgs/deep/c.mp4"]
    assert list_inputs(["imgs/**/*.mp4"], listed=nothing).paths == ["imgs/deep/c.mp4"]
    with pytest.raises(UserError, match="no picture matches"):
        list_inputs(["imgs/*.mp4"], listed=nothing)


def test_what_an_earlier_run_made_is_no_input_unless_it_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    touch(tmp_path / "a.png", tmp_path / "out/overlays/a.jpg", tmp_path / "out/overlays-of-mine/a.jpg")
    own = [Path("out/overlays")]
    found = list_inputs(["."], listed=nothing, own=own)
    assert (found.paths, found.left_out) == (["a.png", "out/overlays-of-mine/a.jpg"], 1)
    assert list_inputs(["out/overlays"], listed=nothing, own=own).paths == ["out/overlays/a.jpg"]
    assert list_inputs(["out/overlays/*.jpg"], listed=nothing, own=own).paths == ["out/overlays/a.jpg"]
    with pytest.raises(UserError, match="only what an earlier run has written"):
        list_inputs(["ou*/overlays/*.jpg"], listed=nothing, own=own)


def test_stems_are_unique_whatever_the_case_and_keep_off_frames():
    paths = ["x/a.jpg", "y/a.png", "z/A.jpg", "a-2.jpg", "b.jpg", "b-000003.png", "b.mp4", "c.mp4", "c-000003.png"]
    stems = [source.stem for source in name_sources(paths, known={}, out=Path("o"))]
    assert stems == ["a", "a-2", "A-3", "a-2-2", "b", "b-000003", "b-2", "c", "c-000003-2"]


def test_stems_of_earlier_runs_stay_whatever_comes_before_them(tmp_path):
    rng = random.Random(0)
    choices = ("a", "A", "a-2", "a-000001", "a-000001-2")
    paths = [f"{rng.randrange(40)}/{rng.choice(choices)}.{rng.choice(('png', 'mp4'))}" for _ in range(300)]
    paths = list(dict.fromkeys(paths))
    first = name_sources(paths[50:], known={}, out=tmp_path)
    known = {source.path: source.stem for source in first}
    again = name_sources(paths, known=known, out=tmp_path)
    assert {source.path: source.stem for source in again if source.path in known} == known
    stems = {source.stem.casefold() for source in again}
    assert len(stems) == len(paths)
    for source in again:
        if source.video:
            assert not any(source.frame_stem(number).casefold() in stems for number in range(3))


def test_an_input_among_the_results_is_never_replaced(tmp_path):
    touch(tmp_path / "out/overlays/a.jpg")
    (source,) = name_sources([str(tmp_path / "out/overlays/a.jpg")], known={}, out=tmp_path / "out")
    assert source.stem == "a-2"


def check(folder, settings=SETTINGS, outputs=("overlays",), **options):
    record = Record(folder)
    record.collect()
    run = RunFolder(folder)
    run.check(record, settings, outputs, **{"overwrite": False, "inputs": [], **options})
    return run, record


def test_other_settings_are_refused_unless_nothing_is_there_or_it_is_to_be_overwritten(tmp_path):
    run, _ = check(tmp_path)
    run.save(SETTINGS, ["overlays"])
    other = SETTINGS | {"min_score": 0.5}
    check(tmp_path, other)
    write(tmp_path, ["a.png"])
    check(tmp_path)
    with pytest.raises(UserError, match=r"results of min score 0\.3, not 0\.5: give another --out, or --overwrite"):
        check(tmp_path, other)
    with pytest.raises(UserError, match="results of another vocabulary"):
        check(tmp_path, {**other, "vocabulary": {"dog": {"head": None}}})
    touch(tmp_path / "overlays/a.jpg", tmp_path / "mine.txt")
    run, record = check(tmp_path, other, overwrite=True)
    assert record.entries
    run.clear(record)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_overwriting_takes_no_input_away(tmp_path):
    run, _ = check(tmp_path)
    run.save(SETTINGS, ["overlays"])
    touch(tmp_path / "overlays/a.jpg")
    with pytest.raises(UserError, match=r"a\.jpg is to be predicted and lies where --overwrite takes away"):
        check(tmp_path, overwrite=True, inputs=[str(tmp_path / "overlays/a.jpg")])


def test_files_of_others_in_a_folder_of_results_are_not_mixed_with_ours(tmp_path):
    touch(tmp_path / "masks/truth.png")
    with pytest.raises(UserError, match="masks holds files that no earlier run has put there"):
        check(tmp_path, outputs=["overlays", "masks"])
    (tmp_path / "predictions.json").mkdir()
    with pytest.raises(UserError, match=r"predictions\.json is a folder; give another --out"):
        check(tmp_path)


def test_a_folder_that_was_not_filled_for_all_pictures_is_lacking(tmp_path):
    run = RunFolder(tmp_path)
    run.save(SETTINGS, ["overlays", "labelme"])
    run = RunFolder(tmp_path)
    assert run.lacking(["overlays", "labelme", "yolo"]) == ["yolo"]
    run.save(SETTINGS, ["yolo"])
    assert RunFolder(tmp_path).lacking(["overlays", "labelme", "yolo"]) == ["overlays", "labelme"]
    assert json.loads((tmp_path / RUN).read_text())["settings"] == SETTINGS
    (tmp_path / RUN).write_text("{")
    with pytest.raises(UserError, match=r"run\.json is damaged"):
        RunFolder(tmp_path)


def test_two_runs_cannot_work_in_one_folder_and_an_unused_one_goes_again(tmp_path):
    place = tmp_path / "a" / "b"
    with RunFolder(place).claimed():
        with pytest.raises(UserError, match="another run writes into") as caught, RunFolder(place).claimed():
            pass
        assert caught.value.code == 4
        assert place.is_dir()
    assert list(tmp_path.iterdir()) == []
    with RunFolder(place).claimed():
        touch(place / "kept")
    with RunFolder(place).claimed():
        pass
    assert (place / "kept").exists()


def test_what_a_killed_process_had_begun_is_swept_away_from_our_folders_alone(tmp_path):
    run = RunFolder(tmp_path)
    run.save(SETTINGS, ["overlays", "yolo"])
    ours = [tmp_path / name for name in (".index.html.7.part", "overlays/.a.jpg.7.part", "yolo/labels/.a.txt.7.part")]
    kept = [tmp_path / name for name in ("overlays/a.jpg", "overlays/a.part", "mine/.b.part")]
    touch(*ours, *kept)
    run.sweep()
    assert not any(path.exists() for path in ours)
    assert all(path.exists() for path in kept)


def test_a_run_that_could_do_nothing_leaves_no_trace_unless_there_is_one_of_others(tmp_path):
    run = RunFolder(tmp_path)
    run.save(SETTINGS, ["overlays"])
    run.discard()
    assert list(tmp_path.iterdir()) == []
    run.save(SETTINGS, ["overlays"])
    touch(tmp_path / "overlays/a.jpg")
    run.discard()
    assert (tmp_path / RUN).exists()
