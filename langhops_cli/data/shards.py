"""A prepared set as Parquet shards, which hold the pictures too: to be streamed from a folder or from the Hub."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Annotated, Any

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, Field

from langhops_cli.data.index import INDEX, PreparedDataset, check_size, open_datasets, open_rows
from langhops_cli.data.pictures import read_picture
from langhops_cli.data.prepare import Track, quietly
from langhops_cli.data.rows import Row, features
from langhops_cli.data.whole import written_beside
from langhops_cli.data.work import usable_cores
from langhops_cli.errors import DATA, USAGE, UserError

FORMAT = 1
"""Version of what is written; shards of another version are not read."""
LIST = "shards.json"
"""The file that says what is in a folder of shards."""
HIERARCHY = "hierarchy.yaml"
CARD = "README.md"
GROUP_BYTES = 128 * 2**20
"""A row group ends here even before it has all its pictures: a reader holds two of them at a time."""

Positive = Annotated[int, Field(ge=1)]


class Part(BaseModel):
    """What is the same in all parts of the list: nothing changes, and keys of later versions are no fault."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class ShardFile(Part):
    """One Parquet file: its path below the folder, its size in bytes, and the rows of each of its row groups."""

    name: str = Field(pattern=r"^[\w-]+(\.[\w-]+)*/\d+-of-\d+\.parquet$")
    size: Positive
    groups: tuple[Positive, ...] = Field(min_length=1)


class ShardedSplit(Part):
    """One split; `categories` are id, object name, part name or None, and the rest is the prepared set's own."""

    exhaustive: bool
    fingerprint: str
    categories: tuple[tuple[int, str, str | None], ...]
    files: tuple[ShardFile, ...]


class ShardList(Part):
    """What `shards.json` says.

    Args:
        format: version.
        name: of the prepared set.
        hierarchy: SHA-256 of the prepared set's tree of names.
        shard_bytes: size at which a shard ends; group: most pictures of a row group.
        splits: by name.
    """

    format: int
    name: str
    hierarchy: str
    shard_bytes: int
    group: int
    splits: dict[str, ShardedSplit]


def write_shards(
    root: Path, out: Path, *, shard_bytes: int = 512 * 2**20, group: int = 64, track: Track = quietly
) -> tuple[dict[str, Any], bool]:
    """Write a prepared set as Parquet shards, unless the very same ones are there.

    Rows are the index's, each with the bytes of its picture's file, in an order shuffled once and for all: every row
    group is a fair sample of its split, so that a training that reads one group after the other still sees pictures
    of all kinds.

    Args:
        root: the prepared set's folder.
        out: where the shards shall lie: `<split>/00000-of-00012.parquet`, `shards.json`, `hierarchy.yaml`, and a
            `README.md` that lets the `datasets` library and the Hub read them.
        shard_bytes: a shard ends as soon as it is that large.
        group: most pictures of a row group, which is what a reader fetches at a time.
        track: shows how far it is.

    Returns:
        What `shards.json` says, and whether anything was written.

    Raises:
        UserError: the set is not prepared or broken, a picture is gone or was changed, the folder holds other
            things, or it cannot be written.
    """
    out = out.absolute()
    if shard_bytes < 1 or group < 1:
        raise UserError("shards need at least one byte and one picture a row group.", code=USAGE)
    sets = {split: PreparedDataset(root, split) for split in _splits(root)}
    tree = (root / HIERARCHY).read_bytes()
    wanted = ShardList(
        format=FORMAT,
        name=root.resolve().name,
        hierarchy=hashlib.sha256(tree).hexdigest(),
        shard_bytes=shard_bytes,
        group=group,
        splits={split: _describe(dataset) for split, dataset in sets.items()},
    )
    ready = _find_ready(out)
    if ready is not None and _without_files(ready) == wanted and _is_whole(out, ready):
        return ready.model_dump(mode="json"), False
    _refuse_other_things(out, ready)
    try:
        with written_beside(out) as partial:
            splits = {
                split: wanted.splits[split].model_copy(
                    update={"files": _write_split(dataset, partial / split, shard_bytes, group, track)}
                )
                for split, dataset in sets.items()
            }
            written = wanted.model_copy(update={"splits": splits})
            (partial / HIERARCHY).write_bytes(tree)
            (partial / CARD).write_text(card(written), encoding="utf-8")
            (partial / LIST).write_text(written.model_dump_json() + "\n", encoding="utf-8")
    except OSError as error:
        why = error.strerror or str(error).partition("\n")[0]
        raise UserError(f"{out} cannot be written ({why}); nothing of it was left half done.", code=DATA) from None
    return written.model_dump(mode="json"), True


