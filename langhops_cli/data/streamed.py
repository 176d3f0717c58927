"""A prepared set that is read from Parquet shards, here or on the Hub, one row group at a time."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import ValidationError

from langhops_cli.checkpoint.hub import checkpoint_name, explained, is_local
from langhops_cli.data.index import RowReader, read_hierarchy
from langhops_cli.data.sample import Sample
from langhops_cli.data.shards import FORMAT, HIERARCHY, LIST, ShardFile, ShardList, shard_schema
from langhops_cli.errors import DATA, UserError

HELD = 2
"""Row groups that a process keeps: a batch may lie across the end of one."""


@dataclass(frozen=True)
class _Place:
    """Where shards lie.

    Args:
        name: what messages and records call it.
        root: path in its file system.
        hub_id: of a data set on the Hub; None for a folder here.
        revision: the commit on the Hub that is read throughout, whatever is uploaded meanwhile.
    """

    name: str
    root: str
    hub_id: str | None = None
    revision: str | None = None

    def fetch(self, name: str) -> Path:
        """A small file of it, kept on this disk where it comes from the Hub."""
        if self.hub_id is None:
            return Path(self.root) / name
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import RemoteEntryNotFoundError

        with self._explained():
            try:
                return Path(hf_hub_download(self.hub_id, name, repo_type="dataset", revision=self.revision))
            except RemoteEntryNotFoundError:
                raise UserError(_no_shards(f"{self.name} on the Hub", name), code=DATA) from None

    def list_files(self, folder: str) -> set[str]:
        """Names below a folder of it; a listing of the Hub is kept by the file system, which then asks no more."""
        with self._explained():
            try:
                found = _file_system(hub=self.hub_id is not None).ls(f"{self.root}/{folder}", detail=False)
            except FileNotFoundError:
                return set()
        return {f"{folder}/{PurePosixPath(path).name}" for path in found}

    def open(self, file: ShardFile) -> Any:
        """A shard to read ranges of; only these travel."""
        system = _file_system(hub=self.hub_id is not None)
        return system.open(f"{self.root}/{file.name}", "rb", cache_type="none", size=file.size)

    def _explained(self) -> AbstractContextManager[None]:
        """Tell in one line what the Hub refuses."""
        return nullcontext() if self.hub_id is None else explained(f"{self.name} is no folder here, and the Hub")


def _file_system(*, hub: bool) -> Any:
    """The file system of this process; it is not handed on to others, as it holds connections."""
    if hub:
        from huggingface_hub import HfFileSystem

        return HfFileSystem()
    from fsspec.implementations.local import LocalFileSystem

    return LocalFileSystem()


def _find_place(source: str | Path) -> _Place:
    folder = Path(source)
    if is_local(folder):
        return _Place(str(source), str(folder.absolute()))
    from huggingface_hub import HfApi

    hub_id = folder.as_posix()
    with explained(f"{hub_id} is no folder here, and the Hub"):
        revision = HfApi().dataset_info(hub_id).sha
    return _Place(hub_id, f"datasets/{hub_id}@{revision}", hub_id, revision)


class StreamedDataset:
    """One split of a folder of shards, as a sequence of samples; only the row groups that are asked for are read.

    Args:
        source: the folder, or the id of a data set on the Hub, "owner/name"; what could be either is a folder if the
            one above it exists.
        split: "train" or "val".
        without: objects that are left out with their parts, as if the set did not name them.

    Raises:
        UserError: there are no shards, they are of another version or not complete, or the Hub does not give them.
    """

    def __init__(self, source: str | Path, split: str, *, without: Sequence[str] = ()) -> None:
        self.split = split
        self._place = _find_place(source)
        listed = _read_list(self._place)
        if split not in listed.splits:
            raise UserError(f"{source} has no split '{split}' (it has: {', '.join(listed.splits)}).", code=DATA)
        chosen = listed.splits[split]
        self.exhaustive = chosen.exhaustive
        self.fingerprint = chosen.fingerprint
        self.groups = [rows for file in chosen.files for rows in file.groups]
        self._starts = list(accumulate(self.groups, initial=0))
        self._homes = [(file, place) for file in chosen.files for place in range(len(file.groups))]
        hierarchy = self._place.fetch(HIERARCHY)
        self.vocabulary = read_hierarchy(hierarchy, without=without)
        told = hierarchy, Path(self._place.name) / LIST
        self._reader = RowReader(self.vocabulary, chosen.categories, exhaustive=chosen.exhaustive, told=told)
        self._held: dict[int, Any] = {}
        missing = sorted({file.name for file in chosen.files} - self._place.list_files(split))
        if missing:
            raise UserError(
                f"{source} lacks {missing[0]}" + f" and {len(missing) - 1} more" * (len(missing) > 1)
                + ", which its shards.json names; copy or upload all shards.", code=DATA,
            )  # fmt: skip

    def __len__(self) -> int:
        return self._starts[-1]

    def __getitem__(self, index: int) -> Sample:
        return self.load(index)

    @property
    def name(self) -> str:
        """The source and the split, "owner/cars/train"."""
        return f"{checkpoint_name(self._place.name)}/{self.split}"

    def load(self, index: int, *, longest: int | None = None) -> Sample:
        """Read a picture with its instances.

        Args:
            index: 0 .. len - 1; neighbours lie in the same row group and cost one read.
            longest: where given, picture and masks may come back smaller by 2, 4 or 8 as long as the longer side keeps
                at least this many pixels, which is faster.

        Raises:
            UserError: the shard or the picture cannot be read; the message names it.
        """
        if not 0 <= index < len(self):
            raise IndexError(index)
        group = bisect_right(self._starts, index) - 1
        row = self._group(group).slice(index - self._starts[group], 1).to_pylist()[0]
        content = (row.pop("image") or {}).get("bytes") or b""
        path = Path(f"{self._shard(group)}: {row['file_name']}")
        try:
            return self._reader.read(row, path, longest=longest, content=content)
        except (ValueError, TypeError, LookupError) as error:
            raise UserError(f"{path} has annotations that cannot be read ({error}).", code=DATA) from None

    def _shard(self, group: int) -> str:
        return f"{self._place.name}/{self._homes[group][0].name}"

    def _group(self, number: int) -> Any:
        """The rows of a group, kept until two others were asked for."""
        table = self._held.pop(number, None)
        if table is None:
            table = self._read_group(number)
            while len(self._held) >= HELD:
                del self._held[next(iter(self._held))]
        self._held[number] = table
        return table

    def _read_group(self, number: int) -> Any:
        import pyarrow as pa
        import pyarrow.parquet as pq
        from huggingface_hub.errors import HTTPError

        file, place = self._homes[number]
        remedy = "copy it anew" if self._place.hub_id is None else "run the same command again"
        try:
            with self._place.open(file) as handle:
                # The columns of a group lie side by side: read in one go instead of one by one.
                table = pq.ParquetFile(handle, pre_buffer=True).read_row_group(place, use_threads=False)
        except (pa.ArrowException, OSError, ValueError, IndexError, HTTPError) as error:
            why = " ".join(str(error).split())[:200] or type(error).__name__
            raise UserError(f"{self._shard(number)} cannot be read ({why}); {remedy}.", code=DATA) from None
        if table.num_rows != self.groups[number] or not table.schema.equals(shard_schema()):
            raise UserError(f"{self._shard(number)} is not what {LIST} says; copy all shards anew.", code=DATA)
        return table


def _read_list(place: _Place) -> ShardList:
    path = place.fetch(LIST)
    told = f"{place.name}/{LIST}"
    try:
        content = json.loads(path.read_bytes())
        version = content["format"]
    except OSError:
        if not Path(place.root).is_dir() and place.hub_id is None:
            raise UserError(f"{place.name} does not exist; give a folder of shards or a Hub id.", code=DATA) from None
        raise UserError(_no_shards(place.name, LIST), code=DATA) from None
    except (ValueError, TypeError, LookupError):
        raise UserError(f"{told} is broken; copy it anew.", code=DATA) from None
    if version != FORMAT:
        raise UserError(
            f"{told} is of format {version!r}, and this langhops reads {FORMAT}: write the shards again with this "
            "langhops, or use the one that they were written with.",
            code=DATA,
        )
    try:
        return ShardList.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise UserError(f"{told} is broken at {'.'.join(map(str, first['loc']))}; copy it anew.", code=DATA) from None


def _no_shards(where: str, name: str) -> str:
    return f"{where} has no {name}, so it holds no shards; write them with `langhops prepare NAME --to-parquet OUT`."
