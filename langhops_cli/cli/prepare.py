"""`langhops prepare`: a dataset on disk becomes a prepared set that training and evaluation read."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Context, Exit, Option, Typer
from typer.core import TyperGroup
from typer.main import get_command

from langhops_cli.cli.console import note, out, print_json, progress, say
from langhops_cli.errors import UserError

if TYPE_CHECKING:
    from langhops_cli.data.manifests import Manifest

OPTIONS: dict[str, tuple[Any, Any]] = {
    "source": (Annotated[Path | None, Option(help="Folder of the dataset; it is only read.")], None),
    "name": (
        Annotated[
            str | None, Option(help="Name of the prepared set; that of the dataset or of its folder when left out.")
        ],
        None,
    ),
    "data_root": (
        Annotated[Path | None, Option(help="Folder of the prepared sets; $LANGHOPS_DATA or ./data when left out.")],
        None,
    ),
    "images": (Annotated[Path | None, Option(help="Folder that the pictures' file names start from.")], None),
    "object_name": (
        Annotated[str | None, Option("--object", help="Every name without a known parent is a part of this object.")],
        None,
    ),
    "tree": (
        Annotated[str | None, Option(help="Which names are parts of which object: 'facade:window,shop; car'.")],
        None,
    ),
    "union": (
        Annotated[
            bool, Option("--union", help="Where a picture shows only parts, the object is the union of its parts.")
        ],
        False,
    ),
    "exhaustive": (
        Annotated[
            bool | None,
            Option("--exhaustive/--not-exhaustive", help="Whether all is annotated; else as the source says."),
        ],
        None,
    ),
    "all_names": (
        Annotated[bool, Option("--all-names", help="Keep every object and part, not only those of the benchmark.")],
        False,
    ),
    "zero_shot": (
        Annotated[
            bool,
            Option("--zero-shot/--all-classes", help="Keep the names that are held out of training out of it, or not."),
        ],
        True,
    ),
    "data": (Annotated[Path | None, Option(help="The data.yaml, where it is not in the source folder.")], None),
    "year": (Annotated[int | None, Option(help="Edition, where the folder holds several: 2012.")], None),
    "train": (Annotated[Path | None, Option(help="File to train on, where it is at no usual place.")], None),
    "val": (Annotated[Path | None, Option(help="File to measure on, where it is at no usual place.")], None),
    "boxes": (Annotated[bool, Option("--boxes", help="Also read the pictures that have boxes only.")], False),
    "val_share": (
        Annotated[float, Option(min=0.0, max=0.9, help="Share of the pictures that is held out where none is.")],
        0.1,
    ),
    "size": (Annotated[int, Option(help="Side of the pictures in pixels.")], 256),
    "seed": (Annotated[int, Option(min=0, help="Decides every picture.")], 0),
    "novel": (Annotated[int, Option(min=0, help="Number of pictures of kinds that are held out.")], 0),
    "kinds": (Annotated[str, Option(help="Draw these kinds only, with commas between; all when left out.")], ""),
    "objects": (Annotated[int, Option(min=1, max=6, help="Objects that a picture shows at most.")], 6),
    "strict": (Annotated[bool, Option("--strict", help="Refuse to leave anything out: exit code 3.")], False),
    "workers": (
        Annotated[int | None, Option(min=1, help="Processes that read pictures; the number of cores when left out.")],
        None,
    ),
    "download": (Annotated[bool, Option("--download", help="First fetch what can be had without a form.")], False),
    "describe": (
        Annotated[bool, Option("--describe", help="Only say what this dataset is, and what is in the prepared set.")],
        False,
    ),
    "draw": (Annotated[int, Option(min=0, help="Draw so many pictures with their masks on a sheet.")], 0),
    "to_parquet": (
        Annotated[Path | None, Option(help="Also write the set, pictures and all, as Parquet shards to this folder.")],
        None,
    ),
    "as_json": (Annotated[bool, Option("--json", help="Print the result as JSON.")], False),
}
"""Every option of every dataset: its type with its help, and its default."""
SPECIAL: dict[str, dict[str, tuple[Any, Any]]] = {
    "shapes": {
        "train": (Annotated[int, Option(min=0, help="Number of pictures to train on.")], 200),
        "val": (Annotated[int, Option(min=0, help="Number of pictures to measure on.")], 50),
    },
    "labelme-parts": {
        "boxes": (Annotated[bool, Option("--boxes", help="Rectangles are boxes around things, not masks.")], False),
    },
}
"""Options that mean something else for one dataset."""


class LazyCommands(MutableMapping[str, Any]):
    """The commands by dataset, each made when it is asked for, as making it reads the dataset's manifest."""

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        from langhops_cli.data.registry import READERS

        if name not in self._made:
            if name not in READERS:
                raise KeyError(name)
            self._made[name] = _command(name)
        return self._made[name]

    def __setitem__(self, name: str, command: Any) -> None:
        self._made[name] = command

    def __delitem__(self, name: str) -> None:
        del self._made[name]

    def __iter__(self) -> Iterator[str]:
        from langhops_cli.data.registry import READERS

        return iter(READERS)

    def __len__(self) -> int:
        return sum(1 for _ in self)


