"""The steps of `langhops predict`: what is to be done, the model, the job, and what is made of its record."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langhops_cli.checkpoint.files import file_hash
from langhops_cli.checkpoint.folder import CONFIG, config_of, read_config
from langhops_cli.checkpoint.hardware import count_cores
from langhops_cli.cli.console import note, print_error, progress
from langhops_cli.cli.predict_options import Format, Level, Wish
from langhops_cli.cli.predict_show import show_json, show_tree, skipped_message, tell_results
from langhops_cli.errors import DATA, UserError
from langhops_cli.prediction.job.folder import GALLERY, RESULTS, RunFolder
from langhops_cli.prediction.job.job import Job, Outcome
from langhops_cli.prediction.job.outputs import OVERLAYS, PictureFiles, derive, draw_video
from langhops_cli.prediction.job.record import Entry, Record
from langhops_cli.prediction.job.sources import Inputs, Source, list_inputs, name_sources
from langhops_cli.prediction.predictor import checkpoint_folder
from langhops_cli.prediction.results import Prediction
from langhops_cli.prediction.video import Video, av_package
from langhops_cli.prediction.wording import count, limits, with_proposed_parts
from langhops_cli.training.distributed import device, gather, is_first, rank, shared, together, world_size
from langhops_cli.vocabulary import Vocabulary

if TYPE_CHECKING:
    from langhops_cli.prediction.job.finder import Finder

GPU_BATCH = 4
"""Pictures that go through a model on a GPU together, unless told otherwise."""
MOST_WORKERS = 8
"""Threads that read, and as many that write, unless told otherwise."""
MANY = 1000
"""Pictures from which on going through the record shows how far it is."""


@dataclass(frozen=True)
class Plan:
    """What is to be done, the same for all processes.

    Args:
        vocabulary: what is looked for.
        sources: all pictures and videos that were asked for.
        done: the record's entries, of earlier runs.
        settings: by which the results come to be, plain values.
    """

    vocabulary: Vocabulary
    sources: list[Source]
    done: dict[str, Entry]
    settings: dict[str, Any]

    @property
    def left(self) -> list[Source]:
        """Sources that are not in the record; a video may be there in part."""
        return [source for source in self.sources if source.video or source.path not in self.done]

    @property
    def frames(self) -> Counter[str]:
        """How many frames of each video are in the record."""
        return Counter(entry.source for entry in self.done.values() if entry.frame is not None)


def predict_all(wish: Wish, vocabulary: Vocabulary) -> None:
    """Predict what was asked for, together with the other ranks.

    Args:
        wish: what the command line says.
        vocabulary: the names that it gives.

    Raises:
        UserError: nothing can be predicted, or some pictures could not be read, which the others do not suffer from.
    """
    with ExitStack() as stack:
        folder = together(lambda: stack.enter_context(_claimed(wish)))
        record = Record(wish.out, rank=rank(), count=world_size())
        plan = shared(together(lambda: _plan(wish, vocabulary, folder, record) if is_first() else None))
        assert plan is not None, "the first rank has made it"
        record.entries = plan.done
        files = PictureFiles(wish.out, plan.vocabulary, overlays=wish.overlays, formats=wish.picture_formats)
        finder = together(lambda: _finder(wish, plan)) if plan.left else None
        together(lambda: _begin(wish, plan, folder, record, files) if is_first() else None)
        try:
            skipped = _predict(wish, plan, record, files, finder) if finder is not None else 0
        finally:
            if world_size() == 1 and not record.path.exists():
                folder.discard()
        skipped = sum(gather(skipped))
        if is_first():
            record.collect()
            if not record.entries:
                folder.discard()
                raise UserError(f"none of {count(skipped, 'picture')} could be read; nothing was written", code=DATA)
            _finish(wish, plan, record, files, skipped)
        gather(None)  # nobody ends before the results are there


@contextmanager
def _claimed(wish: Wish) -> Iterator[RunFolder]:
    """The folder of the results, which the first process keeps from other runs."""
    folder = RunFolder(wish.out)
    if is_first():
        with folder.claimed():
            yield folder
    else:
        yield folder


def _plan(wish: Wish, vocabulary: Vocabulary, folder: RunFolder, record: Record) -> Plan:
    """Find out what there is to do; nothing is changed yet but torn lines of the record."""
    inputs = _inputs(wish, folder)
    if not wish.overwrite:
        record.collect()
    checkpoint = checkpoint_folder(wish.checkpoint)  # once, as each time may ask the Hub
    finds_parts = config_of(checkpoint, read_config(checkpoint)).level == "parts"
    settings = _settings(wish, checkpoint)
    if wish.propose and finds_parts:
        vocabulary = _with_parts(vocabulary, checkpoint)
    if wish.ask is not None:
        vocabulary = _answering(wish, vocabulary, settings, folder if record.entries and not wish.overwrite else None)
    settings["vocabulary"] = vocabulary.to_dict()
    if wish.level is Level.PART and not (vocabulary.part_classes and finds_parts):
        why = "this model was trained on objects only" if vocabulary.part_classes else "the names give none"
        raise UserError(f"--level part: no parts can be found, {why}")
    outputs = [*([OVERLAYS] if wish.overlays else []), *wish.picture_formats]
    folder.check(record, settings, outputs, overwrite=wish.overwrite, inputs=inputs.paths)
    known = {entry.source: _source_stem(entry) for entry in record.entries.values()}
    sources = name_sources(inputs.paths, known=known, out=wish.out)
    if any(source.video for source in sources):
        av_package()  # else each video would be told as one that cannot be read
    return Plan(vocabulary, sources, record.entries, settings)


def _inputs(wish: Wish, folder: RunFolder) -> Inputs:
    own = [wish.out / name for name in folder.folders]
    found = list_inputs(wish.images, listed=sys.stdin.buffer.read, own=own)
    if found.left_out:
        note(f"left out {count(found.left_out, 'file')} that an earlier run has written in {wish.out}")
    return found


def _source_stem(entry: Entry) -> str:
    return entry.stem if entry.frame is None else entry.stem.rpartition("-")[0]


def _settings(wish: Wish, checkpoint: Path) -> dict[str, Any]:
    """Everything that the results depend on, as `run.json` keeps it; the names are added."""
    files = sorted([checkpoint / CONFIG, *checkpoint.glob("*.safetensors")])
    return {
        "checkpoint": {path.name: file_hash(path) for path in files},
        "ask": None if wish.ask is None else {"question": wish.ask, "language_model": wish.language_model},
        "min_score": wish.min_score,
        "level": str(wish.level),
        "max_objects": wish.max_objects,
        "tile": wish.tile,
        "refine": wish.refine,
        "every": wish.every,
        "dtype": str(wish.dtype),
    }


def _with_parts(vocabulary: Vocabulary, checkpoint: Path) -> Vocabulary:
    """The names with likely parts, where they give none at all; it is said which."""
    completed, remarks = with_proposed_parts(vocabulary, checkpoint)
    for remark in remarks[:-1]:
        note(remark)
    if remarks:
        note(remarks[-1] + " (--no-propose: objects alone)" * bool(completed.part_classes))
    return completed


def _answering(
    wish: Wish, vocabulary: Vocabulary, settings: Mapping[str, Any], earlier: RunFolder | None
) -> Vocabulary:
    """Of the names those that answer the question; what an earlier run has chosen stays."""
    assert wish.ask is not None, "there is a question"
    settings["ask"]["vocabulary"] = vocabulary.to_dict()
    if earlier is not None and earlier.settings.get("ask") == settings["ask"]:
        chosen = Vocabulary.from_dict(earlier.settings["vocabulary"])
        note(f"looked for are {chosen}, as an earlier run chose")
        return chosen
    from langhops_cli.hierarchy.ask import ask

    answer = ask(wish.ask, vocabulary, wish.language_model)
    for remark in answer.remarks:
        note(remark)
    return answer.vocabulary


def _finder(wish: Wish, plan: Plan) -> Finder:
    """Load the model, and the one that makes masks finer; every rank to its own device."""
    from langhops_cli.prediction.job.finder import Finder
    from langhops_cli.prediction.predictor import Predictor

    place = str(device()) if world_size() > 1 else wish.device
    predictor = Predictor.from_pretrained(wish.checkpoint, device=place, dtype=wish.dtype.value)
    refiner = None
    if wish.refine is not None:
        from langhops_cli.prediction.refine import Refiner

        refiner = Refiner.from_pretrained(wish.refine, device=str(predictor.device), dtype=wish.dtype.value)
    if is_first():
        for remark in limits(predictor, plan.vocabulary):
            note(remark)
    return Finder(
        predictor,
        plan.vocabulary,
        min_score=wish.min_score,
        level=wish.level.value,
        max_objects=wish.max_objects,
        tile=wish.tile,
        batch=wish.batch_size or (GPU_BATCH if predictor.device.type == "cuda" else 1),
        refiner=refiner,
    )


def _begin(wish: Wish, plan: Plan, folder: RunFolder, record: Record, files: PictureFiles) -> None:
    """Make the folder ready: anew, or with what earlier pictures lack of what is wanted now."""
    folder.sweep()
    if wish.overwrite:
        folder.clear(record)
    if plan.done and (lacking := folder.lacking(files.folders)):
        for video in (wish.out / OVERLAYS).glob("*.mp4") if OVERLAYS in lacking else ():
            video.unlink()  # it may lack frames, and is drawn again
        for remark in files.catch_up(_watched(record.read(), len(plan.done), "earlier"), lacking, wish.every):
            note(remark)
    folder.save(plan.settings, files.folders)


def _predict(wish: Wish, plan: Plan, record: Record, files: PictureFiles, finder: Finder) -> int:
    """Predict this rank's share; return how many pictures and videos could not be read."""
    share = plan.left[rank() :: world_size()]
    on_gpu = finder.predictor.device.type == "cuda"
    workers = wish.workers or (min(MOST_WORKERS, max(1, count_cores() // world_size())) if on_gpu else 1)
    job = Job(finder, record, files, batch=finder.batch, workers=workers, every=wish.every)
    skipped = 0
    done = bool(plan.done)
    with record, closing(job.run(share)) as outcomes:
        try:
            for outcome in _progress(outcomes, _expected(plan, share, wish.every)):
                if outcome.prediction is not None:
                    done = True
                    if not wish.as_json and world_size() == 1:
                        show_tree(outcome.prediction)
                elif outcome.error is not None:
                    skipped += 1
                    _tell_skipped(outcome, skipped, plan, done=done)
        except KeyboardInterrupt:
            if is_first():
                note("what is done stays; the same command goes on")
            raise
    return skipped


def _progress(outcomes: Iterable[Outcome], total: int) -> Iterable[Outcome]:
    return progress(outcomes, label="predict", total=total) if is_first() else outcomes


def _tell_skipped(outcome: Outcome, skipped: int, plan: Plan, *, done: bool) -> None:
    assert outcome.error is not None
    message = str(outcome.error)
    if len(plan.sources) == 1 and not done:
        raise outcome.error
    if outcome.source.video:  # what could be read of it is done
        print_error(message)
    else:
        print_error(skipped_message(message, skipped, len(plan.sources)))


def _expected(plan: Plan, share: Sequence[Source], every: int) -> int:
    """About how many pictures and frames there are to come."""
    frames = 0
    for source in share:
        if source.video:
            try:
                frames += max(0, len(Video(source.path)) // every - plan.frames[source.path])
            except UserError:  # told when it is its turn
                continue
    return max(1, sum(not source.video for source in share) + frames)


def _finish(wish: Wish, plan: Plan, record: Record, files: PictureFiles, skipped: int) -> None:
    """Make of the record what is made of all pictures, and say what there is.

    Raises:
        UserError: pictures could not be read.
    """
    places = {source.path: place for place, source in enumerate(plan.sources)}
    record.arrange(
        lambda picture, entry: (places[entry.source], entry.frame or 0) if entry.source in places else (-1, 0)
    )
    if 0 < len(plan.done) < len(record.entries):  # what an earlier run made of fewer pictures
        for name, wanted in ((RESULTS, Format.COCO in wish.format), (GALLERY, wish.gallery)):
            if not wanted:
                (wish.out / name).unlink(missing_ok=True)
    remarks = derive(
        record,
        wish.out,
        plan.vocabulary,
        coco=Format.COCO in wish.format,
        gallery=wish.gallery,
        every=wish.every,
        watch=lambda pictures, total: _watched(pictures, total, "write"),
    )
    files.finish()
    if wish.overlays:
        remarks += _draw_videos(wish, plan, record, files)
    for remark in remarks:
        note(remark)
    asked = [picture for picture, entry in record.entries.items() if entry.source in places]
    if wish.as_json:
        show_json(record.read(asked), wish.out / OVERLAYS if wish.overlays else None)
    elif world_size() > 1 or not plan.left:
        for _, prediction in record.read(asked):
            show_tree(prediction)
    tell_results(wish, pictures=len(record.entries), before=len(plan.done))
    if skipped:
        what = f"{count(len(plan.sources), 'picture')} skipped"
        if any(source.video for source in plan.sources):
            what = f"{len(plan.sources):,} pictures and videos not read to the end"
        raise UserError(f"{skipped} of {what}, the others are done", code=DATA)


def _draw_videos(wish: Wish, plan: Plan, record: Record, files: PictureFiles) -> list[str]:
    """Draw on videos of which frames are new, or which were not drawn on yet; what could not be done."""
    remarks = []
    frames = Counter(entry.source for entry in record.entries.values() if entry.frame is not None)
    for source in plan.sources:
        target = wish.out / OVERLAYS / f"{source.stem}.mp4"
        if frames[source.path] and (frames[source.path] != plan.frames[source.path] or not target.exists()):
            try:
                draw_video(record, source, target, files.names, every=wish.every)
            except UserError as error:
                remarks.append(str(error))
    return remarks


def _watched(pictures: Iterable[tuple[str, Prediction]], total: int, label: str) -> Iterable[tuple[str, Prediction]]:
    return progress(pictures, label=label, total=total) if total >= MANY else pictures
