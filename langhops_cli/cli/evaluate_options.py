"""What `langhops eval` can be told, and which of it goes together."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from typer import Argument, Option

from langhops_cli.cli.processes import Processes
from langhops_cli.errors import DATA, UserError

DEFAULT_OUT = Path("evaluation")


class Protocol(StrEnum):
    """What is measured."""

    AP = "ap"
    HIOU = "hiou"


class Setting(StrEnum):
    """What the protocol hiou gives the model."""

    ORACLE = "oracle-obj"
    ALL = "pred-all"


class Backend(StrEnum):
    """What compares the masks."""

    PYCOCOTOOLS = "pycocotools"
    HOTCOCO = "hotcoco"


class MaxDets(StrEnum):
    """Results of a name that count in one picture."""

    USUAL = "100"
    MANY = "300"


RunsArgument = Annotated[
    list[Path] | None,
    Argument(
        metavar="RUN",
        help="Folder or Hub id of a model; the embedded one when left out. With --compare folders of evaluations.",
        show_default=False,
    ),
]
DataOption = Annotated[str | None, Option("--data", help="Name of the prepared set.")]
SplitOption = Annotated[str | None, Option("--split", help="Which split of it; val when left out.")]
RootOption = Annotated[
    Path | None, Option("--data-root", help="Folder of the prepared sets; $LANGHOPS_DATA or ./data when left out.")
]
ProtocolOption = Annotated[
    Protocol | None,
    Option(
        "--protocol",
        help="ap: instance AP of masks and boxes, as COCO (when left out); hiou: semantic hIoU, as OV-PARTS.",
    ),
]
SettingOption = Annotated[
    Setting | None,
    Option("--setting", help="hiou: with the true objects given (oracle-obj, when left out), or nothing (pred-all)."),
]
PredictionsOption = Annotated[
    Path | None,
    Option(
        "--predictions", help="Score these results, whatever made them, instead of a model: a file, for hiou a folder."
    ),
]
OutOption = Annotated[
    Path | None,
    Option("--out", help="Folder for what is written; evaluation/DATA-SPLIT or evaluation/comparison when left out."),
]
LimitOption = Annotated[int | None, Option("--limit", min=1, help="A quick look: only the first so many pictures.")]
MaxObjectsOption = Annotated[
    int | None,
    Option(
        "--max-objects",
        min=1,
        help="Objects of a picture that are scored; as published when left out: 20, of PartImageNet 5.",
    ),
]
MaxPartsOption = Annotated[
    int | None,
    Option(
        "--max-parts",
        min=1,
        help="Parts of a picture that are scored; as published when left out: 100, of PartImageNet 95.",
    ),
]
MaxDetsOption = Annotated[
    MaxDets | None, Option("--max-dets", help="ap: results of a name that count in a picture; 100 when left out.")
]
BackendOption = Annotated[
    Backend | None, Option("--backend", help="ap: what compares the masks; pycocotools when left out.")
]
RobustnessOption = Annotated[
    bool, Option("--robustness", help="ap: measure again with the names in other words and among more names.")
]
InitialOption = Annotated[
    Path | None, Option("--initial", help="ap: the checkpoint that RUN started from; how it does on held-out names.")
]
HeldOutOption = Annotated[
    str | None, Option("--held-out", help="Those names, 'bird,dog'; what RUN was not trained on when left out.")
]
UnseenOption = Annotated[
    str | None,
    Option("--unseen", help="hiou: objects that are unseen, 'bird,dog' or a file; the published ones when left out."),
]
BoundaryOption = Annotated[bool, Option("--boundary", help="hiou: boundary IoU too.")]
PerNameOption = Annotated[bool, Option("--per-name", help="Print the figures of every name too.")]
AttentionOption = Annotated[
    bool, Option("--attention", help="ap: how much of the queries' attention falls on their own object.")
]
CompareOption = Annotated[
    bool, Option("--compare", help="Put finished evaluations side by side, with intervals of the differences.")
]
SeedOption = Annotated[
    int | None, Option("--seed", min=0, help="Of the random choices of --robustness and --compare; 0 when left out.")
]
NoHtmlOption = Annotated[bool, Option("--no-html", help="Leave the page report.html out.")]
JsonOption = Annotated[bool, Option("--json", help="Print the report as JSON instead of as tables.")]
DeviceOption = Annotated[str | None, Option("--device", help="auto (when left out), cpu or cuda.")]


@dataclass(frozen=True)
class Wish:
    """What the command line says; None, False or empty for what it does not."""

    runs: tuple[Path, ...] = ()
    data: str | None = None
    split: str | None = None
    data_root: Path | None = None
    protocol: Protocol | None = None
    setting: Setting | None = None
    predictions: Path | None = None
    out: Path | None = None
    limit: int | None = None
    max_objects: int | None = None
    max_parts: int | None = None
    max_dets: MaxDets | None = None
    backend: Backend | None = None
    processes: Processes = field(default_factory=Processes)
    robustness: bool = False
    initial: Path | None = None
    held_out: str | None = None
    unseen: str | None = None
    boundary: bool = False
    per_name: bool = False
    attention: bool = False
    compare: bool = False
    seed: int | None = None
    no_html: bool = False
    as_json: bool = False
    device: str | None = None

    @property
    def run(self) -> Path | None:
        """The model; None for the embedded one."""
        return self.runs[0] if self.runs else None

    @property
    def is_semantic(self) -> bool:
        """Whether the protocol is hiou."""
        return self.protocol is Protocol.HIOU

    @property
    def folder(self) -> Path:
        """Where to write."""
        return self.out or DEFAULT_OUT / ("comparison" if self.compare else f"{self.data}-{self.split or 'val'}")

    def given(self) -> dict[str, Any]:
        """The options that were given, as they are written, with their values; those of `processes` are left out."""
        values = {item.name: getattr(self, item.name) for item in fields(self) if item.name not in _NO_OPTIONS}
        return {
            "--" + ("json" if name == "as_json" else name.replace("_", "-")): value
            for name, value in values.items()
            if value is not None and value is not False
        }

    def arguments(self) -> list[str]:
        """The command line, without the options of `processes`."""
        words = ["eval", *map(str, self.runs)]
        for name, value in self.given().items():
            words += [name] if value is True else [name, str(value)]
        return words


_NO_OPTIONS = ("runs", "processes")
_ALWAYS = {"--data", "--protocol", "--split", "--data-root", "--out", "--limit", "--json", "--no-html", "--per-name"}
_MODEL = {"--device", "--gpus", "--nodes", "--hostfile"}
_AP = {"--max-dets", "--backend"}
_PAIRS = {"--max-objects", "--max-parts", "--robustness", "--initial", "--held-out", "--attention", "--seed"}
_HIOU = {"--setting", "--unseen", "--boundary"}
_COMPARE = {"--compare", "--out", "--json", "--no-html", "--seed"}


def check(wish: Wish) -> None:
    """See that what was asked for goes together, before anything is loaded.

    Raises:
        UserError: it does not, or a file or folder it names cannot be used.
    """
    if wish.compare:
        _refuse(wish, _COMPARE, "--compare, which reads finished evaluations")
        if len(wish.runs) < 2:
            raise UserError("--compare needs two folders of evaluations or more: langhops eval --compare A B")
    else:
        _check_measuring(wish)
    for path in (wish.folder, *wish.folder.parents):
        if path.exists() and not path.is_dir():
            raise UserError(f"{path} is a file; give --out a folder", code=DATA)


def _check_measuring(wish: Wish) -> None:
    if len(wish.runs) > 1:
        raise UserError(
            f"give one model, not {len(wish.runs)}; to put finished evaluations side by side, --compare their folders"
        )
    if wish.data is None:
        raise UserError("give the prepared set to measure on: --data NAME")
    own = _HIOU if wish.is_semantic else _AP
    if wish.predictions is not None:
        if wish.run is not None:
            raise UserError(f"give a model ({wish.run}) or --predictions {wish.predictions}, not both")
        _refuse(wish, _ALWAYS | _AP | _HIOU | {"--predictions"}, "--predictions, which is scored without a model")
        _check_results(wish, wish.predictions)
    more = set() if wish.is_semantic else _PAIRS
    _refuse(wish, _ALWAYS | own | _MODEL | more | {"--predictions"}, f"--protocol {wish.protocol or Protocol.AP}")
    if wish.held_out is not None and wish.initial is None:
        raise UserError("--held-out goes with --initial, the checkpoint that is compared with on these names")
    if wish.seed is not None and not wish.robustness:
        raise UserError("--seed goes with --robustness or --compare; nothing else here is random")


def _check_results(wish: Wish, path: Path) -> None:
    kind = "the folder of the maps" if wish.is_semantic else "a file of COCO results"
    if not path.exists():
        raise UserError(f"{path} does not exist; give --predictions {kind}", code=DATA)
    if path.is_dir() != wish.is_semantic:
        raise UserError(f"{path} is a {'folder' if path.is_dir() else 'file'}; give --predictions {kind}", code=DATA)


def _refuse(wish: Wish, fitting: set[str], what: str) -> None:
    """Refuse the first option that means nothing beside `what`."""
    given = [*wish.given(), *([wish.processes.asked] if wish.processes.asked else [])]
    wrong = next((name for name in given if name not in fitting), None)
    if wrong is not None:
        raise UserError(f"{wrong} does not go with {what}: leave one out")
