"""Archives from elsewhere, unpacked so that nothing in them can do harm, and whole or not at all."""

from __future__ import annotations

import errno
import gzip
import json
import lzma
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from io import BufferedIOBase
from pathlib import Path, PurePosixPath
from typing import IO

from langhops_cli.data.whole import written_beside
from langhops_cli.errors import DATA, ENVIRONMENT, UserError

CHUNK = 1 << 20
ENTRIES = 5_000_000
"""More entries than this hold no pictures; their list alone would fill the memory."""
RATIO = 200
"""No pictures or annotations shrink more than this by packing."""
HARMLESS = 1 << 30
"""Bytes that an archive may unpack to whatever their ratio."""
HEADER = 1 << 20
"""Bytes that the description of one entry of a tar archive may take."""
KINDS = (".zip", ".tar", ".tar.gz", ".tgz")

Advance = Callable[[int, int | None], None]


def unpack(archive: Path, folder: Path, *, advance: Advance = lambda done, total: None) -> bool:
    """Unpack a zip, tar, tar.gz or tgz archive.

    What macOS adds (`__MACOSX`, `._*`) is left out. All entries are written into a hidden folder first and moved
    when they are whole; a small marker then says that the archive has been unpacked. Files that are there already
    with the same size are left as they are.

    Args:
        archive: the file.
        folder: what the paths in the archive are relative to; it is made.
        advance: is told how many bytes of how many are unpacked.

    Returns:
        Whether anything was done; False if the same archive has been unpacked already.

    Raises:
        UserError: it is no such archive, is damaged or encrypted, holds links or paths that lead out of the folder,
            unpacks to more than is credible or than the disk has room for, or would replace other files.
    """
    if not archive.name.lower().endswith(KINDS):
        raise UserError(f"{archive} is no archive that can be unpacked ({', '.join(KINDS)}).", code=DATA)
    if is_unpacked(archive, folder):
        return False
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / f".{archive.name}.unpacked"
    try:
        with written_beside(place) as beside, _explained(archive):
            job = _Job(archive, beside, advance, limit=_most_bytes(archive, folder))
            if archive.name.lower().endswith(".zip"):
                _unpack_zip(job)
            else:
                _unpack_tar(job)
        names = sorted(path.name for path in place.iterdir())
        _move(place, folder, archive)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    state = archive.stat()
    content = {"size": state.st_size, "mtime_ns": state.st_mtime_ns, "files": job.files, "names": names}
    marker = _marker(archive, folder)
    half = marker.with_name(f"{marker.name}.part")
    half.write_text(json.dumps(content), encoding="utf-8")
    os.replace(half, marker)
    return True


def is_unpacked(archive: Path, folder: Path, *, size: int | None = None) -> bool:
    """Whether an archive has been unpacked in a folder, and what came of it is still there.

    Args:
        archive: the file; it may have been deleted since.
        folder: where it was unpacked.
        size: of the archive, where known beforehand.
    """
    try:
        content = json.loads(_marker(archive, folder).read_text(encoding="utf-8"))
        names, before = content["names"], (content["size"], content["mtime_ns"])
    except (OSError, ValueError, KeyError, TypeError):
        return False
    if archive.exists() and before != (archive.stat().st_size, archive.stat().st_mtime_ns):
        return False
    if size is not None and before[0] != size:
        return False
    return all((folder / name).exists() for name in names)


def _marker(archive: Path, folder: Path) -> Path:
    return folder / f".{archive.name}.unpacked.json"


def _most_bytes(archive: Path, folder: Path) -> int:
    """How many bytes an archive may unpack to."""
    return min(max(HARMLESS, RATIO * archive.stat().st_size), shutil.disk_usage(folder).free)