def shard_schema() -> Any:
    """The Arrow schema of a shard: the columns of the index, and the picture as the `datasets` library knows it."""
    datasets = open_datasets()
    columns = features(datasets)
    columns["image"] = datasets.Image()
    return columns.arrow_schema


def _splits(root: Path) -> list[str]:
    found = sorted(path.parent.name for path in (root / INDEX).glob("*/meta.json"))
    if not found:
        raise UserError(f"{root} is no prepared set; make it with `langhops prepare`.", code=DATA)
    return found


def _describe(dataset: PreparedDataset) -> ShardedSplit:
    return ShardedSplit(
        exhaustive=dataset.exhaustive,
        fingerprint=dataset.fingerprint,
        categories=tuple(dataset.categories),
        files=(),
    )


def _find_ready(out: Path) -> ShardList | None:
    try:
        return ShardList.model_validate_json((out / LIST).read_bytes())
    except (OSError, ValueError):
        return None


def _without_files(written: ShardList) -> ShardList:
    splits = {name: split.model_copy(update={"files": ()}) for name, split in written.splits.items()}
    return written.model_copy(update={"splits": splits})


def _is_whole(out: Path, written: ShardList) -> bool:
    files = [file for split in written.splits.values() for file in split.files]
    return all((out / name).is_file() for name in (HIERARCHY, CARD)) and all(
        (out / file.name).is_file() and (out / file.name).stat().st_size == file.size for file in files
    )


def _refuse_other_things(out: Path, ready: ShardList | None) -> None:
    """See that nothing but former shards would be replaced."""
    if not out.exists():
        return
    own = {LIST, HIERARCHY, CARD, *ready.splits} if ready is not None else set()
    others = sorted(path.name for path in out.iterdir() if path.name not in own) if out.is_dir() else [out.name]
    if others:
        raise UserError(f"{out} holds other things ({', '.join(others[:3])}); choose another folder.", code=DATA)


def _write_split(
    dataset: PreparedDataset, folder: Path, shard_bytes: int, group: int, track: Track
) -> tuple[ShardFile, ...]:
    order = np.random.default_rng(0).permutation(len(dataset))
    with _ShardWriter(folder, shard_bytes) as shards:
        pictures = _read_pictures(dataset, order, group)
        waiting: list[Row] = []
        held = 0
        for row in track(pictures, label=f"{dataset.split} pictures", total=len(dataset)):
            size = len(row["image"]["bytes"])
            if waiting and (len(waiting) == group or held + size > GROUP_BYTES):
                shards.write(waiting)
                waiting, held = [], 0
            waiting.append(row)
            held += size
        if waiting:
            shards.write(waiting)
        return shards.finish()


def _read_pictures(dataset: PreparedDataset, order: Sequence[int] | np.ndarray, ahead: int) -> Iterator[Row]:
    """Rows with the bytes of their pictures; `ahead` of them are read at a time, by several threads."""
    rows = open_rows(dataset.root, dataset.split)

    def read(row: Row) -> Row:
        path = dataset.image_root / row["file_name"]
        return row | {"image": {"bytes": _read_whole(path, row), "path": row["file_name"]}}

    with ThreadPoolExecutor(usable_cores()) as threads:
        for first in range(0, len(order), ahead):
            yield from threads.map(read, [rows[int(place)] for place in order[first : first + ahead]])


