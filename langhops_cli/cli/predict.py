"""`langhops predict`: objects and their parts in pictures and videos, one or a hundred thousand of them."""

from __future__ import annotations

from pathlib import Path

from langhops_cli.cli.predict_options import (
    AskOption,
    BatchOption,
    CheckpointOption,
    DeviceOption,
    Dtype,
    DtypeOption,
    EveryOption,
    Format,
    FormatOption,
    GalleryOption,
    ImagesArgument,
    JsonOption,
    LanguageModelOption,
    Level,
    LevelOption,
    MaxObjectsOption,
    MinScoreOption,
    OutOption,
    OverlaysOption,
    OverwriteOption,
    ProposeOption,
    RefineOption,
    TileOption,
    VocabOption,
    Wish,
    WorkersOption,
    check,
)
from langhops_cli.cli.processes import GpusOption, Processes, machine_errors, take_part
from langhops_cli.errors import ENVIRONMENT
from langhops_cli.vocabulary import Vocabulary, parse_vocabulary


def predict(
    images: ImagesArgument,
    vocab: VocabOption,
    checkpoint: CheckpointOption = None,
    out: OutOption = Path("predictions"),
    format_: FormatOption = [Format.COCO],  # noqa: B006 (Typer reads it and changes nothing)
    propose: ProposeOption = True,
    ask: AskOption = None,
    language_model: LanguageModelOption = None,
    min_score: MinScoreOption = None,
    level: LevelOption = Level.ALL,
    max_objects: MaxObjectsOption = None,
    tile: TileOption = None,
    refine: RefineOption = None,
    every: EveryOption = 1,
    device: DeviceOption = "auto",
    dtype: DtypeOption = Dtype.AUTO,
    batch_size: BatchOption = None,
    workers: WorkersOption = None,
    gpus: GpusOption = None,
    overwrite: OverwriteOption = False,
    overlays: OverlaysOption = True,
    gallery: GalleryOption = True,
    as_json: JsonOption = False,
) -> None:
    """Segment objects and their parts.

    A picture that cannot be read is reported and the others are done; the exit code is then 3. The same command again
    goes on where it was ended, whatever ended it: pictures that are done are skipped.

    Example: langhops predict imgs/ --vocab 'cat:head,ear,tail; person:hair,hand'

    Example: find photos -name '*.jpg' -print0 | langhops predict - --vocab @names.yaml --format yolo --out found
    """
    vocabulary = parse_vocabulary(vocab)  # a mistake ends here, before torch is loaded
    wish = Wish(
        images=tuple(images),
        vocab=tuple(vocab),
        checkpoint=checkpoint,
        out=out,
        format=tuple(format_),
        propose=propose,
        ask=ask,
        language_model=language_model,
        min_score=min_score,
        level=level,
        max_objects=max_objects,
        tile=tile,
        refine=refine,
        every=every,
        device=device,
        dtype=dtype,
        batch_size=batch_size,
        workers=workers,
        processes=Processes(gpus),
        overwrite=overwrite,
        overlays=overlays,
        gallery=gallery,
        as_json=as_json,
    )
    check(wish)
    _run(wish, vocabulary)


def _run(wish: Wish, vocabulary: Vocabulary) -> None:
    """Do the work in this process, with others, or have others do it."""
    from langhops_cli.training.children import reporting
    from langhops_cli.training.launch import Work

    again = "the same command goes on where it was ended"
    relief = "lower --batch-size, or ask for fewer processes with --gpus"
    work = Work(relief=relief, again=again, stopped=f"stopped; {again}", code=ENVIRONMENT)
    with reporting():
        if not take_part(wish.processes, wish.arguments(), work, device=wish.device):
            return
        from langhops_cli.cli.predict_steps import predict_all

        memory = "lower --batch-size or --tile; what is done stays, the same command goes on"
        with machine_errors(memory=memory, lost="what it said stands above; the same command goes on"):
            predict_all(wish, vocabulary)
