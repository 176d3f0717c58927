"""What can be had without a form: fetched below a folder, compared with what was published, unpacked."""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Protocol
from urllib.parse import urlsplit

from langhops_cli.checkpoint.hub import explained
from langhops_cli.data.fetching.download import Advance, download
from langhops_cli.data.fetching.unpack import is_unpacked, unpack
from langhops_cli.data.manifests import Manifest, RemoteFile
from langhops_cli.errors import DATA, ENVIRONMENT, UserError

HUB_PLACE = ".hub"
"""Folder, below that of the source, that files of the Hub come to before they were checked."""


class TrackBytes(Protocol):
    """Shows how far a file is.

    Args:
        label: what is done, "fetch annotations.zip".
        done: bytes so far; total: of how many, None where that is not known.
    """

    def __call__(self, label: str, done: int, total: int | None) -> None: ...


def silently(label: str, done: int, total: int | None) -> None:
    """Show nothing."""


@dataclass
class FetchReport:
    """What became of the files of a dataset, each by its path below the source folder.

    Args:
        fetched: came now.
        there: were there already, whole and right.
        unpacked: archives that were unpacked now.
        kept: archives that are unpacked, so that they could be deleted.
    """

    fetched: list[str] = field(default_factory=list)
    there: list[str] = field(default_factory=list)
    unpacked: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """The same in words."""
        told = {
            "fetched": self.fetched,
            "was there already": self.there,
            "unpacked": self.unpacked,
            "is unpacked and no longer needed": self.kept,
        }
        return [f"{path} {what}" for what, paths in told.items() for path in paths]


def fetch(manifest: Manifest, folder: Path, *, track: TrackBytes = silently) -> FetchReport:
    """Fetch the files of a dataset, and unpack its archives.

    What is there, whole and right, is left alone, and what was cut off is gone on with. A file takes its name only
    when its size and its checksum are those that were published.

    Args:
        manifest: of the dataset.
        folder: the source folder; it is made.
        track: shows how far it is.

    Raises:
        UserError: nothing can be fetched, or something cannot be had, is not what was published, or finds no room.
    """
    if not manifest.files:
        where = f"{manifest.form} (a form)" if manifest.form is not None else manifest.source
        raise UserError(
            f"{manifest.name} cannot be fetched by itself; it is had here: {where}; --describe shows how it must lie.",
            code=DATA,
        )
    for file in manifest.files:
        _refuse_odd(file)
    report = FetchReport()
    for file in manifest.files:
        if _is_there(file, folder, track):
            report.there.append(file.path)
    wanted = [file for file in manifest.files if file.path not in report.there]
    _refuse_small_disk(wanted, folder)
    for file in manifest.files:
        path = folder / file.path
        if file in wanted:
            fetch_one = _fetch_hub if file.url.startswith("hub://") else _fetch_web
            fetch_one(file, folder, track)
            report.fetched.append(file.path)
        if file.unpack is not None and path.exists():
            _unpack(file, folder, report, track)
    shutil.rmtree(folder / HUB_PLACE, ignore_errors=True)
    return report


def _unpack(file: RemoteFile, folder: Path, report: FetchReport, track: TrackBytes) -> None:
    """Unpack an archive, and those that it holds."""
    assert file.unpack is not None
    target = folder / file.unpack
    if unpack(folder / file.path, target, advance=partial(track, f"unpack {file.path}")):
        report.unpacked.append(file.path)
    report.kept.append(file.path)
    for archive in sorted({path for pattern in file.inside for path in target.glob(pattern)}):
        name = archive.relative_to(folder).as_posix()
        if unpack(archive, archive.parent, advance=partial(track, f"unpack {name}")):
            report.unpacked.append(name)
        report.kept.append(name)


