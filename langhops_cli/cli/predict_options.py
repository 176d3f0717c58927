"""What `langhops predict` can be told, and which of it goes together."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from langhops_cli.cli.processes import Processes
from langhops_cli.errors import DATA, UserError

LEAST_TILE = 64
"""Pixels that the side of a window has at least, as `prediction.tiles` has it."""


class Format(StrEnum):
    """In which form the results are written."""

    COCO = "coco"
    JSONL = "jsonl"
    LABELME = "labelme"
    YOLO = "yolo"
    MASKS = "masks"
    GEOJSON = "geojson"


class Level(StrEnum):
    """What is wanted of the hierarchy."""

    ALL = "all"
    OBJECT = "object"
    PART = "part"


class Dtype(StrEnum):
    """Numbers that the model computes with."""

    AUTO = "auto"
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


ImagesArgument = Annotated[
    list[str], Argument(help="Pictures, videos, folders or glob patterns; - for a list of paths on standard input.")
]
VocabOption = Annotated[list[str], Option(help="Names to look for: 'dog:head,leg*4; car:wheel' or @file.")]
CheckpointOption = Annotated[
    Path | None, Option(help="Folder or Hub id of a model; the embedded one when left out.", show_default=False)
]
OutOption = Annotated[
    Path, Option(help="Folder for the record predictions.jsonl, the formats, the overlays and index.html.")
]
FormatOption = Annotated[
    list[Format],
    Option("--format", help="coco (predictions.json), jsonl (the record alone), or files of each picture; repeatable."),
]
ProposeOption = Annotated[bool, Option(help="Look for likely parts too where the names give none at all.")]
AskOption = Annotated[
    str | None, Option(help="Look only for what answers a question: 'what can I hold it by?'; it is said what that is.")
]
LanguageModelOption = Annotated[
    str | None, Option(help="A causal language model that helps --ask to choose: folder, GGUF file or Hub id.")
]
MinScoreOption = Annotated[
    float | None, Option(min=0.0, max=1.0, help="Leave out what scores less; the model's own limit when left out.")
]
LevelOption = Annotated[
    Level,
    Option(help="all; object: no parts, which is faster; part: no objects but those that a part was found of."),
]
MaxObjectsOption = Annotated[int | None, Option(min=1, help="Keep only the best so many objects of a picture.")]
TileOption = Annotated[
    int | None,
    Option(min=LEAST_TILE, help="Look at large pictures in windows of so many pixels too, for small things."),
]
RefineOption = Annotated[
    str | None, Option(metavar="MODEL", help="Make the masks finer with a SAM of transformers: folder or Hub id.")
]
EveryOption = Annotated[int, Option(min=1, help="Of a video take each so-manieth frame.")]
DeviceOption = Annotated[str, Option(help="auto, cpu or cuda.")]
DtypeOption = Annotated[Dtype, Option(help="Numbers to compute with; auto is bfloat16 on GPUs that have it.")]
BatchOption = Annotated[
    int | None,
    Option("--batch-size", min=1, help="Pictures that go through the model together; 1 on a CPU, 4 on a GPU."),
]
WorkersOption = Annotated[
    int | None, Option(min=1, help="Threads that read ahead, and as many that write; as the cores allow when left out.")
]
OverwriteOption = Annotated[bool, Option("--overwrite", help="Take away what earlier runs have made in --out.")]
OverlaysOption = Annotated[bool, Option(help="Draw what was found on a copy of each picture.")]
GalleryOption = Annotated[bool, Option(help="Write index.html, a page that shows pictures, trees and masks.")]
JsonOption = Annotated[bool, Option("--json", help="Print what was found as JSON instead of as trees.")]


@dataclass(frozen=True)
class Wish:
    """What the command line says."""

    images: tuple[str, ...]
    vocab: tuple[str, ...]
    checkpoint: Path | None = None
    out: Path = Path("predictions")
    format: tuple[Format, ...] = (Format.COCO,)
    propose: bool = True
    ask: str | None = None
    language_model: str | None = None
    min_score: float | None = None
    level: Level = Level.ALL
    max_objects: int | None = None
    tile: int | None = None
    refine: str | None = None
    every: int = 1
    device: str = "auto"
    dtype: Dtype = Dtype.AUTO
    batch_size: int | None = None
    workers: int | None = None
    processes: Processes = field(default_factory=Processes)
    overwrite: bool = False
    overlays: bool = True
    gallery: bool = True
    as_json: bool = False

    @property
    def picture_formats(self) -> list[str]:
        """The formats with files of each picture."""
        return [str(name) for name in dict.fromkeys(self.format) if name not in (Format.COCO, Format.JSONL)]

    def arguments(self) -> list[str]:
        """The command line, without the options of `processes`."""
        words = ["predict", *self.images]
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name in ("images", "processes") or value in (item.default, None):
                continue
            option = "json" if item.name == "as_json" else item.name.replace("_", "-")
            if isinstance(value, bool):
                words.append(f"--{option}" if value else f"--no-{option}")
            else:
                for each in value if isinstance(value, tuple) else (value,):
                    words += [f"--{option}", str(each)]
        return words


def check(wish: Wish) -> None:
    """See that what was asked for goes together, before anything is loaded.

    Raises:
        UserError: it does not, or the folder for the results cannot be used.
    """
    if wish.language_model is not None and wish.ask is None:
        raise UserError("--language-model goes with --ask, the question that it helps to answer")
    if wish.ask is not None and not wish.ask.strip():
        raise UserError("--ask is empty; ask for something, such as 'what can I hold it by?'")
    for path in (wish.out, *wish.out.parents):
        if path.exists() and not path.is_dir():
            raise UserError(f"{path} is a file; give --out a folder", code=DATA)
