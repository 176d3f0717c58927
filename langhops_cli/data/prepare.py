"""From a source to a prepared set: pictures checked, parents found, written beside and renamed at the end."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from itertools import combinations
from pathlib import Path
from typing import Any, Protocol, TypeVar

from langhops_cli.data.records import Role, Source, SplitSource, Tree
from langhops_cli.data.report import SplitTally, build_vocabulary, count_names, same_pictures
from langhops_cli.data.rows import CategoryNumbers
from langhops_cli.data.verify import Checker
from langhops_cli.data.whole import written_beside
from langhops_cli.data.work import Workers, usable_cores
from langhops_cli.data.writer import SplitWriter
from langhops_cli.errors import DATA, UserError
from langhops_cli.vocabulary import Vocabulary, VocabularyError

FORMAT = 2
"""Version of what is written; a set of another version is prepared again."""

Item = TypeVar("Item")


class Track(Protocol):
    """Goes through items and shows how far it is."""

    def __call__(self, items: Iterable[Item], *, label: str, total: int) -> Iterable[Item]: ...


def quietly(items: Iterable[Item], *, label: str, total: int) -> Iterable[Item]:
    """Go through items and show nothing."""
    return items


def prepared_folder(data_root: Path | None, name: str) -> Path:
    """Where the prepared set of this name lies.

    Args:
        data_root: the folder of all prepared sets; $LANGHOPS_DATA, else ./data, when left out.
        name: a plain folder name.

    Raises:
        UserError: the name is not a plain folder name.
    """
    if not name or name.startswith(".") or Path(name).name != name:
        raise UserError(f"'{name}' cannot name a prepared set; use letters, digits, '-' and '_'.")
    root = data_root if data_root is not None else Path(os.environ.get("LANGHOPS_DATA") or "data")
    return root / name


def prepare(
    read: Callable[[Path], Source],
    folder: Path,
    *,
    inputs: dict[str, Any],
    union: bool = False,
    strict: bool = False,
    workers: int | None = None,
    track: Track = quietly,
) -> tuple[dict[str, Any], bool]:
    """Write a prepared set, unless the very same one is there.

    Args:
        read: opens the source; it is handed the folder being written, for pictures of its own.
        folder: where the set shall lie.
        inputs: all that decides the outcome, as JSON has it; a set made of the same inputs is left as it is.
        union: make the object instance of the parts where a picture shows only parts.
        strict: refuse to leave anything out.
        workers: processes that read pictures; as many as there are cores when left out.
        track: shows how far it is.

    Returns:
        The report, and whether anything was written.

    Raises:
        UserError: no picture or no instance is left, an object has parts but no mask, something had to be left out
            under `strict`, or the folder holds other things.
    """
    inputs = {"format": FORMAT, **inputs, "union": union}
    ready = read_report(folder)
    written = ready is None or ready["inputs"] != inputs
    if ready is None or written:
        if folder.exists() and ready is None:
            raise UserError(f"{folder} exists and is no prepared set; choose another --name or --data-root.", code=DATA)
        with written_beside(folder) as partial:
            ready = _build(read(partial), partial, name=folder.name, union=union, workers=workers, track=track)
            ready["inputs"] = inputs
            if strict:
                refuse_drops(ready)
            (partial / "report.json").write_text(json.dumps(ready, ensure_ascii=False, indent=1) + "\n", "utf-8")
    elif strict:
        refuse_drops(ready)
    return ready, written


def refuse_drops(report: dict[str, Any]) -> None:
    """Under `--strict`: see that nothing was left out.

    Raises:
        UserError: something was; the message says what and how often.
    """
    drops = [(split, row) for split, counts in report["splits"].items() for row in counts["dropped"]]
    if drops:
        told = "; ".join(f"{split}: {row['count']} x {row['reason']} ({row['first_ids'][0]})" for split, row in drops)
        raise UserError(f"{report['name']} has faults, and --strict refuses to leave anything out: {told}.", code=DATA)


def state_of(*paths: Path | None) -> str:
    """A digest of names, sizes and times of all files below folders, to see whether a source has changed.

    Args:
        paths: folders or files; None and missing ones count as such.
    """
    digest = hashlib.sha256()
    for path in paths:
        digest.update(f"{path}\n".encode())
        for line in _states(path) if path is not None else ():
            digest.update(f"{line}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _states(path: Path) -> Iterable[str]:
    if path.is_file():
        yield f"{path.stat().st_size} {path.stat().st_mtime_ns}"
        return
    for folder, below, files in os.walk(path):
        below.sort()
        for name in sorted(files):
            state = os.stat(os.path.join(folder, name), follow_symlinks=True) if _there(folder, name) else None
            yield f"{folder} {name} {state.st_size if state else '-'} {state.st_mtime_ns if state else '-'}"


def _there(folder: str, name: str) -> bool:
    return os.path.exists(os.path.join(folder, name))


def _build(
    source: Source, partial: Path, *, name: str, union: bool, workers: int | None, track: Track
) -> dict[str, Any]:
    numbers = CategoryNumbers(_roles(source.tree))
    tallies: list[SplitTally] = []
    with ExitStack() as stack:
        crew = stack.enter_context(Workers(usable_cores() if workers is None else workers))
        writers = []
        for split in source.splits:
            writer = SplitWriter(
                partial, split.name, image_root=split.image_root, exhaustive=split.exhaustive, numbers=numbers
            )
            writers.append(stack.enter_context(writer))
            tallies.append(_fill(split, writer, partial, union=union, workers=crew, track=track))
        _add_names(source.tree, tallies)
        _refuse_nothing(name, tallies)
        if not union:
            _refuse_lone_parts(tallies)
        try:
            vocabulary, unused = build_vocabulary(source.tree, tallies)
        except VocabularyError as error:
            raise UserError(f"{name} has names that cannot stand together: {error}.", code=DATA) from None
        categories = list_categories(vocabulary, source, numbers)
        prints = [writer.finish(categories, title=f"{name}, {writer.name}", version=FORMAT) for writer in writers]
    (partial / "hierarchy.yaml").write_text(vocabulary.to_yaml(), encoding="utf-8")
    return {
        "name": name,
        "kind": source.kind,
        "splits": {
            tally.name: {**tally.describe(), "fingerprint": mark} for tally, mark in zip(tallies, prints, strict=True)
        },
        "object_names": len(vocabulary.objects),
        "part_names": len(vocabulary.part_classes),
        "instances_by_name": count_names(tallies),
        "names_without_instances": unused,
        "names_merged": source.merged,
        "pictures_in_two_splits": _shared_pictures(partial, tallies),
        "remarks": source.remarks,
        "fingerprint": hashlib.sha256(json.dumps(prints).encode()).hexdigest(),
    }


def _fill(
    split: SplitSource, writer: SplitWriter, partial: Path, *, union: bool, workers: Workers, track: Track
) -> SplitTally:
    """Check, read and write the pictures of a split."""
    tally = SplitTally(split.name, split.exhaustive, split.drops)
    root = partial / split.image_root
    checker = Checker(root, split.read, union=union, writes=split.writes)
    pictures = workers.map(checker, split.pictures(), total=split.total)
    for picture in track(pictures, label=f"{split.name} pictures", total=split.total):
        tally.add(picture)
        if picture.fault is None:
            writer.add(picture)
    if tally.seen and not tally.images:
        first = tally.drops.to_list()[0]
        raise UserError(
            f"none of the {tally.seen} pictures of {split.name} below {root} can be used "
            f"({first['reason']}: {first['first_ids'][0]}); check --images.",  # type: ignore[index]
            code=DATA,
        )
    return tally


def _roles(tree: Tree) -> list[Role]:
    """All names of a tree, objects first."""
    return [(owner, None) for owner in tree] + [(owner, part) for owner, parts in tree.items() for part in parts]


def _add_names(tree: Tree, tallies: Sequence[SplitTally]) -> None:
    """Put names that turned up while reading behind those that were known."""
    for tally in tallies:
        for owner in tally.objects:
            tree.setdefault(owner, {})
        for owner, part in tally.parts:
            assert part is not None
            tree.setdefault(owner, {}).setdefault(part, None)


def _refuse_nothing(name: str, tallies: Sequence[SplitTally]) -> None:
    if not any(tally.roles for tally in tallies):
        reasons = "; ".join(f"{row['reason']}: {row['count']}" for t in tallies for row in t.drops.to_list())
        raise UserError(f"no instance is left of {name} ({reasons or 'the source has none'}).", code=DATA)


def _refuse_lone_parts(tallies: Sequence[SplitTally]) -> None:
    """Parts without any object to belong to would train nothing: say how to make one."""
    whole = {owner for tally in tallies for owner in tally.objects}
    for tally in tallies:
        for owner, part in tally.parts:
            if owner not in whole:
                raise UserError(
                    f"'{owner}' has parts ('{part}') but no mask of its own in any picture; with --union "
                    f"it is the union of its parts in a picture (right where a picture shows one {owner}).",
                    code=DATA,
                )


def list_categories(vocabulary: Vocabulary, source: Source, numbers: CategoryNumbers) -> list[dict[str, Any]]:
    """COCO categories of a vocabulary: objects first, then parts, each with its object's id."""
    categories: list[dict[str, Any]] = []
    for name in vocabulary.object_names:
        spelt = source.source_names.get((name, None), name)
        categories.append({"id": numbers[name, None], "name": name, "source_name": spelt, "parent_id": None})
    for part in vocabulary.part_classes:
        owner = vocabulary.object_names[part.object]
        spelt = source.source_names.get((owner, part.name), part.name)
        row = {"id": numbers[owner, part.name], "name": part.text, "part_name": part.name, "source_name": spelt}
        categories.append({**row, "supercategory": owner, "parent_id": numbers[owner, None]})
    return categories


def _shared_pictures(partial: Path, tallies: Sequence[SplitTally]) -> list[dict[str, Any]]:
    """Pictures that stand in two splits, which makes what is measured on one of them too good."""
    from langhops_cli.data.index import open_rows

    found = []
    for first, second in combinations(tallies, 2):
        count, places = same_pictures(first, second)
        if count:
            names = [row["file_name"] for row in map(open_rows(partial, first.name).__getitem__, places)]
            found.append({"splits": [first.name, second.name], "count": count, "first": names})
    return found


def read_report(folder: Path) -> dict[str, Any] | None:
    """The report of a prepared set; None where there is no such set."""
    try:
        report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return report if isinstance(report, dict) and "inputs" in report else None