class Datasets(TyperGroup):
    """One command for each dataset."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{**settings, "commands": LazyCommands()})


prepare = Typer(cls=Datasets, help="Read, check and index a dataset.", rich_markup_mode=None)


@prepare.callback(invoke_without_command=True)
def datasets(
    context: Context,
    list_all: Annotated[bool, Option("--list", help="List the datasets that can be prepared.")] = False,
    as_json: Annotated[bool, Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Read, check and index a dataset.

    Example: langhops prepare coco-parts --source my_cars --name cars
    """
    if context.invoked_subcommand is not None:
        return
    if not list_all:
        say(context.get_help())
        raise Exit
    from langhops_cli.data.manifests import load_manifest
    from langhops_cli.data.registry import READERS

    manifests = [load_manifest(name) for name in READERS]
    if as_json:
        print_json([manifest.model_dump(exclude_none=True) for manifest in manifests])
        return
    from rich.table import Table

    table = Table("name", "what it is", "to have it", box=None, pad_edge=False)
    for manifest in manifests:
        table.add_row(manifest.name, manifest.summary, manifest.how_to_have)
    out.print(table)


def _command(name: str) -> Any:
    """Make the command of a dataset: the options that it knows, with the manifest's words as help."""
    from langhops_cli.data.manifests import load_manifest
    from langhops_cli.data.registry import READERS

    reader, manifest = READERS[name], load_manifest(name)
    known = OPTIONS | SPECIAL.get(name, {})
    front = () if reader.generated else ("source",)
    own = (*(("images",) if reader.images else ()), *reader.options, *(("union",) if reader.union else ()))
    back = (
        "strict",
        "workers",
        *(("download",) if manifest.files else ()),
        "describe",
        "draw",
        "to_parquet",
        "as_json",
    )

    def run(**values: Any) -> None:
        run_prepare(name, values)

    chosen = {key: known[key] for key in (*front, "name", "data_root", *own, *back)}
    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [
        inspect.Parameter(key, keyword, default=value[1], annotation=value[0]) for key, value in chosen.items()
    ]
    vars(run)["__signature__"] = inspect.Signature(parameters)
    run.__annotations__ = {key: value[0] for key, value in chosen.items()}
    run.__doc__ = f"{manifest.summary}\n\nExample: {manifest.command}"
    single = Typer(add_completion=False, rich_markup_mode=None)
    single.command(name)(run)
    return get_command(single)


