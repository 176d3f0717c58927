import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from langhops_cli.data import json_stream
from langhops_cli.data.json_stream import Items, stream_list, stream_mapping
from langhops_cli.errors import DATA, UserError

NUMBERS = [0, -7, 12345678901234567890, 1.5, -0.25, 6.02e23, 1e-9]
TEXTS = ["", "car tire", 'a "quoted" \\ name', "größe", "轮子", "🚗", "line\nbreak", "[", "},{"]

Write = Callable[[str | bytes], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def run(text: str | bytes) -> Path:
        path = tmp_path / "file.json"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return run


def _mapping(path: Path) -> dict[str, Any]:
    return {
        key: [row for row, _ in value] if isinstance(value, Items) else value for key, value in stream_mapping(path)
    }


def _value(generator: random.Random, depth: int) -> Any:
    kind = generator.randrange(8 if depth else 5)
    if kind < 2:
        return generator.choice(NUMBERS)
    if kind < 4:
        return generator.choice(TEXTS)
    if kind == 4:
        return generator.choice([None, True, False])
    if kind == 5:
        return {generator.choice(TEXTS): _value(generator, depth - 1) for _ in range(generator.randrange(4))}
    return [_value(generator, depth - 1) for _ in range(generator.randrange(4))]


@pytest.mark.parametrize("seed", range(12))
def test_documents_are_read_as_json_reads_them_wherever_they_are_cut(
    write: Write, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    generator = random.Random(seed)
    entries = [_value(generator, 3) for _ in range(6)]
    mapping = {"numbers": NUMBERS, "none": [], "entries": entries, **{f"k{n}": v for n, v in enumerate(entries)}}
    for style in ({"indent": 3}, {"separators": (",", ":")}, {"ensure_ascii": False}):
        whole, rows = json.dumps(mapping, **style), json.dumps(entries, **style)
        for chunk in (1, 2, 3, 7, 16, 50, 1 << 20):
            monkeypatch.setattr(json_stream, "CHUNK", chunk)
            assert _mapping(write(whole)) == mapping
            assert [row for row, _ in stream_list(write(rows))] == entries


def test_every_cut_of_a_number_and_a_text_is_survived(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    text = '[1.25, -1.5e+10, 2E-3, 10, "\\ud83d\\ude00 \\u00e9\\\\", true, null, -Infinity, {"a": [1.5]}, 7]'
    expected = json.loads(text)
    for lead in range(len(text)):
        monkeypatch.setattr(json_stream, "CHUNK", lead + 1)
        assert [row for row, _ in stream_list(write(text))] == expected


def test_each_entry_comes_with_its_text(write: Write) -> None:
    path = write('{"rows": [ {"id": 1,  "x": [1, 2]} ,\n"two", 3 ]}')
    ((key, rows),) = ((key, list(items)) for key, items in stream_mapping(path))
    assert key == "rows"
    assert rows == [({"id": 1, "x": [1, 2]}, '{"id": 1,  "x": [1, 2]}'), ("two", '"two"'), (3, "3")]


def test_lists_that_are_not_gone_through_are_skipped(write: Write) -> None:
    path = write('{"a": [1, [2, 3], {"b": []}], "c": [], "d": [4, 5, 6], "e": 7}')
    seen: dict[str, Any] = {}
    for key, value in stream_mapping(path):
        seen[key] = next(iter(value))[0] if key == "d" else isinstance(value, Items) or value
    assert seen == {"a": True, "c": True, "d": 4, "e": 7}


def test_numbers_that_are_none_arrive(write: Write) -> None:
    ((row, _),) = stream_list(write('[{"bbox": [NaN, Infinity, -Infinity, 1]}]'))
    assert math.isnan(row["bbox"][0])
    assert row["bbox"][1:] == [math.inf, -math.inf, 1]


@pytest.mark.parametrize(("text", "expected"), [("{}", {}), (" {\n} \n", {}), ('{"a":[]}', {"a": []})])
def test_empty_mappings_are_read(write: Write, text: str, expected: dict[str, Any]) -> None:
    assert _mapping(write(text)) == expected


def test_an_empty_list_is_read(write: Write) -> None:
    assert list(stream_list(write(" [ ] "))) == []


def test_a_byte_order_mark_and_windows_line_ends_are_no_fault(write: Write) -> None:
    assert _mapping(write('\ufeff{"a": [1,\r\n2]}\r\n')) == {"a": [1, 2]}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "holds no mapping"),
        ("[]", "holds no mapping"),
        ("3", "holds no mapping"),
        ('{"a": [1, 2', "expected , or ], found the end"),
        ('{"a": [{"b": 1}, {"b"', "is no JSON"),
        ('{"a": "never closed', "Unterminated string"),
        ('{"a": 1', "found the end"),
        ('{"a": ', "Expecting value"),
        ('{"a"', "expected :, found the end"),
        ('{"a": [1,]}', "Expecting value"),
        ('{"a": [1 2]}', "expected , or ], found 2"),
        ("{1: 2}", "a key that is no text"),
        ('{"a": 1} {"b": 2}', "expected the end, found {"),
        ("{} x", "expected the end, found x"),
        ('{"a": [' + "[" * 100_000, "nested too deep"),
        ('{"a": ' + '{"a":' * 100_000, "nested too deep"),
        ('{"a": ' + "1" * 5000 + "}", "a number of too many digits"),
        ('{"a": ["\\ud800"]}', "half of a character"),
        ('{"a": [{"\\udfff": 1}]}', "half of a character"),
        (b'{"a": "\xff\xfe"}', "is no text in UTF-8"),
        ('{"a": 1}'.encode("utf-16"), "is no text in UTF-8"),
        (b"\x89PNG\r\n\x1a\n", "is no text in UTF-8"),
    ],
)
def test_faults_are_told_in_one_line_with_the_file(write: Write, content: str | bytes, says: str) -> None:
    path = write(content)
    with pytest.raises(UserError) as caught:
        _mapping(path)
    message = str(caught.value)
    assert caught.value.code == DATA
    assert message.startswith(str(path))
    assert says in message
    assert "\n" not in message


