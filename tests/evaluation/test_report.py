"""The report: what it writes, what the table shows, and what it never leaves unsaid."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from langhops_cli.evaluation.instances.instance_ap import score
from langhops_cli.evaluation.report import CONSISTENCY, INSTANCE_AP, PICTURES, SEMANTIC_HIOU, DatasetCard, Report
from langhops_cli.evaluation.tables import percent, print_report, published_lines

from .scenes import annotation, result, truth

FOUND = [result(1, 1, 0.9, 0, 0, 20, 20)]
CARD = {
    "name": "toys",
    "kind": "coco-parts",
    "split": "val",
    "annotations": "data/toys/val.json",
    "fingerprint": "ab12",
    "names_hash": "cd34",
}


class Odd:
    """A section with brackets in its texts."""

    def to_dict(self):
        return {"share": 0.5}

    def rows(self):
        return [("what", "share"), ("[bold]part[/bold]", "50.0")]

    def notes(self):
        return ["Measured with [care]."]


class Named(Odd):
    def name_rows(self):
        return [("name", "set", "share"), ("dog head", "unseen", "12.3")]


def make(truth_=None, results=FOUND, *, pictures=1, scored=1, sections=None, max_detections=100, **more):
    truth_ = truth_ or truth([annotation(1, 1, 0, 0, 20, 20), annotation(1, 3, 2, 2, 10, 10)])
    return Report(
        protocol=INSTANCE_AP,
        figures=score(truth_, results, max_detections=max_detections),
        sections=sections or {},
        dataset=DatasetCard(**CARD, pictures=pictures, scored=scored),
        model="runs/toys",
        settings={"max_objects": 20},
        results="evaluation/predictions.json",
        command="langhops eval runs/toys --data toys",
        **more,
    )


def shown(report, *, width=140, **options):
    text = io.StringIO()
    print_report(report, Console(file=text, width=width, color_system=None), **options)
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


def test_the_head_tells_what_is_unusual():
    text = shown(make(max_detections=300, label="cross-dataset"))
    assert text.splitlines()[0].strip() == "toys val: 1 picture, cross-dataset, AP in percent, maxDets 300"


def test_sections_come_with_their_notes_and_are_shown_as_they_are():
    report = make(sections={CONSISTENCY: Odd(), PICTURES: Named()})
    text = shown(report, per_name=True)
    assert "Hierarchy consistency" in text
    assert "[bold]part[/bold]" in text
    assert text.count("Measured with [care].") == 1, "pictures are to be looked at, not read"
    assert report.notes() == ["Measured with [care]."] * 2
    saved = report.to_dict()["sections"]
    assert list(saved) == [INSTANCE_AP, CONSISTENCY, PICTURES]
    assert saved[CONSISTENCY] == {"share": 0.5}


def test_a_report_without_instance_ap_says_on_what_it_is():
    card = DatasetCard(**CARD, pictures=2, scored=2)
    report = Report(SEMANTIC_HIOU, card, "runs/toys", sections={SEMANTIC_HIOU: Named()}, label="zero-shot")
    text = shown(report)
    assert text.splitlines()[0].strip() == "toys val: 2 pictures, zero-shot, semantic hIoU"
    assert "dog head" not in text
    assert "dog head" in shown(report, per_name=True)
    assert list(report.to_dict()["sections"]) == [SEMANTIC_HIOU]


def published(*same):
    return {
        "rows": [
            {
                "method": f"method {number}",
                "trained_on": "PartImageNet",
                "same_training": alike,
                "published": {"obj": 83.9, "part": None},
                "difference": {"obj": -1.25, "part": None},
            }
            for number, alike in enumerate(same)
        ]
    }


@pytest.mark.parametrize(
    ("given", "methods"),
    [
        (None, []),
        (published(), []),
        (published(None, None), [0, 1]),
        (published(False, False), [0, 1]),
        (published(False, True), [1]),
    ],
)
def test_published_figures_stand_below_ours_those_trained_alike_where_there_are_any(given, methods):
    figures = "(PartImageNet): obj / part 83.9 / -, difference -1.2 / -"
    lines = [f"published method {number} {figures}" for number in methods]
    assert published_lines(given) == lines
    text = shown(make(published=given))
    assert all(line in text for line in lines)


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
    report = make(label="zero-shot", published=published(True))
    path = report.save(tmp_path / "new" / "folder")
    assert path == tmp_path / "new" / "folder" / "report.json"
    assert [item.name for item in path.parent.iterdir()] == ["report.json"]
    saved = json.loads(path.read_text())
    assert saved == json.loads(json.dumps(report.to_dict()))
    assert (saved["format"], saved["protocol"], saved["label"]) == (2, "instance AP", "zero-shot")
    assert saved["dataset"] == {**CARD, "pictures": 1, "scored": 1}
    figures = saved["sections"]["instance AP"]
    assert figures["mask"]["part"]["ap"] == 0.0
    assert figures["mask"]["obj"]["large"] is None
    assert [row["name"] for row in figures["per_name"]] == ["car", "car wheel"]
    assert (saved["model"], saved["settings"]) == ("runs/toys", {"max_objects": 20})
    assert saved["results"] == "evaluation/predictions.json"
    assert saved["command"] == "langhops eval runs/toys --data toys"
    assert saved["published"] == published(True)
    assert {"python", "torch", "pycocotools"} <= saved["versions"].keys()