@dataclass
class _Job:
    """An archive on its way into an empty folder."""

    archive: Path
    folder: Path
    advance: Advance
    limit: int
    files: int = 0
    entries: int = 0
    written: int = 0

    def place_of(self, name: str) -> Path | None:
        """Where an entry goes; None for what macOS added."""
        self.entries += 1
        if self.entries > ENTRIES:
            raise UserError(f"{self.archive} has more than {ENTRIES:,} entries; refused.", code=DATA)
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\\" in name or name[1:2] == ":" or "\0" in name:
            raise UserError(f"{self.archive}: its entry {name!r} leads out of the folder; refused.", code=DATA)
        if "__MACOSX" in path.parts or path.name.startswith("._"):
            return None
        return self.folder / path

    def make_folder(self, name: str) -> None:
        place = self.place_of(name)
        if place is not None:
            with self._named(name):
                place.mkdir(parents=True, exist_ok=True)

    def make_file(self, name: str, size: int, open_content: Callable[[], IO[bytes]], total: int | None) -> None:
        """Write an entry, counting what really comes: an archive may lie about it."""
        place = self.place_of(name)
        self.refuse_more_than(self.written + size)
        if place is None:
            self.written += size  # though left out, it has to be gone through
            return
        with self._named(name):
            place.parent.mkdir(parents=True, exist_ok=True)
            left = size
            with open_content() as content, place.open("xb") as file:
                while chunk := content.read(CHUNK):
                    left -= len(chunk)
                    if left < 0:
                        break
                    file.write(chunk)
                    self.written += len(chunk)
                    self.advance(self.written, total)
        if left:
            raise UserError(f"{self.archive}: its entry {name!r} has not the size that it states.", code=DATA)
        self.files += 1

    def refuse_more_than(self, size: int) -> None:
        """See that so many bytes are credible and find room."""
        if size <= self.limit:
            return
        packed = self.archive.stat().st_size
        if size > max(HARMLESS, RATIO * packed):
            raise UserError(
                f"{self.archive} has {packed:,} bytes and unpacks to more than {self.limit:,}: it was made to fill "
                "the disk; refused.",
                code=DATA,
            )
        raise UserError(
            f"{self.archive} needs more than the {self.limit:,} bytes that are free to be unpacked; make room.",
            code=ENVIRONMENT,
        )

    @contextmanager
    def _named(self, name: str) -> Iterator[None]:
        """Name the entry that cannot be written as it is called."""
        try:
            yield
        except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
            raise UserError(f"{self.archive}: its entry {name!r} is there twice; refused.", code=DATA) from error


@contextmanager
def _explained(archive: Path) -> Iterator[None]:
    """Turn what a damaged archive raises into one line."""
    try:
        yield
    except (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, lzma.LZMAError, EOFError) as error:
        why = f"{archive} is no whole archive ({' '.join(str(error).split())[:200]})"
        raise UserError(f"{why}; move it away and fetch it again.", code=DATA) from error
    except (NotImplementedError, RuntimeError, UnicodeError, ValueError) as error:
        why = " ".join(str(error).split())[:200]
        raise UserError(f"{archive} cannot be unpacked: {why}.", code=DATA) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(f"{archive}: no space is left to unpack it; make room.", code=ENVIRONMENT) from error
        if error.errno is None:  # how bz2 says it
            raise UserError(f"{archive} is damaged ({error}); move it away and fetch it again.", code=DATA) from error
        if error.errno == errno.ENAMETOOLONG:
            raise UserError(f"{archive}: one of its entries has too long a name; refused.", code=DATA) from error
        raise


