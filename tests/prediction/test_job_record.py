"""The record of a job: what was appended is there again, whatever ended the process, in one file or in several."""

from __future__ import annotations

import random

import numpy as np
import pytest

from langhops_cli.errors import UserError
from langhops_cli.prediction.job.record import RECORD, Record
from langhops_cli.prediction.results import Detection, Prediction


def prediction(name: str, frame: int | None = None, seed: int = 0) -> Prediction:
    mask = np.random.default_rng(seed).random((6, 9)) > 0.4
    found = (
        Detection.from_mask(("dog",), 0.5, mask),
        Detection.from_mask(("dog", "head"), 0.25, mask, parent=0),
    )
    return Prediction(name, (6, 9), found, frame, None if frame is None else frame / 10)


def write(folder, names, **options):
    with Record(folder, **options) as record:
        for place, name in enumerate(names):
            record.append([(f"stem-{name}", prediction(name, seed=place))])


def read(folder):
    record = Record(folder)
    record.collect()
    return record, dict(zip(record.entries, record.read(), strict=True))


def test_what_is_appended_comes_back_with_its_stem(tmp_path):
    names = ["a.png", "ü [b].jpg", "\udcff.png", "c#d.png"]
    write(tmp_path, names)
    record, found = read(tmp_path)
    assert list(found) == names
    assert [found[name] for name in names] == [
        (f"stem-{name}", prediction(name, seed=i)) for i, name in enumerate(names)
    ]
    assert [entry.frame for entry in record.entries.values()] == [None] * 4
    assert [item.picture for _, item in record.read(names[::-2])] == names[::-2]


def test_a_torn_line_is_cut_off_and_the_others_stay(tmp_path):
    write(tmp_path, ["a", "b"])
    content = (tmp_path / RECORD).read_bytes()
    first = content.index(b"\n") + 1
    for end in (first, first + 1, *range(first + 9, len(content), 37), len(content) - 1):
        (tmp_path / RECORD).write_bytes(content[:end])
        assert list(read(tmp_path)[1]) == ["a"]
        assert (tmp_path / RECORD).read_bytes() == content[:first]
    (tmp_path / RECORD).write_bytes(content[:first] + b"\0" * 700)  # what some file systems leave after a power cut
    assert list(read(tmp_path)[1]) == ["a"]
    write(tmp_path, ["c"])
    assert list(read(tmp_path)[1]) == ["a", "c"]


def test_a_damaged_line_in_the_middle_is_named_and_nothing_is_lost(tmp_path):
    write(tmp_path, ["a", "b", "c"])
    lines = (tmp_path / RECORD).read_bytes().splitlines(keepends=True)
    content = lines[0] + b'{"file": "x"\n' + lines[2]
    (tmp_path / RECORD).write_bytes(content)
    with pytest.raises(UserError, match=rf"{RECORD}, line 2 is damaged") as caught:
        read(tmp_path)
    assert caught.value.code == 3
    assert (tmp_path / RECORD).read_bytes() == content


def test_a_broken_mask_is_told_with_its_picture(tmp_path):
    write(tmp_path, ["a", "b"])
    text = (tmp_path / RECORD).read_text(encoding="utf-8").replace('"size": [6, 9]', '"size": [6, 8]')
    (tmp_path / RECORD).write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match="the line of a is damaged"):
        read(tmp_path)


def test_several_processes_and_then_others_make_one_record(tmp_path):
    names = [f"{number}.png" for number in range(11)]
    for rank in range(3):
        write(tmp_path, names[rank:6:3], rank=rank, count=3)
    share = next(tmp_path.glob(f".{RECORD}.2.share"))
    share.write_bytes(share.read_bytes()[:-4])  # the second one died as it wrote
    record, found = read(tmp_path)
    assert set(found) == set(names[:6]) - {"4.png"}
    assert [path.name for path in tmp_path.iterdir()] == [RECORD]
    for rank in range(2):
        write(tmp_path, ["4.png", *names[6:]][rank::2], rank=rank, count=2)
    record, _ = read(tmp_path)
    record.arrange(lambda picture, _: names.index(picture))
    assert list(read(tmp_path)[1]) == names


def test_a_crash_while_shares_are_added_counts_no_picture_twice(tmp_path):
    write(tmp_path, ["a", "b"], rank=1, count=2)
    share = next(tmp_path.glob(".*.share"))
    (tmp_path / RECORD).write_bytes(share.read_bytes()[:-20])  # added in part, and still there
    record, found = read(tmp_path)
    assert list(found) == ["a", "b"]
    assert not share.exists()
    (tmp_path / RECORD).write_bytes((tmp_path / RECORD).read_bytes() * 2)
    record, found = read(tmp_path)
    assert list(found) == ["a", "b"]
    record.arrange(lambda picture, _: picture)
    assert len((tmp_path / RECORD).read_bytes().splitlines()) == 2


def test_lines_are_brought_into_order_and_left_alone_where_they_are(tmp_path):
    names = [f"{number:02d}" for number in range(40)]
    mixed = random.Random(3).sample(names, len(names))
    write(tmp_path, mixed)
    lines = (tmp_path / RECORD).read_bytes().splitlines(keepends=True)
    record, _ = read(tmp_path)
    record.arrange(lambda picture, _: picture)
    wanted = b"".join(line for _, line in sorted(zip(mixed, lines, strict=True)))
    assert (tmp_path / RECORD).read_bytes() == wanted
    assert [item.picture for _, item in record.read()] == names
    before = (tmp_path / RECORD).stat()
    record.arrange(lambda picture, _: picture)
    assert (tmp_path / RECORD).stat().st_ino == before.st_ino


def test_frames_belong_to_their_video(tmp_path):
    with Record(tmp_path) as record:
        record.append([("clip-000007", prediction("a#b/clip.mp4#7", 7))])
    _, found = read(tmp_path)
    record, _ = read(tmp_path)
    (entry,) = record.entries.values()
    assert (entry.source, entry.frame) == ("a#b/clip.mp4", 7)
    assert found["a#b/clip.mp4#7"][1].seconds == 0.7


def test_a_record_without_pictures_leaves_no_file(tmp_path):
    with Record(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []
    record = Record(tmp_path)
    record.collect()
    assert list(record.read()) == []
    with pytest.raises(ValueError, match="with statement"):
        record.append([("a", prediction("a"))])