def _refuse_odd(file: RemoteFile) -> None:
    """See that an address is one of a server, and that nothing leads out of the folder."""
    if urlsplit(file.url).scheme not in ("http", "https", "hub"):
        raise UserError(f"{file.url} is refused: only http, https and hub addresses are fetched.", code=DATA)
    if file.url.startswith("hub://") and len(file.url.split("/")) < 5:
        raise UserError(f"{file.url} is refused: an address on the Hub is hub://owner/name/path.", code=DATA)
    for name in (file.path, file.unpack or ".", *file.inside):
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\\" in name:
            raise UserError(f"{file.url} is refused: its place '{name}' leads out of the folder.", code=DATA)


def _is_there(file: RemoteFile, folder: Path, track: TrackBytes) -> bool:
    """Whether a file needs no fetching: it is there and right, or an archive that has been unpacked."""
    path = folder / file.path
    if file.unpack is not None and is_unpacked(path, folder / file.unpack, size=file.size):
        return True
    if not path.exists():
        return False
    why = _wrong(path, file, partial(track, f"check {file.path}"))
    if why is not None:
        raise UserError(f"{path} is not the file that was published: {why}; move it away to fetch it.", code=DATA)
    return True


def _wrong(path: Path, file: RemoteFile, advance: Advance) -> str | None:
    """What tells a file from the one that was published; None if nothing does."""
    if not path.is_file():
        return "it is no file"
    size = path.stat().st_size
    if file.size is not None and size != file.size:
        return f"{size:,} bytes instead of {file.size:,}"
    for kind, published in (("sha256", file.sha256), ("md5", file.md5)):
        if published is None:
            continue
        digest, done = hashlib.new(kind, usedforsecurity=False), 0
        with path.open("rb") as content:
            while chunk := content.read(1 << 20):
                digest.update(chunk)
                done += len(chunk)
                advance(done, size)
        if digest.hexdigest() != published.lower():
            return f"{kind} {digest.hexdigest()} instead of {published.lower()}"
    return None


def _refuse_small_disk(files: list[RemoteFile], folder: Path) -> None:
    """See beforehand that there is room: an archive needs at least its size once more when it is unpacked."""
    needed = 0
    for file in files:
        part = folder / f"{file.path}.part"
        left = (file.size or 0) - (part.stat().st_size if part.is_file() else 0)
        needed += max(left, 0) + ((file.size or 0) if file.unpack is not None else 0)
    above = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    free = shutil.disk_usage(above).free
    if needed > free:
        raise UserError(
            f"{folder}: at least {_gigabytes(needed)} are needed and {_gigabytes(free)} are free; nothing was fetched.",
            code=ENVIRONMENT,
        )


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:,.2f} GB"


def _fetch_web(file: RemoteFile, folder: Path, track: TrackBytes) -> None:
    download(
        file.url,
        folder / file.path,
        size=file.size,
        checked=bool(file.sha256 or file.md5),
        check=partial(_refuse_wrong, file=file, track=track),
        advance=partial(track, f"fetch {file.path}"),
    )


def _refuse_wrong(path: Path, *, file: RemoteFile, track: TrackBytes) -> None:
    why = _wrong(path, file, partial(track, f"check {file.path}"))
    if why is not None:
        raise UserError(f"{file.url} is not the file that was published: {why}; what came was removed.", code=DATA)


def _fetch_hub(file: RemoteFile, folder: Path, track: TrackBytes) -> None:
    """Fetch a file of a dataset on the Hub by its own library, which resumes and shows how far it is."""
    from huggingface_hub import hf_hub_download

    owner, name, *rest = file.url.removeprefix("hub://").split("/")
    place = folder / HUB_PLACE / owner / name
    with explained(f"{file.url}: the Hub"):
        came = Path(hf_hub_download(f"{owner}/{name}", "/".join(rest), repo_type="dataset", local_dir=place))
    try:
        _refuse_wrong(came, file=file, track=track)
    except UserError:
        came.unlink()
        raise
    (folder / file.path).parent.mkdir(parents=True, exist_ok=True)
    os.replace(came, folder / file.path)