def test_the_place_of_a_fault_is_that_in_the_file(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_stream, "CHUNK", 16)
    text = '{"rows": [' + '{"id": 1}, ' * 50 + "oops, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13]}"
    with pytest.raises(UserError, match=rf"character {text.index('oops')}\)"):
        _mapping(write(text))


def test_a_list_must_be_a_list_and_end(write: Write) -> None:
    for text, says in (("{}", "holds no list"), ("[1] 2", "expected the end"), ("[1", "found the end")):
        with pytest.raises(UserError, match=says):
            list(stream_list(write(text)))


def test_missing_files_and_folders_are_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        list(stream_mapping(tmp_path / "none.json"))
    with pytest.raises(UserError, match="cannot be read: Is a directory"):
        list(stream_mapping(tmp_path))


def test_a_large_file_that_is_broken_early_is_not_read_on(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write('{"rows": [{"id": 1}, {"id": oops}, ' + '{"id": 2}, ' * 100_000 + "]}")
    read = []
    fill = json_stream._Text._fill

    def count(self: Any, size: int) -> None:
        read.append(size)
        fill(self, size)

    monkeypatch.setattr(json_stream, "CHUNK", 1000)
    monkeypatch.setattr(json_stream._Text, "_fill", count)
    with pytest.raises(UserError, match="Expecting value"):
        _mapping(path)
    assert sum(read) <= 2000


def test_an_entry_larger_than_memory_is_refused_before_it_is_read(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_stream, "CHUNK", 100)
    monkeypatch.setattr(json_stream, "LARGEST", 5000)
    long = '"' + "x" * 4000 + '"'
    assert [len(row) for row, _ in stream_list(write(f"[{long}, {long}]"))] == [4000, 4000]
    endless = '[{"a": "' + "x" * 1_000_000 + '"}]'
    with pytest.raises(UserError, match="an entry of more than 5,000 characters"):
        list(stream_list(write(endless)))
