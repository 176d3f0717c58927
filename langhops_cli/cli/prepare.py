"""`langhops prepare`: a dataset on disk becomes a prepared set that training and evaluation read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

from typer import Context, Exit, Option, Typer

from langhops_cli.cli.console import Item, note, out, print_json, progress, say
from langhops_cli.errors import UserError
from langhops_cli.resources import manifests_folder

prepare = Typer(help="Read, check and index a dataset.", rich_markup_mode=None)

Json = Annotated[bool, Option("--json", help="Print the result as JSON.")]
DataRoot = Annotated[Path | None, Option(help="Folder of the prepared sets; $LANGHOPS_DATA or ./data when left out.")]
Describe = Annotated[bool, Option("--describe", help="Only say what this dataset is and what must lie where.")]


@prepare.callback(invoke_without_command=True)
def datasets(
    context: Context,
    list_all: Annotated[bool, Option("--list", help="List the datasets that can be prepared.")] = False,
    as_json: Json = False,
) -> None:
    """Read, check and index a dataset.

    Example: langhops prepare coco-parts --source my_cars --name cars
    """
    if context.invoked_subcommand is not None:
        return
    if not list_all:
        say(context.get_help())
        raise Exit
    manifests = [_manifest(path.stem) for path in sorted(manifests_folder().glob("*.yaml"))]
    if as_json:
        print_json(manifests)
        return
    from rich.table import Table

    table = Table("name", "what it is", "command", box=None, pad_edge=False)
    for manifest in manifests:
        table.add_row(manifest["name"], manifest["summary"], manifest["command"])
    out.print(table)


@prepare.command("coco-parts")
def coco_parts(
    source: Annotated[Path | None, Option(help="Folder of the dataset; it is only read.")] = None,
    name: Annotated[str | None, Option(help="Name of the prepared set; the source's when left out.")] = None,
    data_root: DataRoot = None,
    train: Annotated[Path | None, Option(help="COCO file to train on, where it is at no usual place.")] = None,
    val: Annotated[Path | None, Option(help="COCO file to measure on, where it is at no usual place.")] = None,
    images: Annotated[Path | None, Option(help="Folder that the file names in the COCO files start from.")] = None,
    object_name: Annotated[
        str | None, Option("--object", help="Every category without a known parent is a part of this object.")
    ] = None,
    tree: Annotated[
        str | None, Option(help="Which categories are parts of which object: 'facade:window,shop; car'.")
    ] = None,
    union: Annotated[
        bool, Option("--union", help="Where a picture shows only parts, the object is the union of its parts.")
    ] = False,
    exhaustive: Annotated[
        bool | None,
        Option("--exhaustive/--not-exhaustive", help="Whether all is annotated; else as the file says."),
    ] = None,
    describe: Describe = False,
    as_json: Json = False,
) -> None:
    """Prepare your own COCO annotations of objects and parts.

    Example: langhops prepare coco-parts --source my_cars --name cars --object car --union
    """
    if describe:
        _describe("coco-parts", as_json=as_json)
        return
    if source is None and (train or val) is None:
        raise UserError("say where the dataset lies: --source DIR, or --train FILE and --val FILE")
    from langhops_cli.data.formats.coco_parts import read_coco_parts
    from langhops_cli.data.prepare import prepare as prepare_set
    from langhops_cli.data.prepare import prepared_folder, source_digest
    from langhops_cli.vocabulary import parse_vocabulary

    source = source if source is not None else (train or val or Path()).parent
    folder = prepared_folder(data_root, name if name is not None else source.resolve().name)
    records = read_coco_parts(
        source,
        train=train,
        val=val,
        images=images,
        object_name=object_name,
        tree=parse_vocabulary(tree) if tree is not None else None,
        exhaustive=exhaustive,
    )
    inputs = {"kind": "coco-parts", "source": source_digest(records)}
    report, written = prepare_set(lambda _: records, folder, inputs=inputs, union=union, track=_track)
    _show(report, folder, written=written, as_json=as_json)


@prepare.command("shapes")
def shapes(
    name: Annotated[str, Option(help="Name of the prepared set.")] = "shapes",
    data_root: DataRoot = None,
    train: Annotated[int, Option(min=0, help="Number of pictures to train on.")] = 200,
    val: Annotated[int, Option(min=0, help="Number of pictures to measure on.")] = 50,
    size: Annotated[int, Option(help="Side of the pictures in pixels.")] = 256,
    seed: Annotated[int, Option(min=0, help="Decides every picture.")] = 0,
    describe: Describe = False,
    as_json: Json = False,
) -> None:
    """Draw scenes of objects with parts: a dataset to try everything on.

    Example: langhops prepare shapes --train 200 --val 50 --size 256 --seed 0
    """
    if describe:
        _describe("shapes", as_json=as_json)
        return
    from langhops_cli.data.prepare import prepare as prepare_set
    from langhops_cli.data.prepare import prepared_folder
    from langhops_cli.data.shapes import generate

    folder = prepared_folder(data_root, name)
    options = {"train": train, "val": val, "size": size, "seed": seed}
    report, written = prepare_set(
        lambda partial: generate(partial, **options),
        folder,
        inputs={"kind": "shapes", **options},
        track=_track,
    )
    _show(report, folder, written=written, as_json=as_json)


def _track(items: Iterable[Item], *, label: str, total: int) -> Iterable[Item]:
    return progress(items, label=label, total=total)


def _manifest(name: str) -> dict[str, Any]:
    import yaml

    manifest: dict[str, Any] = yaml.safe_load((manifests_folder() / f"{name}.yaml").read_text(encoding="utf-8"))
    return manifest


def _describe(name: str, *, as_json: bool) -> None:
    manifest = _manifest(name)
    if as_json:
        print_json(manifest)
        return
    say(f"{manifest['name']}: {manifest['summary']}")
    say(f"  command   {manifest['command']}")
    say(f"  source    {manifest['source']}")
    say(f"  licence   {manifest['licence']}")
    for title, lines in (("layout", manifest.get("tree", ())), ("parts", manifest.get("parts", ()))):
        for number, line in enumerate(lines):
            say(f"  {title if number == 0 else '':10}{line}")
    for owner, parts in manifest.get("vocabulary", {}).items():
        say(f"  {owner:10}{', '.join(parts)}")


def _show(report: Mapping[str, Any], folder: Path, *, written: bool, as_json: bool) -> None:
    if as_json:
        print_json({"folder": str(folder), "written": written, **report})
        return
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column(report["name"])
    for split in report["splits"]:
        table.add_column(split, justify="right")
    for title, key in (("pictures", "images"), ("objects", "objects"), ("parts", "parts")):
        table.add_row(title, *(f"{split[key]:,}" for split in report["splits"].values()))
    columns = list(report["splits"].values())
    table.add_row("parts of an object", *(f"{split['parts_per_object']['mean']:.1f}" for split in columns))
    table.add_row("all annotated", *("yes" if split["exhaustive"] else "no" for split in columns))
    rows = {
        "parents found by mask": lambda split: split["parents"]["by_mask"],
        "parts without a parent": lambda split: split["parents"]["unknown"],
        "stated parents that are wrong": lambda split: split["parents"]["stated_but_wrong"],
        "objects made of their parts": lambda split: split["objects_made_of_parts"],
        "crowd regions": lambda split: split["crowd_regions"],
    }
    for title, count in rows.items():
        if any(map(count, columns)):
            table.add_row(title, *(f"{count(split):,}" for split in columns))
    out.print(table)
    _show_remarks(report)
    say(f"names     {report['object_names']} of objects, {report['part_names']} of parts")
    say(f"print     sha256:{report['fingerprint'][:16]}")
    say(f"folder    {folder}" + ("" if written else " was there already, from the same source: nothing to do"))


def _show_remarks(report: Mapping[str, Any]) -> None:
    for split, counts in report["splits"].items():
        for row in counts["dropped"]:
            ids = ", ".join(row["first_ids"]) + (", ..." if row["count"] > len(row["first_ids"]) else "")
            note(f"left out of {split}: {row['count']} x {row['reason']} ({ids})")
    if report["names_merged"]:
        note(f"several categories of one name, taken as one: {', '.join(report['names_merged'])}")
    unused = report["names_without_instances"]
    if unused:
        shown = ", ".join(unused[:10]) + (f" and {len(unused) - 10} more" if len(unused) > 10 else "")
        note(f"names without any annotation, left out: {shown}")
