"""Archives: whole or not at all, once, and harmless whatever they hold."""

import gzip
import io
import os
import shutil
import stat
import struct
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from langhops_cli.data.fetching import unpack as unpacking
from langhops_cli.data.fetching.unpack import is_unpacked, unpack
from langhops_cli.errors import DATA, ENVIRONMENT, UserError

FILES = {"set/images/1.jpg": b"one" * 1000, "set/images/2.jpg": b"two", "set/train.json": b"{}", "read me.txt": b""}
KINDS = ("a.zip", "a.tar", "a.tar.gz", "a.TGZ")


def pack(path: Path, files: dict[str, bytes]) -> Path:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
            for name, content in files.items():
                made.writestr(name, content)
        return path
    with tarfile.open(path, "w" if path.suffix == ".tar" else "w:gz") as made:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            made.addfile(entry, io.BytesIO(content))
    return path


def tree(folder: Path) -> dict[str, bytes]:
    """All files with their content, hidden ones too."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def contents(folder: Path) -> dict[str, bytes]:
    return {name: content for name, content in tree(folder).items() if not name.startswith(".")}


def refusal(archive: Path, folder: Path, code: int = DATA) -> str:
    """The message of the refusal, after which the folder is as it was."""
    before = tree(folder) if folder.exists() else {}
    with pytest.raises(UserError) as caught:
        unpack(archive, folder)
    assert caught.value.code == code
    assert str(archive) in str(caught.value) or archive.name in str(caught.value)
    assert "\n" not in str(caught.value)
    assert tree(folder) == before
    assert [path for path in folder.rglob("*") if path.is_dir() and path.name.startswith(".")] == []
    return str(caught.value)


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_is_unpacked_once(tmp_path: Path, name: str) -> None:
    archive = pack(tmp_path / name, FILES)
    steps: list[int] = []
    assert unpack(archive, tmp_path / "out", advance=lambda done, total: steps.append(done))
    assert contents(tmp_path / "out") == FILES
    assert steps[-1] == sum(map(len, FILES.values()))
    assert not unpack(archive, tmp_path / "out")

    os.utime(archive, (1, 1))
    assert unpack(archive, tmp_path / "out")
    (tmp_path / "out/read me.txt").unlink()
    assert unpack(archive, tmp_path / "out")
    assert contents(tmp_path / "out") == FILES
    assert len(list((tmp_path / "out").iterdir())) == 3  # the marker and nothing else


def test_an_archive_that_was_deleted_counts_as_unpacked(tmp_path: Path) -> None:
    archive = pack(tmp_path / "a.zip", FILES)
    size = archive.stat().st_size
    assert not is_unpacked(archive, tmp_path)
    unpack(archive, tmp_path)
    archive.unlink()
    assert is_unpacked(archive, tmp_path) and is_unpacked(archive, tmp_path, size=size)
    assert not is_unpacked(archive, tmp_path, size=size + 1)
    for damage in ("", "[]", '{"size": 1}'):
        (tmp_path / ".a.zip.unpacked.json").write_text(damage)
        assert not is_unpacked(archive, tmp_path)


def test_two_archives_fill_one_folder(tmp_path: Path) -> None:
    unpack(pack(tmp_path / "a.zip", {"set/1": b"1", "both": b"same"}), tmp_path / "out")
    unpack(pack(tmp_path / "b.tar", {"set/2": b"2", "both": b"same", "set/more/3": b"3"}), tmp_path / "out")
    assert contents(tmp_path / "out") == {"set/1": b"1", "set/2": b"2", "set/more/3": b"3", "both": b"same"}


@pytest.mark.parametrize("mine", ["set/train.json", "set", "read me.txt/deep"])
def test_other_files_are_not_replaced(tmp_path: Path, mine: str) -> None:
    path = tmp_path / "out" / mine
    path.parent.mkdir(parents=True)
    path.write_bytes(b"mine")
    assert "move it away" in refusal(pack(tmp_path / "a.zip", FILES), tmp_path / "out")


def test_a_file_of_the_same_size_stays(tmp_path: Path) -> None:
    (tmp_path / "out/set").mkdir(parents=True)
    (tmp_path / "out/set/train.json").write_bytes(b"[]")
    unpack(pack(tmp_path / "a.zip", FILES), tmp_path / "out")
    assert contents(tmp_path / "out") == FILES | {"set/train.json": b"[]"}


@pytest.mark.parametrize("name", KINDS)
def test_what_macos_adds_is_left_out(tmp_path: Path, name: str) -> None:
    junk = {"__MACOSX/set/1.jpg": b"x", "set/._1.jpg": b"x", "._set": b"x", "set/__MACOSX/a": b"x"}
    unpack(pack(tmp_path / name, {**junk, **FILES}), tmp_path / "out")
    assert contents(tmp_path / "out") == FILES


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("entry", ["../a", "/tmp/a", "set/../../a", "..\\a", "C:/a", "__MACOSX/../../a"])
def test_entries_that_climb_out_are_refused(tmp_path: Path, name: str, entry: str) -> None:
    archive = pack(tmp_path / name, {"fine": b"x", entry: b"x"})
    assert "leads out of the folder" in refusal(archive, tmp_path / "out" / "deep")
    assert set(tree(tmp_path)) == {name}


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.GNUTYPE_SPARSE, b"?"]
)
def test_tar_entries_that_are_no_files_are_refused(tmp_path: Path, kind: bytes) -> None:
    archive = tmp_path / "a.tar"
    with tarfile.open(archive, "w", format=tarfile.GNU_FORMAT) as made:
        entry = tarfile.TarInfo("odd")
        entry.type, entry.linkname = kind, "/etc/passwd"
        made.addfile(entry)
    assert "no plain file" in refusal(archive, tmp_path / "out")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO])
def test_zip_entries_that_are_no_files_are_refused(tmp_path: Path, kind: int) -> None:
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as made:
        entry = zipfile.ZipInfo("odd")
        entry.external_attr = (kind | 0o777) << 16
        made.writestr(entry, "/etc/passwd")
    assert "no plain file" in refusal(archive, tmp_path / "out")


@pytest.mark.parametrize("name", ["a.zip", "a.tar"])
@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("second", ["a", "a/b", "./a"])
def test_an_entry_that_is_there_twice_is_refused(tmp_path: Path, name: str, second: str) -> None:
    archive = tmp_path / name
    pack(archive, {"a": b"1", second: b"2"} if second != "a" else {"a": b"1"})
    if second == "a" and name == "a.zip":
        with zipfile.ZipFile(archive, "a") as made:
            made.writestr("a", b"2")
    elif second == "a":
        with tarfile.open(archive, "a") as made:
            made.addfile(tarfile.TarInfo("a"))
    assert "there twice" in refusal(archive, tmp_path / "out")


@pytest.mark.parametrize("name", KINDS)
def test_a_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(unpacking, "HARMLESS", 1 << 16)
    bomb = pack(tmp_path / name, {f"{number}": bytes(1 << 20) for number in range(4)})
    if name == "a.tar":  # nothing is packed in it
        assert unpack(bomb, tmp_path / "out")
    else:
        assert "made to fill the disk" in refusal(bomb, tmp_path / "out")
    harmless = pack(tmp_path / f"small {name}", {"a": bytes(1 << 16)})
    assert unpack(harmless, tmp_path / "out")


def test_a_bomb_among_what_macos_adds_is_refused_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "HARMLESS", 1 << 16)
    bomb = pack(tmp_path / "a.tgz", {f"._{number}": bytes(1 << 20) for number in range(4)})
    assert "made to fill the disk" in refusal(bomb, tmp_path / "out")


@pytest.mark.parametrize("name", KINDS)
def test_a_disk_without_room_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    archive = pack(tmp_path / name, FILES)
    needed = sum(map(len, FILES.values()))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=needed - 1))
    assert "make room" in refusal(archive, tmp_path / "out", ENVIRONMENT)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=needed))
    assert unpack(archive, tmp_path / "out")


@pytest.mark.parametrize("name", KINDS)
def test_too_many_entries_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(unpacking, "ENTRIES", 3)
    assert "more than 3 entries" in refusal(pack(tmp_path / name, FILES), tmp_path / "out")


def test_a_long_directory_is_seen_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = pack(tmp_path / "a.zip", {f"{number}" * 20: b"" for number in range(100)})
    monkeypatch.setattr(unpacking, "ENTRIES", 30)
    monkeypatch.setattr(zipfile, "ZipFile", None)
    assert "more than 30 entries" in refusal(archive, tmp_path / "out")
    # The same with the 64-bit records that a larger archive has.
    content = archive.read_bytes()
    end = content.rfind(b"PK\x05\x06")
    length, start = struct.unpack("<II", content[end + 12 : end + 20])
    record = struct.pack("<4sQHHIIQQQQ", b"PK\x06\x06", 44, 45, 45, 0, 0, 100, 100, length, start)
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, end, 1)
    last = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    archive.write_bytes(content[:end] + record + locator + last)
    assert "more than 30 entries" in refusal(archive, tmp_path / "out")
    monkeypatch.undo()
    assert unpack(archive, tmp_path / "out")


def lie_about_size(content: bytes, change: Callable[[int], int]) -> bytes:
    """Change the unpacked size that a zip archive of one entry states, in both places."""
    data = bytearray(content)
    for mark, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        place = data.find(mark) + offset
        data[place : place + 4] = struct.pack("<I", change(struct.unpack("<I", data[place : place + 4])[0]))
    return bytes(data)


@pytest.mark.parametrize("change", [lambda size: size - 100, lambda size: size + 100], ids=["more", "less"])
def test_a_zip_that_lies_about_a_size_is_refused(tmp_path: Path, change: Callable[[int], int]) -> None:
    archive = pack(tmp_path / "a.zip", {"a": os.urandom(5000)})
    archive.write_bytes(lie_about_size(archive.read_bytes(), change))
    refusal(archive, tmp_path / "out")


@pytest.mark.parametrize("name", KINDS)
def test_a_damaged_archive_is_said_to_be_one(tmp_path: Path, name: str) -> None:
    content = pack(tmp_path / name, {"a": os.urandom(5000), "b": os.urandom(5000)}).read_bytes()
    for length in range(0, len(content) - 20, 499):
        if name == "a.tar" and length >= 11_264 + 512:
            continue  # from here on only zeros are missing
        (tmp_path / name).write_bytes(content[:length])
        assert "fetch it again" in refusal(tmp_path / name, tmp_path / "out")
    if name != "a.tar":  # without a checksum for what it holds
        (tmp_path / name).write_bytes(content[:3000] + bytes(16) + content[3016:])
        assert "fetch it again" in refusal(tmp_path / name, tmp_path / "out")


def test_the_checksum_behind_the_end_mark_is_compared(tmp_path: Path) -> None:
    """Content that cannot be compressed is stored as it is: only the checksum tells that a byte of it is another."""
    archive = pack(tmp_path / "a.tar.gz", {f"{number}": os.urandom(60_000) for number in range(20)})
    content = bytearray(archive.read_bytes())
    for place in range(5_000, len(content) - 5_000, 100_000):
        content[place] ^= 1
        archive.write_bytes(content)
        assert "fetch it again" in refusal(archive, tmp_path / "out")
        content[place] ^= 1


def test_a_tar_description_of_gigabytes_takes_no_memory(tmp_path: Path) -> None:
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 8 << 30
    with gzip.open(tmp_path / "a.tgz", "wb", 1) as file:
        file.write(header.tobuf(tarfile.GNU_FORMAT))
        for _ in range(300):
            file.write(bytes(1 << 20))
    script = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from langhops_cli.data.fetching.unpack import unpack\n"
        "from langhops_cli.errors import UserError\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try:\n"
        "    unpack(Path(sys.argv[1]), Path(sys.argv[2]))\n"
        "except UserError as error:\n"
        "    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, error)\n"
    )
    words = [sys.executable, "-c", script, str(tmp_path / "a.tgz"), str(tmp_path / "out")]
    said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    kilobytes, _, message = said.partition(" ")
    assert "too long" in message
    assert int(kilobytes) < 50_000


def test_negative_sizes_in_a_tar_do_not_go_round_and_round(tmp_path: Path) -> None:
    header = bytearray(tarfile.TarInfo("._a").tobuf(tarfile.GNU_FORMAT))
    header[124:136] = b"\xff" * 10 + b"\xfe\x00"  # -512
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    (tmp_path / "a.tar").write_bytes(bytes(header) + bytes(1024))
    refusal(tmp_path / "a.tar", tmp_path / "out")


def test_an_encrypted_zip_is_said_to_be_one(tmp_path: Path) -> None:
    content = bytearray(pack(tmp_path / "a.zip", {"a": b"1"}).read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.find(mark) + offset] |= 1
    (tmp_path / "a.zip").write_bytes(content)
    assert "encrypted" in refusal(tmp_path / "a.zip", tmp_path / "out")


def test_an_unknown_method_of_packing_is_said(tmp_path: Path) -> None:
    content = bytearray(pack(tmp_path / "a.zip", {"a": b"1" * 100}).read_bytes())
    for mark, offset in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        content[content.find(mark) + offset] = 97
    (tmp_path / "a.zip").write_bytes(content)
    assert "cannot be unpacked" in refusal(tmp_path / "a.zip", tmp_path / "out")


def test_a_name_too_long_for_a_disk_is_refused(tmp_path: Path) -> None:
    assert "too long a name" in refusal(pack(tmp_path / "a.zip", {"a" * 300: b""}), tmp_path / "out")


def test_other_kinds_of_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.rar").write_bytes(b"Rar!")
    assert "no archive that can be unpacked" in refusal(tmp_path / "a.rar", tmp_path / "out")


@pytest.mark.parametrize("name", KINDS)
def test_a_stop_leaves_nothing_and_a_later_run_does_all(tmp_path: Path, name: str) -> None:
    archive = pack(tmp_path / name, FILES)

    def stop(done: int, total: int | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        unpack(archive, tmp_path / "out", advance=stop)
    assert list((tmp_path / "out").iterdir()) == []
    assert unpack(archive, tmp_path / "out")
    assert contents(tmp_path / "out") == FILES


def test_a_stop_while_moving_is_mended_by_a_later_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = pack(tmp_path / "a.zip", FILES)
    (tmp_path / "out/set").mkdir(parents=True)
    rename, moved = Path.rename, []

    def rename_some(path: Path, target: Path) -> Path:
        if target.is_relative_to(tmp_path / "out") and not target.name.startswith("."):
            moved.append(target)
            if len(moved) == 3:
                raise KeyboardInterrupt
        return rename(path, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", rename_some)
        with pytest.raises(KeyboardInterrupt):
            unpack(archive, tmp_path / "out")
    assert not is_unpacked(archive, tmp_path / "out")
    assert unpack(archive, tmp_path / "out")
    assert contents(tmp_path / "out") == FILES
    assert len(list((tmp_path / "out").iterdir())) == 3


def test_what_a_killed_run_left_is_cleared(tmp_path: Path) -> None:
    archive = pack(tmp_path / "a.zip", FILES)
    left = tmp_path / "out" / "..a.zip.unpacked.partial-999999999"
    (left / "set").mkdir(parents=True)
    unpack(archive, tmp_path / "out")
    assert not left.exists()
