"""`langhops predict`: objects and their parts in pictures, as COCO, overlays, a page to look at and a tree."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from langhops_cli.cli.console import Branch, note, print_error, print_json, print_tree, progress
from langhops_cli.errors import DATA, UserError
from langhops_cli.vocabulary import Vocabulary, parse_vocabulary

if TYPE_CHECKING:
    from langhops_cli.prediction.predictor import Predictor
    from langhops_cli.prediction.results import Prediction

RESULTS = "predictions.json"
OVERLAYS = "overlays"
GALLERY = "index.html"


def predict(
    images: Annotated[list[str], Argument(help="Pictures, folders or glob patterns.")],
    vocab: Annotated[list[str], Option(help="Names to look for: 'dog:head,leg*4; car:wheel' or @file.")],
    checkpoint: Annotated[
        Path | None, Option(help="Folder or Hub id of a model; the embedded one if not given.")
    ] = None,
    out: Annotated[Path, Option(help="Folder for predictions.json, index.html and the overlays.")] = Path(
        "predictions"
    ),
    propose: Annotated[bool, Option(help="Look for likely parts too where the names give none at all.")] = True,
    min_score: Annotated[
        float | None, Option(min=0.0, max=1.0, help="Leave out what scores less; the model's own limit when left out.")
    ] = None,
    device: Annotated[str, Option(help="auto, cpu or cuda.")] = "auto",
    overlays: Annotated[bool, Option(help="Draw what was found on a copy of each picture.")] = True,
    gallery: Annotated[bool, Option(help="Write index.html, a page that shows pictures, trees and masks.")] = True,
    as_json: Annotated[bool, Option("--json", help="Print what was found as JSON instead of as a tree.")] = False,
) -> None:
    """Segment objects and their parts.

    A picture that cannot be read is reported and the others are done; the exit code is then 3.

    Example: langhops predict imgs/ --vocab 'cat:head,ear,tail; person:hair,hand'
    """
    vocabulary = parse_vocabulary(vocab)  # a mistake ends here, before torch is loaded
    _check_out(out)
    from langhops_cli.data.pictures import list_pictures

    paths = _without_own_overlays(list_pictures(images), images, out)
    from langhops_cli.prediction.predictor import Predictor

    predictor = Predictor.from_pretrained(checkpoint, device=device)
    if propose and predictor.finds_parts and not vocabulary.part_classes:
        vocabulary = _with_parts(vocabulary, checkpoint)
    for remark in _remarks(predictor, vocabulary):
        note(remark)
    new = not out.exists()
    out.mkdir(parents=True, exist_ok=True)
    try:
        skipped = _predict_all(
            predictor, paths, vocabulary, out, min_score, overlays=overlays, gallery=gallery, as_json=as_json
        )
    finally:
        if new and not any(out.iterdir()):
            out.rmdir()
    done = len(paths) - skipped
    drawn = f", drawn in {out / OVERLAYS}" if overlays else ""
    shown = f"; to look at them, open {out / GALLERY}" if gallery else ""
    note(f"{_count(done, 'picture')} in {out / RESULTS}{drawn}{shown}")
    if skipped:
        raise UserError(f"{skipped} of {_count(len(paths), 'picture')} skipped, the others are done", code=DATA)


def _with_parts(vocabulary: Vocabulary, checkpoint: Path | None) -> Vocabulary:
    """The objects with the parts that they most likely have, which is said."""
    from langhops_cli.hierarchy.build import complete
    from langhops_cli.hierarchy.known import load_known
    from langhops_cli.hierarchy.sources import checkpoint_names

    trees = dict(load_known())
    with suppress(UserError):  # a checkpoint may keep no names
        trees["this model"] = checkpoint_names("embedded" if checkpoint is None else checkpoint)
    completed, proposal = complete(vocabulary, trees=trees)
    for remark in proposal.remarks if proposal is not None else ():
        note(remark)
    if completed.part_classes:
        note(f"no parts were named; looked for are {completed} (--no-propose: objects alone)")
    return completed


def _predict_all(
    predictor: Predictor,
    paths: Sequence[Path],
    vocabulary: Vocabulary,
    out: Path,
    min_score: float | None,
    *,
    overlays: bool,
    gallery: bool,
    as_json: bool,
) -> int:
    """Predict pictures one by one, write and show the results; return how many could not be read.

    Raises:
        UserError: none could be read; nothing is left in `out` then.
    """
    from langhops_cli.checkpoint.files import write_whole
    from langhops_cli.data.pictures import read_picture
    from langhops_cli.prediction.draw import draw_overlay
    from langhops_cli.prediction.export import CocoWriter
    from langhops_cli.prediction.gallery import GalleryWriter

    names = [*vocabulary.object_names, *(part.name for part in vocabulary.part_classes)]
    targets = overlay_paths(paths, out / OVERLAYS)
    results: list[dict[str, Any]] = []
    skipped = 0
    pages = GalleryWriter(out / GALLERY, vocabulary) if gallery else nullcontext()
    with CocoWriter(out / RESULTS, vocabulary) as writer, pages as page:
        for path, target in progress(zip(paths, targets, strict=True), label="predict", total=len(paths)):
            try:
                image = read_picture(path)
            except UserError as error:
                if len(paths) == 1:
                    raise
                skipped += 1
                print_error(skipped_message(str(error), skipped, len(paths)))
                continue
            prediction = predictor.predict(image, vocabulary, min_score=min_score, name=path.as_posix())
            writer.add(prediction)
            if page is not None:
                page.add(image, prediction)
            if overlays:
                drawn = draw_overlay(image, prediction, names=names)
                write_whole(target, lambda beside, drawn=drawn: drawn.save(beside, format="JPEG", quality=92))  # type: ignore[misc]
            if as_json:
                results.append(_as_data(prediction, target if overlays else None))
            else:
                print_tree(_as_branch(prediction))
        if skipped == len(paths):
            raise UserError(f"none of the {skipped} pictures could be read; nothing was written", code=DATA)
    if as_json:
        print_json(results)
    return skipped


def overlay_paths(paths: Sequence[Path], folder: Path) -> list[Path]:
    """Give each picture's overlay a file name of its own that is no input picture.

    Args:
        paths: the pictures; several may have one name.
        folder: where the overlays go.

    Returns:
        `folder/<stem>.jpg`, from the second picture of a name on `folder/<stem>-2.jpg` ...
    """
    inputs = {path.resolve() for path in paths}
    # Some file systems take a.jpg and A.jpg for one file.
    taken: set[str] = set()
    found = []
    for path in paths:
        number = 1
        while True:
            name = f"{path.stem}.jpg" if number == 1 else f"{path.stem}-{number}.jpg"
            if name.casefold() not in taken and (folder / name).resolve() not in inputs:
                break
            number += 1
        taken.add(name.casefold())
        found.append(folder / name)
    return found


def skipped_message(message: str, skipped: int, total: int) -> str:
    """Say in a picture's error that the others go on: "...; skipped (1 of 40). Take it out."."""
    what, found, remedy = message.rpartition("; ")
    if not found:
        return f"{message.rstrip('.')}; skipped ({skipped} of {total})."
    return f"{what}; skipped ({skipped} of {total}). {remedy[:1].upper()}{remedy[1:]}"


