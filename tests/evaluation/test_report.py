"""The report: what it writes, what the table shows, and what it never leaves unsaid."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from langhops_cli.evaluation.instance_ap import score
from langhops_cli.evaluation.report import DatasetCard, Report, percent

from .scenes import annotation, result, truth

FOUND = [result(1, 1, 0.9, 0, 0, 20, 20)]


def make(truth_=None, results=FOUND, *, pictures=1, scored=1):
    truth_ = truth_ or truth([annotation(1, 1, 0, 0, 20, 20), annotation(1, 3, 2, 2, 10, 10)])
    card = DatasetCard("toys", "val", "data/toys/val.json", "ab12", pictures, scored)
    return Report(
        figures=score(truth_, results),
        dataset=card,
        model="runs/toys",
        settings={"max_objects": 20},
        predictions=results,
        command="langhops eval runs/toys --data toys",
    )


def shown(report, *, width=140, **options):
    text = io.StringIO()
    report.print(Console(file=text, width=width, color_system=None), **options)
    return text.getvalue()


def figures(text):
    """First cells of each line of figures: which, names, instances, AP ..."""
    return [line.split() for line in text.splitlines() if line.strip().startswith(("mask ", "box "))]


def test_the_table_has_objects_parts_and_all_by_mask_and_by_box():
    text = shown(make())
    assert text.splitlines()[0].strip() == "toys val: 1 picture, AP in percent"
    assert [row[:5] for row in figures(text)] == [
        ["mask", "obj", "1", "1", "100.0"],
        ["mask", "part", "1", "1", "0.0"],
        ["mask", "all", "2", "2", "50.0"],
        ["box", "obj", "1", "1", "100.0"],
        ["box", "part", "1", "1", "0.0"],
        ["box", "all", "2", "2", "50.0"],
    ]


def test_the_tables_fit_an_eighty_column_terminal():
    text = shown(make(), per_name=True, width=80)
    assert "…" not in text
    assert all(name in text for name in ("instances", "medium", "large", "R50", "car wheel"))


def test_what_was_not_measured_is_a_dash_and_not_a_zero():
    assert figures(shown(make()))[0][-2] == "-"  # no large object is annotated
    assert percent(None) == "-"
    assert percent(0.0) == "0.0"


def test_names_are_listed_on_request_and_shown_as_they_are():
    odd = truth([annotation(1, 1, 0, 0, 20, 20)])
    odd["categories"][0]["name"] = "[red]car[/red]"
    assert "[red]car[/red]" not in shown(make(odd))
    assert "[red]car[/red]" in shown(make(odd), per_name=True)


def test_a_complete_exhaustive_evaluation_needs_no_remark():
    assert make().notes() == []


@pytest.mark.parametrize(
    ("report", "remark"),
    [
        (lambda: make(pictures=9), "A quick look: 1 of 9 pictures"),
        (
            lambda: make(
                truth([annotation(1, 1, 0, 0, 20, 20), annotation(2, 2, 0, 0, 9, 9)], pictures=2, exhaustive=False),
                [*FOUND, result(1, 2, 0.9, 0, 0, 9, 9)],
            ),
            "The truth is not exhaustive: results of a name that is not annotated in their picture count neither as "
            "right nor as wrong (1 set aside)",
        ),
        (
            lambda: make(results=[*FOUND, result(1, 2, 0.9, 0, 0, 9, 9)]),
            "1 results of names that are annotated nowhere",
        ),
        (lambda: make(truth([annotation(1, 1, 0, 0, 20, 20, segmentation=None)])), "box figures only"),
    ],
)
def test_every_reservation_is_in_the_table_and_in_the_file(report, remark, tmp_path):
    report = report()
    report.save(tmp_path)
    assert remark in shown(report)
    assert any(remark in note for note in json.loads((tmp_path / "report.json").read_text())["notes"])


def test_the_file_says_all_that_is_needed_to_repeat_it(tmp_path):
    report = make()
    assert report.save(tmp_path / "new" / "folder") == [
        tmp_path / "new" / "folder" / "predictions.json",
        tmp_path / "new" / "folder" / "report.json",
    ]
    saved = json.loads((tmp_path / "new" / "folder" / "report.json").read_text())
    assert saved["dataset"] == {
        "name": "toys",
        "split": "val",
        "annotations": "data/toys/val.json",
        "fingerprint": "ab12",
        "pictures": 1,
        "scored": 1,
    }
    assert saved["figures"]["mask"]["part"]["ap"] == 0.0
    assert saved["figures"]["mask"]["obj"]["large"] is None
    assert [row["name"] for row in saved["figures"]["per_name"]] == ["car", "car wheel"]
    assert (saved["model"], saved["settings"]) == ("runs/toys", {"max_objects": 20})
    assert saved["command"] == "langhops eval runs/toys --data toys"
    assert {"python", "torch", "pycocotools"} <= saved["versions"].keys()


@pytest.mark.parametrize("results", [[], FOUND, [*FOUND, *FOUND]])
def test_saved_results_are_the_list_itself(results, tmp_path):
    make(results=results).save(tmp_path)
    assert json.loads((tmp_path / "predictions.json").read_text()) == results


def test_results_that_came_from_a_file_are_not_written_again(tmp_path):
    assert make().save(tmp_path, with_predictions=False) == [tmp_path / "report.json"]
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]
