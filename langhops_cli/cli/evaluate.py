"""`langhops eval`: how good a model, or a file of results, is on a prepared set; and finished evaluations compared."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable
from dataclasses import replace

from langhops_cli.cli.console import note, print_json, progress
from langhops_cli.cli.console import out as terminal
from langhops_cli.cli.evaluate_options import (
    AttentionOption,
    BackendOption,
    BoundaryOption,
    CompareOption,
    DataOption,
    DeviceOption,
    HeldOutOption,
    InitialOption,
    JsonOption,
    LimitOption,
    MaxDetsOption,
    MaxObjectsOption,
    MaxPartsOption,
    NoHtmlOption,
    OutOption,
    PerNameOption,
    PredictionsOption,
    ProtocolOption,
    RobustnessOption,
    RootOption,
    RunsArgument,
    SeedOption,
    SettingOption,
    SplitOption,
    UnseenOption,
    Wish,
    check,
)
from langhops_cli.cli.processes import (
    GpusOption,
    HostfileOption,
    NodesOption,
    Processes,
    machine_errors,
    take_part,
)


def evaluate(
    runs: RunsArgument = None,
    data: DataOption = None,
    split: SplitOption = None,
    data_root: RootOption = None,
    protocol: ProtocolOption = None,
    setting: SettingOption = None,
    predictions: PredictionsOption = None,
    out: OutOption = None,
    limit: LimitOption = None,
    max_objects: MaxObjectsOption = None,
    max_parts: MaxPartsOption = None,
    max_dets: MaxDetsOption = None,
    backend: BackendOption = None,
    gpus: GpusOption = None,
    nodes: NodesOption = None,
    hostfile: HostfileOption = None,
    robustness: RobustnessOption = False,
    initial: InitialOption = None,
    held_out: HeldOutOption = None,
    unseen: UnseenOption = None,
    boundary: BoundaryOption = False,
    per_name: PerNameOption = False,
    attention: AttentionOption = False,
    compare: CompareOption = False,
    seed: SeedOption = None,
    no_html: NoHtmlOption = False,
    as_json: JsonOption = False,
    device: DeviceOption = None,
) -> None:
    """Measure a model, or any system's results, on a prepared set by the field's protocols.

    Writes report.json and report.html, and predictions.json, from which --predictions scores again without a model.

    Example: langhops eval runs/stage2 --data shapes --per-name
    """
    wish = Wish(
        runs=tuple(runs or ()),
        data=data,
        split=split,
        data_root=data_root,
        protocol=protocol,
        setting=setting,
        predictions=predictions,
        out=out,
        limit=limit,
        max_objects=max_objects,
        max_parts=max_parts,
        max_dets=max_dets,
        backend=backend,
        processes=Processes(gpus, nodes, hostfile),
        robustness=robustness,
        initial=initial,
        held_out=held_out,
        unseen=unseen,
        boundary=boundary,
        per_name=per_name,
        attention=attention,
        compare=compare,
        seed=seed,
        no_html=no_html,
        as_json=as_json,
        device=device,
    )
    check(wish)
    command = shlex.join(["langhops", *sys.argv[1:]])
    if wish.compare:
        _compare(wish)
    elif wish.predictions is not None:
        _score_file(wish, command)
    else:
        _run_model(wish, command)


def _run_model(wish: Wish, command: str) -> None:
    """Measure a model in this process, with others, or have others do so."""
    from langhops_cli.evaluation.predictions import remove_shares
    from langhops_cli.training.children import reporting
    from langhops_cli.training.launch import Work

    work = Work(
        relief="ask for fewer processes with --gpus",
        again="run the same command again",
        stopped="stopped before the report was written",
    )
    with reporting():
        measures = False
        try:
            measures = take_part(wish.processes, _arguments(wish), work, device=wish.device)
        finally:
            if not measures and wish.processes.asked is not None:
                remove_shares(wish.folder)
        if measures:
            _measure(wish, command)


def _score_file(wish: Wish, command: str) -> None:
    """Score results without a model."""
    from langhops_cli.cli.evaluate_instances import score_ap
    from langhops_cli.cli.evaluate_semantic import score_semantic
    from langhops_cli.cli.evaluate_steps import Task

    task = Task.of(wish, command)
    (score_semantic if wish.is_semantic else score_ap)(task)


def _measure(wish: Wish, command: str) -> None:
    """Measure a model, together with the other ranks."""
    from langhops_cli.cli.evaluate_instances import measure_ap
    from langhops_cli.cli.evaluate_semantic import measure_semantic
    from langhops_cli.cli.evaluate_steps import Task
    from langhops_cli.evaluation.predictions import Ranks
    from langhops_cli.training.distributed import gather, rank, world_size

    memory = "ask for fewer processes with --gpus, or measure on a larger machine"
    with machine_errors(memory=memory, lost="what it said stands above or in its own output"):
        task = Task.of(wish, command, Ranks(rank(), world_size(), lambda: gather(None)))
        (measure_semantic if wish.is_semantic else measure_ap)(task)


def _arguments(wish: Wish) -> list[str]:
    """The command line of each process; other machines do not know this one's environment."""
    from langhops_cli.data.prepare import prepared_folder

    if wish.processes.hostfile is None:
        return wish.arguments()
    assert wish.data is not None, "checked with the options"
    return replace(wish, data_root=prepared_folder(wish.data_root, wish.data).parent.absolute()).arguments()


def _compare(wish: Wish) -> None:
    """Put finished evaluations side by side."""
    from langhops_cli.evaluation.compare import compare
    from langhops_cli.evaluation.html import write_comparison

    def watch_steps(steps: Iterable[int]) -> Iterable[int]:
        numbers = list(steps)
        return progress(numbers, label="compare", total=len(numbers))

    comparison = compare(wish.runs, seed=wish.seed or 0, watch=watch_steps)
    files = [comparison.save(wish.folder)]
    if not wish.no_html:
        files.append(write_comparison(wish.folder, comparison))
    if wish.as_json:
        print_json(comparison.to_dict())
    else:
        comparison.print(terminal)
    note("written: " + ", ".join(map(str, files)))
