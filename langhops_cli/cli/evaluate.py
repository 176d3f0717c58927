"""`langhops eval`: how good a model, or a file of results, is on a prepared set."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from langhops_cli.cli.console import note, out, print_json, progress
from langhops_cli.errors import DATA, UserError

if TYPE_CHECKING:
    from langhops_cli.data.index import PreparedDataset
    from langhops_cli.evaluation.attention import AttentionReport
    from langhops_cli.evaluation.report import Report

DEFAULT_OUT = Path("evaluation")


def evaluate(
    data: Annotated[str, Option(help="Name of the prepared set.")],
    run: Annotated[
        Path | None, Argument(metavar="RUN", help="Folder or Hub id of a model; the embedded one when left out.")
    ] = None,
    split: Annotated[str, Option(help="Which split of it.")] = "val",
    data_root: Annotated[
        Path | None, Option(help="Folder of the prepared sets; $LANGHOPS_DATA or ./data when left out.")
    ] = None,
    predictions: Annotated[
        Path | None, Option(help="Score this file of COCO results, whatever made it, instead of a model.")
    ] = None,
    folder: Annotated[
        Path | None, Option("--out", help="Folder for the report; evaluation/DATA-SPLIT when left out.")
    ] = None,
    limit: Annotated[int | None, Option(min=1, help="A quick look: only the first so many pictures.")] = None,
    max_objects: Annotated[int, Option(min=1, help="Objects of a picture that are scored.")] = 20,
    max_parts: Annotated[int, Option(min=1, help="Parts of a picture that are scored.")] = 100,
    per_name: Annotated[bool, Option("--per-name", help="Print the figures of every name too.")] = False,
    attention: Annotated[
        bool, Option("--attention", help="Measure too how much of the queries' attention falls on their own object.")
    ] = False,
    as_json: Annotated[bool, Option("--json", help="Print the report as JSON instead of as a table.")] = False,
    device: Annotated[str, Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Measure mask and box AP of objects, parts and both, as COCO does.

    Writes report.json, and predictions.json, from which --predictions scores again without a model; with --attention
    also attention.json.

    Example: langhops eval runs/stage2 --data shapes --per-name
    """
    if predictions is not None and run is not None:
        raise UserError(f"give a model ({run}) or --predictions {predictions}, not both")
    if predictions is not None and attention:
        raise UserError(f"--attention looks into a model, and --predictions {predictions} goes without: leave one out")
    folder = folder or DEFAULT_OUT / f"{data}-{split}"
    _check_out(folder)
    if predictions is not None and not predictions.is_file():
        raise UserError(f"{predictions} does not exist; give --predictions a file of COCO results", code=DATA)
    from langhops_cli.data.index import PreparedDataset
    from langhops_cli.data.prepare import prepared_folder

    dataset = PreparedDataset(prepared_folder(data_root, data), split)
    pictures = range(min(limit or len(dataset), len(dataset)))
    looked = None
    if predictions is not None:
        from langhops_cli.evaluation.runner import evaluate_file

        report = evaluate_file(predictions, dataset, pictures=pictures, command=_command())
    else:
        report, looked = _run_model(
            run,
            dataset,
            pictures,
            device=device,
            max_objects=max_objects,
            max_parts=max_parts,
            attention=attention,
        )
    written = report.save(folder, with_predictions=predictions is None)
    if looked is not None:
        written.append(looked.save(folder))
    if as_json:
        print_json(report.to_dict() | ({} if looked is None else {"attention": looked.to_dict()}))
    else:
        report.print(out, per_name=per_name)
        if looked is not None:
            out.print(looked.line(), markup=False, soft_wrap=True)
    note("written: " + ", ".join(map(str, written)))


def _run_model(
    run: Path | None,
    dataset: PreparedDataset,
    pictures: Sequence[int],
    *,
    device: str,
    max_objects: int,
    max_parts: int,
    attention: bool,
) -> tuple[Report, AttentionReport | None]:
    from langhops_cli.evaluation.runner import evaluate_model
    from langhops_cli.prediction.predictor import Predictor

    predictor = Predictor.from_pretrained(run, device=device)
    if dataset.vocabulary.part_classes and not predictor.finds_parts:
        note("this model was trained on objects only: parts are not looked for and count as missed")
    name = "embedded" if run is None else str(run)
    report = evaluate_model(
        predictor.model,
        dataset,
        config=predictor.config,
        pictures=pictures,
        max_objects=max_objects,
        max_parts=max_parts,
        model_name=name,
        command=_command(),
        watch=partial(_watch, label="eval"),
    )
    if not attention:
        return report, None
    from langhops_cli.evaluation.attention import measure_attention

    looked = measure_attention(
        predictor.model,
        dataset,
        config=predictor.config,
        pictures=pictures,
        model_name=name,
        command=_command(),
        watch=partial(_watch, label="attention"),
    )
    return report, looked


def _watch(places: Iterable[int], total: int, *, label: str) -> Iterable[int]:
    return progress(places, label=label, total=total)


def _command() -> str:
    return shlex.join(["langhops", *sys.argv[1:]])


def _check_out(folder: Path) -> None:
    for path in (folder, *folder.parents):
        if path.exists() and not path.is_dir():
            raise UserError(f"{path} is a file; give --out a folder", code=DATA)