def _unpack_zip(job: _Job) -> None:
    """Unpack a zip archive: its directory is judged before anything is written."""
    _refuse_long_directory(job.archive)
    with zipfile.ZipFile(job.archive) as packed:
        entries = packed.infolist()
        total = sum(entry.file_size for entry in entries)
        job.refuse_more_than(total)
        for entry in entries:
            kind = stat.S_IFMT(entry.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _no_plain_file(job.archive, entry.filename)
            if entry.flag_bits & 1:
                raise UserError(f"{job.archive} is encrypted ({entry.filename!r}); unpack it by hand.", code=DATA)
            if entry.is_dir():
                job.make_folder(entry.filename)
            else:
                job.make_file(entry.filename, entry.file_size, partial(packed.open, entry), total)


def _refuse_long_directory(archive: Path) -> None:
    """See how many entries a zip archive has before its directory is read, which takes memory for each."""
    tail_length = 22 + 65535 + 20
    with archive.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - tail_length))
        tail = file.read()
        plain = tail[-22:-18] == b"PK\x05\x06" and tail[-2:] == b"\0\0"
        end = len(tail) - 22 if plain else tail.rfind(b"PK\x05\x06")
        length = int.from_bytes(tail[end + 12 : end + 16], "little") if end >= 0 else 0
        locator = tail[end - 20 : end] if end >= 20 else b""
        if locator[:4] == b"PK\x06\x07":
            file.seek(min(int.from_bytes(locator[8:16], "little"), size))
            record = file.read(56)
            if record[:4] == b"PK\x06\x06":
                length = max(length if length != 0xFFFFFFFF else 0, int.from_bytes(record[40:48], "little"))
    if length > 46 * ENTRIES * 3:  # 46 bytes and a name of a hundred each
        raise UserError(f"{archive} has more than {ENTRIES:,} entries; refused.", code=DATA)


def _no_plain_file(archive: Path, name: str) -> UserError:
    return UserError(f"{archive}: its entry {name!r} is no plain file; refused.", code=DATA)


class _Measured:
    """A stream for the tar reader that gives no more than a few bytes for the description of an entry.

    Without it a small compressed archive can state a description of many gigabytes, which is read at once.
    """

    def __init__(self, stream: BufferedIOBase) -> None:
        self.stream = stream
        self.left = 0
        self.last = b""

    def read(self, size: int = -1) -> bytes:
        if size < 0 or size > self.left:
            raise tarfile.ReadError("the description of an entry is too long")
        self.last = self.stream.read(size)
        self.left -= len(self.last)
        return self.last

    def seek(self, place: int, whence: int = os.SEEK_SET) -> int:
        return self.stream.seek(place, whence)

    def tell(self) -> int:
        return self.stream.tell()


def _unpack_tar(job: _Job) -> None:
    """Unpack a tar archive in one pass."""
    zipped = not job.archive.name.lower().endswith(".tar")
    with gzip.open(job.archive, "rb") if zipped else job.archive.open("rb") as stream:
        measured = _Measured(stream)
        measured.left = HEADER
        total = None if zipped else job.archive.stat().st_size
        with tarfile.TarFile(fileobj=measured, errorlevel=2) as packed:  # type: ignore[arg-type]
            while (entry := packed.next()) is not None:
                # It keeps them all otherwise, however many they are.
                packed.members.clear()  # type: ignore[attr-defined]
                if entry.isdir():
                    job.make_folder(entry.name)
                elif entry.isreg() and not entry.issparse() and entry.size >= 0:
                    measured.left = entry.size + CHUNK
                    job.make_file(entry.name, entry.size, partial(_content, packed, entry), total)
                else:
                    raise _no_plain_file(job.archive, entry.name)
                measured.left = HEADER
            if measured.last != bytes(tarfile.BLOCKSIZE):
                raise tarfile.ReadError("it ends before its end mark")
        while zipped and stream.read(CHUNK):  # the checksum is compared at the very end
            pass


def _content(packed: tarfile.TarFile, entry: tarfile.TarInfo) -> IO[bytes]:
    content = packed.extractfile(entry)
    assert content is not None
    return content


def _move(place: Path, folder: Path, archive: Path) -> None:
    """Move what was unpacked to where it belongs; folders that are there already are filled up."""
    for below, _, names in os.walk(place):
        there = folder / Path(below).relative_to(place)
        for name in names:
            old, new = there / name, Path(below) / name
            if os.path.lexists(old) and (not old.is_file() or old.stat().st_size != new.stat().st_size):
                raise UserError(f"{old} is there and not the one of {archive.name}; move it away.", code=DATA)
        if there.exists() and not there.is_dir():
            raise UserError(f"{there} is there and not the folder of {archive.name}; move it away.", code=DATA)
    _merge(place, folder)


def _merge(place: Path, folder: Path) -> None:
    for path in sorted(place.iterdir()):
        target = folder / path.name
        if target.is_dir():
            _merge(path, target)
        elif not target.exists():
            path.rename(target)
