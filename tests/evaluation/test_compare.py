"""Evaluations side by side: paired intervals, and nothing is compared that was measured on something else."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from langhops_cli.errors import DATA, UserError
from langhops_cli.evaluation.compare import compare
from langhops_cli.evaluation.html import write_comparison
from langhops_cli.evaluation.instances.bootstrap import draw
from langhops_cli.evaluation.instances.matches import MATCHES, load_matches, mean_precision, save_matches, tables
from langhops_cli.evaluation.scoring import score_results

from .prepared import SIDE, car, make_set, wheel
from .scenes import encode

PICTURES = 9


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return make_set(tmp_path_factory.mktemp("data") / "toys", pictures=PICTURES)


def results(shift, *, wheels=range(PICTURES)):
    """Cars moved by so many columns, exact wheels in some of the pictures."""
    found = []
    for number in range(PICTURES):
        shapes = [(7, np.roll(car(number), shift[number % len(shift)], axis=1))]
        shapes += [(40, wheel(number))] if number in wheels else []
        for category, mask in shapes:
            entry = {"image_id": 100 + number, "category_id": category, "score": 0.9 - number / 100}
            found.append({**entry, "segmentation": encode(mask), "bbox": [0, 0, SIDE, SIDE]})
    return found


@pytest.fixture
def evaluate(dataset, tmp_path):
    def run(name, found, **more):
        report = score_results(found, dataset, model_name=f"model {name}", **more)
        report.save(tmp_path / name)
        save_matches(tmp_path / name / MATCHES, report.figures.matches)
        return tmp_path / name, report

    return run


def test_values_are_those_of_the_reports_and_intervals_are_paired(evaluate):
    first, report = evaluate("first", results([0, 6, 12]))
    second, other = evaluate("second", results([0, 6, 12], wheels=range(0, PICTURES, 2)))
    compared = compare([first, second], samples=200, seed=5)
    assert [run.model for run in compared.runs] == ["model first", "model second"]
    for level in ("obj", "part", "all"):
        for kind in ("mask", "box"):
            row = compared.values[f"{kind} {level}"]
            expected = [getattr(getattr(item.figures, kind), level).ap for item in (report, other)]
            assert [value.value for value in row] == pytest.approx(expected)
            assert row[1].difference == pytest.approx(expected[1] - expected[0])
    # The cars are the same, so in every sample their difference is 0, however far their own intervals reach.
    cars = compared.values["mask obj"]
    assert cars[0].interval == cars[1].interval and cars[0].interval[1] - cars[0].interval[0] > 0.1
    assert cars[1].difference_interval == (0.0, 0.0) and not cars[1].is_clear
    wheels = compared.values["mask part"]
    assert wheels[0].interval == pytest.approx((1.0, 1.0)) and wheels[1].is_clear
    assert wheels[1].difference_interval[1] < 0


def test_intervals_are_the_quantiles_of_the_tables_over_the_drawn_pictures(evaluate):
    first, _ = evaluate("first", results([0, 6, 12]))
    second, _ = evaluate("second", results([3, 8]))
    compared = compare([first, second], samples=40, seed=2)
    weights = draw(PICTURES, 40, seed=2).astype(int)
    sampled = []
    for folder in (first, second):
        matches = load_matches(folder / MATCHES)["mask"]
        tabled = [tables(matches, weights[:, sample], areas=("all",)).precision for sample in range(40)]
        sampled.append(np.array([mean_precision(table, matches.places()) for table in tabled]))
    for value, own in zip(compared.values["mask all"], sampled, strict=True):
        assert value.interval == pytest.approx(np.quantile(own, [0.025, 0.975]))
    less = compared.values["mask all"][1].difference_interval
    assert less == pytest.approx(np.quantile(sampled[1] - sampled[0], [0.025, 0.975]))


def test_table_json_and_page_say_the_same(evaluate, tmp_path):
    folders = [evaluate(name, results([shift]))[0] for name, shift in (("a", 0), ("<b>", 6), ("c", 12))]
    compared = compare(folders, samples=50)
    written = [compared.save(tmp_path / "out"), write_comparison(tmp_path / "out", compared)]
    told = json.loads(written[0].read_text())
    page = written[1].read_text()
    assert [path.name for path in written] == ["comparison.json", "comparison.html"]
    assert told["bootstrap"] == {"samples": 50, "seed": 0, "share": 0.95}
    row = told["figures"]["mask obj"]
    assert row[0]["difference"] is None
    stream = io.StringIO()
    compared.print(Console(file=stream, width=200))
    for value in row:
        low, high = value["interval"]
        for text in (f"{100 * value['value']:.1f}", f"[{100 * low:.1f}, {100 * high:.1f}]"):
            assert text in stream.getvalue() and f">{text}<" in page
    for value in row[1:]:
        assert f">{100 * value['difference']:+.1f}<" in page
    assert "&lt;b&gt;" in page and "<b>" not in page and "<svg" in page
    assert "http" not in page.replace('http-equiv="Content', "")
    assert compare(folders, samples=50).to_dict() == compared.to_dict()


def test_folders_of_one_name_are_told_apart(evaluate, tmp_path):
    folders = [evaluate(f"{name}/eval", results([0]))[0] for name in ("a", "b")]
    assert [run.name for run in compare(folders, samples=2).runs] == list(map(str, folders))
    with pytest.raises(UserError, match="is given twice"):
        compare([folders[0], folders[0]], samples=2)


def change(folder, *path, value):
    report = json.loads((folder / "report.json").read_text())
    inside = report
    for key in path[:-1]:
        inside = inside[key]
    inside[path[-1]] = value
    (folder / "report.json").write_text(json.dumps(report))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("dataset", "fingerprint"), "abc", "fingerprint of the set"),
        (("dataset", "split"), "test", "split val and test"),
        (("dataset", "scored"), 3, "number of pictures 9 and 3"),
        (("settings", "max_detections"), 300, r"results a picture \(--max-dets\) 100 and 300"),
        (("protocol",), "semantic hIoU", "protocol instance AP and semantic hIoU"),
        (("format",), 1, "is of format 1, not 2"),
        (("dataset",), {}, "is no report of an evaluation"),
    ],
)
def test_what_was_measured_otherwise_is_refused_in_one_line(evaluate, path, value, message):
    first, second = (evaluate(name, results([0]))[0] for name in ("first", "second"))
    change(second, *path, value=value)
    with pytest.raises(UserError, match=message) as caught:
        compare([first, second], samples=2)
    assert "\n" not in str(caught.value) and caught.value.code == DATA
    assert "second" in str(caught.value)


def test_matches_of_other_pictures_are_refused(evaluate):
    first, second = (evaluate(name, results([0]))[0] for name in ("first", "second"))
    matches = load_matches(second / MATCHES)
    renamed = {kind: replace(item, image_ids=(*item.image_ids[:-1], 7)) for kind, item in matches.items()}
    save_matches(second / MATCHES, renamed)
    with pytest.raises(UserError, match=r"matches\.npz are of different pictures"):
        compare([first, second], samples=2)
    (second / MATCHES).unlink()
    with pytest.raises(UserError, match=r"second.matches\.npz does not exist"):
        compare([first, second], samples=2)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (None, "is no folder of an evaluation"),
        ({}, r"has no report\.json; evaluate first: langhops eval RUN --data NAME --out"),
        (
            {"predictions.json": "[]"},
            r"score them first: langhops eval --predictions .*bare.predictions\.json --data NAME",
        ),
        ({"report.json": "{"}, "is no report of an evaluation"),
        ({"report.json": "[]"}, "is no report of an evaluation"),
    ],
)
def test_a_folder_without_an_evaluation_says_what_to_do(evaluate, tmp_path, files, message):
    first, _ = evaluate("first", results([0]))
    if files is not None:
        (tmp_path / "bare").mkdir()
        for name, text in files.items():
            (tmp_path / "bare" / name).write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        compare([first, tmp_path / "bare"])
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="give two folders"):
        compare([first])


def semantic(folder, h, *, setting="oracle-obj", boundary=False):
    score = {"seen": 0.6, "unseen": None if h is None else 0.3, "h": h, "all": 0.5}
    section = {"setting": setting, "unseen_objects": ["dog"], "ovparts": score, "strict": score}
    section |= {"boundary": score} if boundary else {}
    report = {
        "format": 2,
        "protocol": "semantic hIoU",
        "model": folder.name,
        "dataset": {"name": "toys", "split": "val", "fingerprint": "f", "pictures": 9, "scored": 9},
        "settings": {},
        "sections": {"semantic hIoU": section},
    }
    folder.mkdir()
    (folder / "report.json").write_text(json.dumps(report))
    return folder


def test_semantic_reports_are_compared_without_intervals(tmp_path):
    folders = [
        semantic(tmp_path / "a", 0.4, boundary=True),
        semantic(tmp_path / "b", 0.45),
        semantic(tmp_path / "c", None),
    ]
    compared = compare(folders)
    assert list(compared.values) == [
        f"{score} {key}" for score in ("ovparts", "strict") for key in ("seen", "unseen", "h")
    ]
    row = compared.values["ovparts h"]
    assert [value.value for value in row] == [0.4, 0.45, None]
    assert [value.difference for value in row] == [None, pytest.approx(0.05), None]
    assert all(value.interval is None for value in row)
    assert compared.notes()[0] == "Differences are to a." and "Without intervals" in compared.notes()[1]
    assert compared.to_dict()["bootstrap"] is None
    assert compared.rows()[7:10] == [
        ["ovparts h", "a", "40.0", "-", "-", "-"],
        ["", "b", "45.0", "-", "+5.0", "-"],
        ["", "c", "-", "-", "-", "-"],
    ]
    assert "45.0" in write_comparison(tmp_path / "out", compared).read_text()
    with pytest.raises(UserError, match="setting oracle-obj and pred-all"):
        compare([folders[0], semantic(tmp_path / "d", 0.4, setting="pred-all")])