def _read_whole(path: Path, row: Row) -> bytes:
    """The picture's file; that it is whole and as it was annotated is seen now rather than in the training."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); prepare the set again.", code=DATA) from None
    annotated = row["width"], row["height"]
    try:
        # Decoded at an eighth of its size, which shows all the same that it is whole.
        check_size(path, read_picture(path, longest=max(1, max(annotated) // 8), content=content).size, annotated)
    except UserError:  # told with its own size
        check_size(path, read_picture(path, content=content).size, annotated)
    return content


class _ShardWriter:
    """Writes the shards of one split, a row group at a time; a context manager."""

    def __init__(self, folder: Path, shard_bytes: int) -> None:
        self._folder = folder
        self._schema = shard_schema()
        self._shard_bytes = shard_bytes
        self._file: IO[bytes] | None = None
        self._parquet: Any = None
        self._groups: list[int] = []
        self._done: list[tuple[int, list[int]]] = []
        folder.mkdir()

    def __enter__(self) -> _ShardWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:  # after a fault: what is closed here is thrown away
            with suppress(Exception):
                self._parquet.close()
            self._file.close()

    def write(self, rows: list[Row]) -> None:
        """Write rows as one group."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        if self._file is None:
            self._file = self._part(len(self._done)).open("wb")
            # Pictures and run lengths are compressed already, and statistics of them help nobody.
            self._parquet = pq.ParquetWriter(
                self._file, self._schema, compression="none", use_dictionary=False, write_statistics=False
            )
        self._parquet.write_table(pa.Table.from_pylist(rows, schema=self._schema), row_group_size=len(rows))
        self._groups.append(len(rows))
        if self._file.tell() >= self._shard_bytes:
            self._end_shard()

    def finish(self) -> tuple[ShardFile, ...]:
        """End the last shard and give all of them their names."""
        if self._file is not None:
            self._end_shard()
        files = []
        for number, (size, groups) in enumerate(self._done):
            path = self._folder / f"{number:05d}-of-{len(self._done):05d}.parquet"
            self._part(number).rename(path)
            files.append(ShardFile(name=f"{self._folder.name}/{path.name}", size=size, groups=tuple(groups)))
        return tuple(files)

    def _end_shard(self) -> None:
        assert self._file is not None
        self._parquet.close()
        self._done.append((self._file.tell(), self._groups))
        self._file.close()
        self._file, self._groups = None, []

    def _part(self, number: int) -> Path:
        return self._folder / f"{number:05d}.part"


def card(written: ShardList) -> str:
    """The README.md of a folder of shards: the splits, for the `datasets` library and the Hub, and what a row is."""
    filled = {name: split for name, split in written.splits.items() if split.files}
    header = {
        "pretty_name": written.name,
        "task_categories": ["image-segmentation"],
        "tags": ["langhops"],
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": re.sub(r"\W", "_", name), "path": f"{name}/*.parquet"} for name in filled],
            }
        ],
    }
    table = "".join(
        f"| {name} | {sum(sum(file.groups) for file in split.files):,} | {len(split.files):,} "
        f"| {sum(file.size for file in split.files) / 1e6:,.1f} MB |\n"
        for name, split in filled.items()
    )
    head = yaml.safe_dump(header, sort_keys=False, allow_unicode=True)
    return f"---\n{head}---\n\n{_TEXT.format(name=written.name, table=table)}"


_TEXT = """# {name}

Pictures with the masks of objects and of their parts, as `langhops prepare NAME --to-parquet` writes them.

| split | pictures | shards | size |
|---|---|---|---|
{table}
A row is a picture: `image` holds its file as it was, and the lists have one entry an instance: `category` (see
`categories` in `shards.json`: id, object, part), `counts` (the mask as compressed COCO run lengths at `height` x
`width`, empty where only the `box` is known), `parent` (place of the object in the same row, -1 for none) and `crowd`.
The tree of names is in `hierarchy.yaml`.

To train on it without a copy on disk, name this folder or its id on the Hub in a recipe:

```yaml
data:
  train:
    - stream: OWNER/NAME
```
"""
