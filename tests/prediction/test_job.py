"""The job around a model that is none: order, batches, reading ahead, faults, and a process killed at any moment."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from langhops_cli.errors import UserError
from langhops_cli.prediction.job import reading
from langhops_cli.prediction.job.finder import Finder
from langhops_cli.prediction.job.job import Job
from langhops_cli.prediction.job.outputs import OVERLAYS, PictureFiles, derive
from langhops_cli.prediction.job.record import RECORD, Record
from langhops_cli.prediction.job.sources import Source, name_sources
from langhops_cli.prediction.results import Detection, Prediction
from langhops_cli.vocabulary import parse_vocabulary

VOCABULARY = parse_vocabulary("dog:head")
SIZE = (12, 20)


class Bright:
    """Stands for a model: what is bright is a dog, and its upper half the head."""

    def __init__(self) -> None:
        self.prepared = 0
        self.batches: list[list[str]] = []
        self.before_batch = lambda number: None

    def prepare(self, image, name):
        self.prepared += 1

    def ask(self, shots):
        self.before_batch(len(self.batches))
        self.batches.append([shot.name for shot in shots])
        return [lambda shot=shot: self._find(shot) for shot in shots]

    def _find(self, shot):
        mask = np.asarray(shot.image.convert("L")) > 127
        found = [Detection.from_mask(("dog",), 0.9, mask)]
        head = mask.copy()
        head[SIZE[0] // 2 :] = False
        if head.any():
            found.append(Detection.from_mask(("dog", "head"), 0.8, head, parent=0))
        return Prediction(shot.name, SIZE, tuple(found), shot.frame, shot.seconds)


def draw(folder: Path, number: int) -> str:
    folder.mkdir(exist_ok=True)
    pixels = np.zeros((*SIZE, 3), dtype=np.uint8)
    pixels[number % 12, number % 20 :] = 255
    Image.fromarray(pixels).save(folder / f"{number:02d}.png")
    return str(folder / f"{number:02d}.png")


@pytest.fixture
def paths(tmp_path):
    return [draw(tmp_path / "imgs", number) for number in range(17)]


def job(paths, out: Path, model=None, *, batch=3, workers=2, every=1):
    out.mkdir(exist_ok=True)
    record = Record(out)
    record.collect()
    known = {entry.source: entry.stem for entry in record.entries.values() if entry.frame is None}
    sources = name_sources(paths, known=known, out=out)
    files = PictureFiles(out, VOCABULARY, overlays=True, formats=["labelme"])
    return Job(model or Bright(), record, files, batch=batch, workers=workers, every=every), sources


def run(paths, out: Path, model=None, **options):
    """Do the job to its end; return what became of each picture."""
    work, sources = job(paths, out, model, **options)
    with work.record:
        outcomes = list(work.run(sources))
    work.record.collect()
    work.record.arrange(lambda picture, entry: (paths.index(entry.source), entry.frame or 0))
    return outcomes


def found_in(out: Path) -> dict[str, Prediction]:
    record = Record(out)
    record.collect()
    return {found.picture: found for _, found in record.read()}


def contents(out: Path) -> dict[str, bytes]:
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("batch", "workers"), [(1, 1), (3, 2), (5, 4), (100, 3)])
def test_batches_and_threads_change_nothing(paths, tmp_path, batch, workers):
    model = Bright()
    outcomes = run(paths, tmp_path / "out", model, batch=batch, workers=workers)
    assert [outcome.prediction.picture for outcome in outcomes] == paths
    assert model.batches == [paths[start : start + batch] for start in range(0, len(paths), batch)]
    run(paths, tmp_path / "plain", batch=1, workers=1)
    assert contents(tmp_path / "out") == contents(tmp_path / "plain")
    assert len(contents(tmp_path / "out")) == 1 + 2 * len(paths)
    for number, found in enumerate(found_in(tmp_path / "out").values()):
        wanted = np.zeros(SIZE, dtype=bool)
        wanted[number % 12, number % 20 :] = True
        np.testing.assert_array_equal(found[0].mask, wanted)


def test_bad_pictures_are_told_in_their_place_and_the_next_run_tries_them_again(paths, tmp_path):
    good = Path(paths[4]).read_bytes()
    for path in (paths[0], paths[4], paths[16]):
        Path(path).write_bytes(b"")
    outcomes = run(paths, tmp_path / "out", batch=4)
    assert [outcome.source.path for outcome in outcomes] == paths
    assert [place for place, outcome in enumerate(outcomes) if outcome.error] == [0, 4, 16]
    assert "is empty" in str(outcomes[4].error)
    Path(paths[4]).write_bytes(good)
    model = Bright()
    outcomes = run(paths, tmp_path / "out", model)
    assert model.batches == [[paths[4]]]
    assert list(found_in(tmp_path / "out")) == paths[1:16]


def test_only_a_few_pictures_are_in_memory_at_a_time(paths, tmp_path):
    most = []
    model = Bright()
    model.before_batch = lambda number: (threading.Event().wait(0.05), most.append(model.prepared - 2 * number))
    run(paths, tmp_path / "out", model, batch=2, workers=2)
    assert 2 <= max(most) <= 2 + 3 + 2  # a batch, what waits, and one in the hands of each reader


def test_a_fault_of_the_model_ends_the_job_and_keeps_what_is_done(paths, tmp_path):
    model = Bright()

    def fail(number):
        if number == 3:
            raise RuntimeError("out of memory")

    model.before_batch = fail
    with pytest.raises(RuntimeError, match="out of memory"):
        run(paths, tmp_path / "out", model, batch=2)
    assert list(found_in(tmp_path / "out")) == paths[:6]
    assert threading.active_count() == 1 or not [
        thread for thread in threading.enumerate() if thread.name.startswith(("read", "keep", "write"))
    ]


def test_a_fault_nobody_foresaw_in_a_reader_is_not_swallowed(paths, tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "_reads", lambda task, finder: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(paths, tmp_path / "out")


def test_a_fault_while_files_are_written_leaves_no_line_of_their_picture(paths, tmp_path, monkeypatch):
    write = PictureFiles.write

    def full(self, shot, found):
        if shot.name == paths[7]:
            raise OSError(28, "No space left on device")
        write(self, shot, found)

    monkeypatch.setattr(PictureFiles, "write", full)
    with pytest.raises(OSError, match="No space left"):
        run(paths, tmp_path / "out", batch=2)
    assert list(found_in(tmp_path / "out")) == paths[:6]
    monkeypatch.undo()
    run(paths, tmp_path / "out", batch=2)
    assert list(found_in(tmp_path / "out")) == paths


def test_stopping_keeps_the_batch_whose_files_are_being_written(paths, tmp_path):
    work, sources = job(paths, tmp_path / "out", batch=2)
    with work.record, closing(work.run(sources)) as outcomes:
        for _ in range(5):
            next(outcomes)
    done = list(found_in(tmp_path / "out"))
    assert done == paths[: len(done)] and 6 <= len(done) <= 8


@pytest.mark.parametrize("moment", ["in the model", "while files are written", "in the middle of a line"])
def test_killed_at_any_moment_at_most_a_batch_is_lost_and_the_next_run_completes_it(paths, tmp_path, moment):
    run(paths, tmp_path / "whole")
    batch = 3
    child = os.fork()
    if not child:
        _die(paths, tmp_path / "out", batch, moment)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    done = len((tmp_path / "out" / RECORD).read_bytes().split(b"\n")) - 1
    assert done == {"in the model": 6, "while files are written": 6, "in the middle of a line": 6}[moment]
    model = Bright()
    run(paths, tmp_path / "out", model, batch=batch)
    assert [name for names in model.batches for name in names] == paths[done:]
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def _die(paths, out, batch, moment):
    """In a child: do the job until the third batch, which the process does not outlive."""
    try:
        work, sources = job(paths, out, batch=batch, workers=1)
        at_third = {
            "in the model": (work.finder, "ask"),
            "while files are written": (work.files, "write"),
            "in the middle of a line": (work.record, "append"),
        }[moment]
        owner, name = at_third
        usual, calls = getattr(owner, name), []
        last = 3 * batch - 1 if name == "write" else 3

        def deadly(*words):
            calls.append(words)
            if len(calls) < last:
                return usual(*words)
            if name == "append":
                with (out / RECORD).open("ab") as file:
                    file.write(b'{"file": "08", "pic')
            while name == "ask" and work.files.out.joinpath(RECORD).read_bytes().count(b"\n") < 2 * batch:
                pass
            return os.kill(os.getpid(), signal.SIGKILL)

        setattr(owner, name, deadly)
        with work.record:
            list(work.run(sources))
    finally:
        os._exit(1)


class Clip:
    """Stands for a video of bright blocks that wander, which ends with a fault after some frames if told so."""

    frames_of = 9
    fault_after: int | None = None
    fps = 10.0

    def __init__(self, path) -> None:
        self.path = path

    def __len__(self) -> int:
        return self.frames_of

    def frames(self, step=1, start=0):
        for number in range(self.frames_of):
            if self.fault_after is not None and number >= self.fault_after:
                raise UserError(f"{self.path}: cut off after {number} frames", code=3)
            if number >= start and number % step == 0:
                pixels = np.zeros((*SIZE, 3), dtype=np.uint8)
                pixels[2:8, number : number + 6] = 255
                yield number, number / self.fps, Image.fromarray(pixels)


@pytest.fixture
def clip(monkeypatch):
    from langhops_cli.prediction.job import outputs

    monkeypatch.setattr(reading, "Video", Clip)
    monkeypatch.setattr(outputs, "Video", Clip)
    monkeypatch.setattr(Clip, "fault_after", None)
    return Clip


def test_a_video_is_followed_and_goes_on_where_it_was_ended(paths, tmp_path, clip, monkeypatch):
    inputs = [paths[0], "clip.mp4", paths[1]]
    run(inputs, tmp_path / "whole", batch=2)
    whole = found_in(tmp_path / "whole")
    names = [paths[0], *(f"clip.mp4#{number}" for number in range(9)), paths[1]]
    assert list(whole) == names
    assert {found.track for name in names[1:-1] for found in whole[name]} == {0, 1}
    assert [found.seconds for found in whole.values()] == [None, *(number / 10 for number in range(9)), None]
    monkeypatch.setattr(Clip, "fault_after", 4)
    outcomes = run(inputs, tmp_path / "out", batch=2)
    assert [str(outcome.error) for outcome in outcomes if outcome.error] == ["clip.mp4: cut off after 4 frames"]
    assert len(found_in(tmp_path / "out")) == 2 + 4
    monkeypatch.setattr(Clip, "fault_after", None)
    model = Bright()
    run(inputs, tmp_path / "out", model, batch=2)
    assert [name for names in model.batches for name in names] == names[5:-1]
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert "labelme/clip-000003.json" in contents(tmp_path / "out")


def test_every_third_frame(tmp_path, clip):
    run(["clip.mp4"], tmp_path / "out", every=3)
    assert [found.frame for found in found_in(tmp_path / "out").values()] == [0, 3, 6]


def test_files_that_were_not_wanted_before_are_made_of_the_record(paths, tmp_path, clip):
    inputs = [*paths[:3], "clip.mp4", paths[3]]
    run(inputs, tmp_path / "out")
    wanted = contents(tmp_path / "out")
    for path in [*(tmp_path / "out" / OVERLAYS).iterdir(), *(tmp_path / "out" / "labelme").iterdir()]:
        path.unlink()
    work, _ = job(inputs, tmp_path / "out")
    Path(paths[1]).unlink()
    Image.new("RGB", (3, 3)).save(paths[2])
    remarks = work.files.catch_up(work.record.read(), work.files.folders, 1)
    assert [remark.split(" ")[0] for remark in remarks] == [paths[1], paths[2]]
    assert "is not what was predicted any more" in remarks[1]
    lost = {
        f"{folder}/{stem}"
        for folder, end in ((OVERLAYS, "jpg"), ("labelme", "json"))
        for stem in ("01." + end, "02." + end)
    }
    assert contents(tmp_path / "out") == {name: content for name, content in wanted.items() if name not in lost}


def test_the_page_shows_the_first_pictures_and_counts_all(paths, tmp_path, monkeypatch):
    from langhops_cli.prediction.gallery import GalleryWriter

    run(paths, tmp_path / "out")
    monkeypatch.setattr(GalleryWriter.__init__, "__kwdefaults__", {**GalleryWriter.__init__.__kwdefaults__, "most": 3})
    Path(paths[1]).unlink()
    record = Record(tmp_path / "out")
    record.collect()
    read = []
    watch = lambda pictures, total: (read.append(found.picture) or (stem, found) for stem, found in pictures)  # noqa: E731
    remarks = derive(record, tmp_path / "out", VOCABULARY, coco=False, gallery=True, every=1, watch=watch)
    assert [remark.split(" ")[0] for remark in remarks] == [paths[1]]
    assert read == paths[:4]  # no more than are shown
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert page.count('class="summary"') == 3
    assert '{"pictures":17}' in page
    assert not (tmp_path / "out" / "predictions.json").exists()


def test_the_finder_passes_on_what_is_asked(tmp_path):
    """A picture goes through prepare, forward and finish of the predictor with the options of the run."""
    calls = []

    class Predictor:
        def prepare(self, image, *, name):
            calls.append(("prepare", name))
            return name

        def forward(self, prepared, vocabulary, *, level):
            calls.append(("forward", prepared, vocabulary, level))
            return [f"answer of {item}" for item in prepared]

        def finish(self, answer, *, min_score, max_objects):
            calls.append(("finish", answer, min_score, max_objects))
            return Prediction(answer, SIZE)

    class Refiner:
        def refine(self, image, prediction, *, tile):
            return Prediction("refined " + prediction.picture, SIZE)

    finder = Finder(Predictor(), VOCABULARY, min_score=0.2, level="part", max_objects=4, refiner=Refiner())
    image = Image.new("RGB", SIZE[::-1])
    source = Source("clip.mp4", "clip", True)
    shot = reading.Shot(source, "clip.mp4#5", "clip-000005", image, finder.prepare(image, "clip.mp4#5"), 5, 0.5)
    (finish,) = finder.ask([shot])
    assert [call[0] for call in calls] == ["prepare", "forward"]
    assert finish() == Prediction("refined answer of clip.mp4#5", SIZE, (), 5, 0.5)
    assert calls[1:] == [
        ("forward", ["clip.mp4#5"], VOCABULARY, "part"),
        ("finish", "answer of clip.mp4#5", 0.2, 4),
    ]