def _check_out(out: Path) -> None:
    for path in (out, *out.parents, out / OVERLAYS):
        if path.exists() and not path.is_dir():
            raise UserError(f"{path} is a file; give --out a folder", code=DATA)
    for file in (out / RESULTS, out / GALLERY):
        if file.is_dir():
            raise UserError(f"{file} is a folder; give another --out", code=DATA)


def _without_own_overlays(paths: Sequence[Path], images: Iterable[str], out: Path) -> list[Path]:
    """Leave out overlays of an earlier run that lie in a folder to be searched, unless they are asked for by name."""
    named = {Path(image).resolve() for image in images}
    overlays = (out / OVERLAYS).resolve()
    kept = [path for path in paths if path.resolve() in named or overlays not in path.resolve().parents]
    if overlays in named or any(overlays in path.parents for path in named):
        return list(paths)
    if not kept:
        raise UserError(f"there are only overlays of an earlier run, in {out / OVERLAYS}; give pictures", code=DATA)
    if len(kept) < len(paths):
        note(f"left out {_count(len(paths) - len(kept), 'overlay')} of an earlier run in {out / OVERLAYS}")
    return kept


def _remarks(predictor: Predictor, vocabulary: Vocabulary) -> list[str]:
    """What of the vocabulary this model cannot do."""
    if not vocabulary.part_classes:
        return []
    if not predictor.finds_parts:
        return ["this model was trained on objects only: parts are not looked for"]
    limit = predictor.config.hierarchy.max_queries
    repeats = predictor.config.hierarchy.queries_per_part
    asked = [0] * len(vocabulary.object_names)
    for part in vocabulary.part_classes:
        asked[part.object] += part.count if part.count > 1 else repeats
    return [
        f"{name} has {number:,} parts to look for, this model takes {limit} at a time: the last ones are left out"
        for name, number in zip(vocabulary.object_names, asked, strict=True)
        if number > limit
    ]


def _as_branch(prediction: Prediction) -> Branch:
    def grow(node: dict[str, Any]) -> Branch:
        return Branch(f"{node['name']} {node['score']:.2f}", tuple(map(grow, node["parts"])))

    found = tuple(map(grow, prediction.tree()))
    return Branch(prediction.picture if found else f"{prediction.picture}: nothing found", found)


def _as_data(prediction: Prediction, overlay: Path | None) -> dict[str, Any]:
    height, width = prediction.size
    return {
        "picture": prediction.picture,
        "width": width,
        "height": height,
        "overlay": None if overlay is None else overlay.as_posix(),
        "instances": [
            {
                "name": found.name,
                "level": found.level,
                "score": round(found.score, 4),
                "box": [round(edge, 1) for edge in found.box],
                "area": found.area,
                "parent": found.parent,
            }
            for found in prediction
        ],
    }


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