def run_prepare(name: str, values: dict[str, Any]) -> None:
    """Prepare a dataset as the command line asks for it.

    Args:
        name: of the dataset.
        values: option -> value; those that its command does not offer are absent.

    Raises:
        UserError: what is asked for cannot be done; the message says what to do.
    """
    from langhops_cli.cli.prepare_show import show_description, show_report
    from langhops_cli.data.manifests import load_manifest
    from langhops_cli.data.prepare import prepare as prepare_set
    from langhops_cli.data.prepare import prepared_folder, state_of
    from langhops_cli.data.registry import READERS

    reader, manifest = READERS[name], load_manifest(name)
    source = _source(values)
    named_after = source.resolve().name if manifest.kind == "own" and source is not None else name
    folder = prepared_folder(values["data_root"], values["name"] or named_after)
    if values["describe"]:
        show_description(manifest, folder, as_json=values["as_json"])
        return
    if values.get("download"):
        source = source if source is not None else folder.parent / "downloads" / name
        _download(manifest, source)
    if source is None and not reader.generated:
        raise UserError(f"say where {manifest.title} lies: --source DIR; 'langhops prepare {name} --describe' says how")
    options = {key: values[key] for key in reader.options}
    images = {"images": values["images"]} if reader.images else {}
    files = [value for value in (*options.values(), *images.values()) if isinstance(value, Path)]
    plain = {key: value for key, value in options.items() if not isinstance(value, Path)}
    inputs = {"kind": name, **plain} | ({} if reader.generated else {"source": state_of(source, *files)})

    def open_source(partial: Path) -> Any:
        read = reader.load()
        with _explained(manifest, source):
            return read(partial if reader.generated else source, **_parsed(options), **images)

    report, written = prepare_set(
        open_source,
        folder,
        inputs=inputs,
        union=values.get("union", False),
        strict=values["strict"],
        workers=values["workers"],
        track=progress,
    )
    show_report(report, folder, written=written, as_json=values["as_json"])
    if values["draw"]:
        _draw(folder, next(iter(report["splits"])), values["draw"])
    if values["to_parquet"] is not None:
        _to_parquet(folder, values["to_parquet"])


def _source(values: dict[str, Any]) -> Path | None:
    """The folder of the dataset; that of its annotation file where only this was named."""
    source: Path | None = values.get("source")
    named = [values[key] for key in ("train", "val") if isinstance(values.get(key), Path)]
    return source if source is not None or not named else named[0].parent


def _parsed(options: dict[str, Any]) -> dict[str, Any]:
    """Options as a reader takes them."""
    from langhops_cli.vocabulary import parse_vocabulary

    tree = options.get("tree")
    return {**options, "tree": parse_vocabulary(tree)} if tree is not None else options


@contextmanager
def _explained(manifest: Manifest, source: Path | None) -> Iterator[None]:
    """Where a source cannot be opened, say what is missing from it before the error."""
    try:
        yield
    except UserError:
        from langhops_cli.data.fetching.layout import instructions

        if source is not None and (text := instructions(manifest, source)):
            note(text)
        raise


def _download(manifest: Manifest, folder: Path) -> None:
    from langhops_cli.cli.console import byte_progress
    from langhops_cli.data.fetching.fetch import fetch

    with byte_progress() as track:
        report = fetch(manifest, folder, track=track)
    for line in report.lines():
        note(line)


def _draw(folder: Path, split: str, number: int) -> None:
    from langhops_cli.data.index import PreparedDataset
    from langhops_cli.prediction.sheet import draw_samples

    dataset = PreparedDataset(folder, split)
    number = min(number, len(dataset))
    chosen = [place * len(dataset) // number for place in range(number)]
    path = folder / f"{split}.png"
    draw_samples([dataset[place] for place in chosen]).save(path)
    say(f"sheet     {path}: {number} of {len(dataset)} pictures of {split}")


def _to_parquet(folder: Path, out_folder: Path) -> None:
    from langhops_cli.data.shards import write_shards

    report, written = write_shards(folder, out_folder, track=progress)
    files = sum(len(split["files"]) for split in report["splits"].values())
    say(f"shards    {out_folder}: {files} files" + ("" if written else ", there already: nothing to do"))
