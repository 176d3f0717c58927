"""How `langhops prepare` shows what it did, what a dataset is and what is in a prepared set."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langhops_cli.cli.console import note, out, print_json, say

if TYPE_CHECKING:
    from langhops_cli.data.manifests import Manifest

BAR = 32
"""Characters of the longest bar of a histogram."""
MOST_NAMES = 40
"""Names that a description lists before it says how many more there are."""


def show_report(report: Mapping[str, Any], folder: Path, *, written: bool, as_json: bool) -> None:
    """Print what was prepared and what was left out of it."""
    if as_json:
        print_json({"folder": str(folder), "written": written, **report})
        return
    _show_counts(report)
    _show_remarks(report)
    say(f"names     {report['object_names']} of objects, {report['part_names']} of parts")
    say(f"print     sha256:{report['fingerprint'][:16]}")
    say(f"folder    {folder}" + ("" if written else " was there already, from the same source: nothing to do"))


def show_description(manifest: Manifest, folder: Path, *, as_json: bool) -> None:
    """Print what a dataset is, and what is in the prepared set where there is one."""
    from langhops_cli.data.prepare import read_report

    report = read_report(folder)
    if as_json:
        print_json({"manifest": manifest.model_dump(exclude_none=True), "prepared": report})
        return
    say(f"{manifest.name}: {manifest.summary}")
    facts = {"title": manifest.title, "command": manifest.command, "source": manifest.source, "form": manifest.form}
    for name, value in (facts | {"licence": manifest.licence, "cite": manifest.citation}).items():
        if value:
            say(f"  {name:10}{value}")
    for title, lines in (("layout", manifest.tree), ("notes", manifest.notes)):
        for number, line in enumerate(lines):
            say(f"  {title if number == 0 else '':10}{line}")
    _show_vocabulary(manifest.vocabulary)
    if report is None:
        say(f"  prepared  not yet ({folder} would hold it)")
        return
    say("")
    _show_counts(report)
    _show_histograms(report)
    _show_names(report)


def _show_vocabulary(vocabulary: Mapping[str, Sequence[str]]) -> None:
    shown = list(vocabulary.items())[:MOST_NAMES]
    width = max((len(owner) for owner, parts in shown if parts), default=0)
    for owner, parts in shown:
        if parts:
            say(f"  {'parts of':10}{owner:{width}}  {', '.join(parts)}")
    bare = [owner for owner, parts in shown if not parts]
    if bare:
        say(f"  {'objects':10}{', '.join(bare)}")
    _say_more(len(vocabulary) - MOST_NAMES, "objects")


def _show_counts(report: Mapping[str, Any]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column(report["name"])
    for split in report["splits"]:
        table.add_column(split, justify="right")
    columns = list(report["splits"].values())
    for title, key in (("pictures", "images"), ("objects", "objects"), ("parts", "parts")):
        table.add_row(title, *(f"{split[key]:,}" for split in columns))
    table.add_row("parts of an object", *(f"{split['parts_per_object']['mean']:.1f}" for split in columns))
    table.add_row("all annotated", *("yes" if split["exhaustive"] else "no" for split in columns))
    rows: dict[str, Callable[[Any], int]] = {
        "boxes without a mask": lambda split: split["boxes_without_masks"],
        "parents found by mask": lambda split: split["parents"]["by_mask"],
        "parts without a parent": lambda split: split["parents"]["unknown"],
        "stated parents that are wrong": lambda split: split["parents"]["stated_but_wrong"],
        "objects made of their parts": lambda split: split["objects_made_of_parts"],
        "crowd regions": lambda split: split["crowd_regions"],
        "left out": lambda split: sum(row["count"] for row in split["dropped"]),
    }
    for title, count in rows.items():
        if any(map(count, columns)):
            table.add_row(title, *(f"{count(split):,}" for split in columns))
    out.print(table)


def _show_remarks(report: Mapping[str, Any]) -> None:
    for split, counts in report["splits"].items():
        for row in counts["dropped"]:
            ids = ", ".join(row["first_ids"]) + (", ..." if row["count"] > len(row["first_ids"]) else "")
            note(f"left out of {split}: {row['count']} x {row['reason']} ({ids})")
    if report["names_merged"]:
        note(f"several categories of one name, taken as one: {', '.join(report['names_merged'])}")
    for shared in report["pictures_in_two_splits"]:
        first, second = shared["splits"]
        note(f"{shared['count']} pictures of {first} are in {second} as well: {', '.join(shared['first'])}")
    unused = report["names_without_instances"]
    if unused:
        shown = ", ".join(unused[:10]) + (f" and {len(unused) - 10} more" if len(unused) > 10 else "")
        note(f"names without any annotation, left out: {shown}")
    for remark in report["remarks"]:
        note(remark)


def _show_histograms(report: Mapping[str, Any]) -> None:
    for name, split in report["splits"].items():
        sides = split["longest_sides"]
        say(f"\n{name}: pictures of {sides['least']} to {sides['most']} pixels on the longer side")
        _bars("instances by area in pixels", split["areas"])
        parts = split["parts_per_object"]["histogram"]
        if parts:
            _bars("objects by their number of parts", _grouped(parts))


def _grouped(histogram: Mapping[str, int]) -> dict[str, int]:
    """Numbers of parts up to eight by themselves, more of them together."""
    bins = [(low, low) for low in range(1, 9)] + [(9, 12), (13, 20), (21, 40), (41, 10**9)]
    counts = {int(number): times for number, times in histogram.items()}
    grouped = {
        (str(low) if low == high else f"{low} to {high}" if high < 10**9 else f"{low} and more"): sum(
            times for number, times in counts.items() if low <= number <= high
        )
        for low, high in bins
    }
    last = max(place for place, times in enumerate(grouped.values()) if times)
    return dict(list(grouped.items())[: last + 1])


def _bars(title: str, counts: Mapping[str, int]) -> None:
    say(title)
    width = max(map(len, counts))
    most = max(max(counts.values()), 1)
    mark = "█" if out.encoding.lower().startswith("utf") else "#"
    for label, count in counts.items():
        say(f"  {label:>{width}}  {mark * round(BAR * count / most)} {count:,}")


def _show_names(report: Mapping[str, Any]) -> None:
    say("\ninstances by name")
    names: Sequence[tuple[str, int]] = list(report["instances_by_name"].items())
    for name, count in names[:MOST_NAMES]:
        say(f"  {count:>9,}  {name}")
    _say_more(len(names) - MOST_NAMES, "names")


def _say_more(number: int, what: str) -> None:
    if number > 0:
        say(f"  and {number:,} more {what} (--json lists all)")
