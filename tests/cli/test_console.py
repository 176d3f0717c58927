import pytest
from rich.console import Console

from langhops_cli.cli import console


@pytest.mark.parametrize(
    ("total", "lines"),
    [
        (3, ["index 1/3", "index 2/3", "index 3/3"]),
        (40, [f"index {number}/40" for number in range(4, 41, 4)]),
        (0, []),
    ],
)
def test_progress_is_at_most_ten_plain_lines_when_piped(capsys, total, lines):
    assert list(console.progress(range(total), label="index", total=total)) == list(range(total))
    shown = capsys.readouterr()
    assert shown.err.splitlines() == lines
    assert shown.out == ""


def test_progress_is_a_bar_on_a_terminal(monkeypatch, capsys):
    monkeypatch.setattr(console, "err", Console(stderr=True, force_terminal=True, width=100))
    assert list(console.progress("abc", label="index", total=3)) == ["a", "b", "c"]
    assert "3/3" in capsys.readouterr().err


def test_progress_that_takes_long_says_how_fast_it_is(monkeypatch, capsys):
    clock = iter([100.0, 101.0, 110.0])
    monkeypatch.setattr(console.time, "monotonic", lambda: next(clock))
    assert list(console.progress("ab", label="index", total=2)) == ["a", "b"]
    assert capsys.readouterr().err.splitlines() == ["index 1/2", "index 2/2, 0.2/s"]


def test_results_and_notes_go_to_different_streams_unchanged(capsys):
    console.say("[bold]1[/bold] :cat: " + "x" * 300)
    console.note("[red]2")
    console.print_error("3 [x]")
    console.print_json({"names": ["é", "[b]"], "score": 0.5})
    shown = capsys.readouterr()
    assert shown.out.splitlines()[0] == "[bold]1[/bold] :cat: " + "x" * 300
    assert shown.out.splitlines()[1:] == ["{", '  "names": [', '    "é",', '    "[b]"', "  ],", '  "score": 0.5', "}"]
    assert shown.err == "[red]2\nerror: 3 [x]\n"
