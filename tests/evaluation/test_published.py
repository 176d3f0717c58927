"""Published figures: all of them are there, and they are shown beside the same set, split and setting only."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from langhops_cli.data.manifests import load_manifest
from langhops_cli.errors import UserError
from langhops_cli.evaluation.published import Publications, beside, find, publications

PPS, INS = ["pascal-part-116"], ["coco", "visual-genome", "lvis"]
PART = ["sa-1b", "paco"]
OURS = {"obj": 0.5, "part": 0.2, "all": 0.3}


def values(rows):
    return {row.method: tuple(row.figures.values()) for row in rows}


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (
            ("partimagenet-ood", "val", "instance AP", None, [*PPS, *INS, *PART]),
            {
                "PSALM (adapted)": (58.6, 11.6, 21.9),
                "PartGLEE": (61.0, 9.57, 21.0),
                "LangHOPS": (62.8, 16.4, 26.7),
                "LangHOPS, no language model": (None, None, 23.2),
                "LangHOPS, no hierarchy": (None, None, 22.5),
                "LangHOPS, one stage": (None, None, 25.4),
            },
        ),
        (
            ("pascal-part-116", "val", "instance AP", None, ["partimagenet-ood"]),
            {"PSALM (adapted)": (8.58, 1.87, 2.89), "PartGLEE": (8.0, 2.18, 3.06), "LangHOPS": (9.57, 2.2, 3.32)},
        ),
        (
            ("ade20k-part-234", "val", "semantic hIoU", "pred-all", None),
            {
                "PartCLIPSeg": (None, None, 11.38),
                "PartCATSeg": (None, None, 24.19),
                "HOPS": (None, None, 27.42),
            },
        ),
        (("partimagenet-ood", "train", "instance AP", None, None), {}),
        (("partimagenet-seg", "val", "instance AP", None, None), {}),
        (("pascal-part-116", "val", "semantic hIoU", None, None), {}),
        (("faces", "val", "instance AP", None, None), {}),
        (("partimagenet-ood", "val", "instance AP", None, ["coco"]), {}),
    ],
)
def test_rows_of_one_setting(asked, expected):
    assert values(find(*asked)) == expected


def test_every_figure_of_the_field_is_there():
    """Figures: 47 of AP and one table of AP without a set; each hIoU row's h is the harmonic mean it says it is."""
    rows = {(table.protocol, table.setting, table.evaluated): len(table.rows) for table in publications().tables}
    assert rows == {
        ("instance AP", None, "PartImageNet"): 18,
        ("instance AP", None, "Pascal-Part-116"): 15,
        ("instance AP", None, None): 2,
        ("semantic hIoU", "oracle-obj", "Pascal-Part-116"): 8,
        ("semantic hIoU", "oracle-obj", "ADE20K-Part-234"): 7,
        ("semantic hIoU", "oracle-obj", "PartImageNet_Seg"): 5,
        ("semantic hIoU", "pred-all", "Pascal-Part-116"): 4,
        ("semantic hIoU", "pred-all", "ADE20K-Part-234"): 3,
        ("semantic hIoU", "pred-all", "PartImageNet_Seg"): 3,
    }
    for table in publications().tables:
        for row in table.rows:
            if table.protocol == "semantic hIoU" and row.values[0] is not None:
                seen, unseen, mean = row.values
                assert mean == pytest.approx(2 * seen * unseen / (seen + unseen), abs=0.11), row.method


def test_the_sets_are_those_that_prepare_knows():
    for name, manifest in (("PartImageNet", "partimagenet"), ("Pascal-Part-116", "pascal-part-116"),
                           ("ADE20K-Part-234", "ade20k-part-234")):  # fmt: skip
        facts, expected = load_manifest(manifest), publications().sets[name]
        assert (facts.objects, facts.parts) == (expected.objects, expected.parts)
        assert facts.splits["val"].images == expected.pictures


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"evaluated": "PartNet"}, "no set is called 'PartNet'"),
        ({"rows": [{"method": "A", "trained_on": "X", "values": [1, 2, 3]}]}, "'X' is not among the training sets"),
        ({"rows": [{"method": "A", "trained_on": None, "values": [1, 2]}]}, "2 values for 3 figures"),
        ({"rows": [{"method": "A", "trained_on": None, "values": [1, 2, 101]}]}, "not in 0..100"),
        ({"protocol": "AP"}, "protocol"),
        ({"maker": "me"}, "maker"),
    ],
)
def test_a_mistake_in_the_file_is_named(change, message):
    content = publications().model_dump()
    content["tables"][0] |= change
    with pytest.raises(ValidationError, match=message):
        Publications.model_validate(content)


@pytest.fixture
def prepared(tmp_path):
    def make(*, kind="partimagenet-ood", pictures=2957, objects=11, parts=38, unused=2, name="partimagenet"):
        folder = tmp_path / name
        folder.mkdir()
        report = {
            "name": name,
            "kind": kind,
            "splits": {"val": {"images": pictures}, "train": {"images": 10}},
            "object_names": objects,
            "part_names": parts,
            "names_without_instances": ["x"] * unused,
        }
        (folder / "report.json").write_text(json.dumps(report))
        return folder

    return make


def compare(folder, split="val", scored=2957, **more):
    return beside(folder, split, OURS, scored=scored, protocol="instance AP", **more)


def test_differences_are_ours_less_theirs(prepared):
    told = compare(prepared(pictures=2950), scored=2950, trained_on=["partimagenet-ood"])
    assert (told["dataset"], told["reason"], told["figures"]) == ("PartImageNet", "", ["obj", "part", "all"])
    row = next(row for row in told["rows"] if row["method"] == "LangHOPS" and row["same_training"])
    assert row["published"] == {"obj": 83.9, "part": 49.2, "all": 56.9}
    assert row["difference"] == {"obj": -33.9, "part": -29.2, "all": -26.9}
    assert "2510.25263" in row["source"]
    lacking = next(row for row in told["rows"] if row["method"] == "VLPart")
    assert lacking["difference"] == {"obj": None, "part": -(4.5 - 20), "all": None}
    assert sum(row["same_training"] for row in told["rows"]) == 5
    unknown = compare(prepared(name="again"))
    assert {row["same_training"] for row in unknown["rows"]} == {None} and "not recorded" in unknown["reason"]


@pytest.mark.parametrize(
    ("made", "asked", "reason"),
    [
        ({"kind": "coco-parts"}, {}, "this set is of the kind coco-parts"),
        ({"kind": "partimagenet-seg"}, {}, "the set has 51 names, the published one 40 objects and 147 parts"),
        ({"parts": 20}, {}, "the set has 33 names, the published one 11 objects and 40 parts"),
        ({}, {"split": "train"}, "the figures are for the split val"),
        ({}, {"scored": 20}, "20 of 2,957 pictures were scored"),
        ({"pictures": 100}, {"scored": 100}, "the split has 100 pictures, the published one 2,957"),
        ({}, {"max_detections": 300}, "300 results a picture and name count here, 100 in what was published"),
    ],
)
def test_nothing_is_compared_that_is_not_the_same(prepared, made, asked, reason):
    told = compare(prepared(**made), **asked)
    assert told == {"dataset": None, "reason": f"Nothing comparable is published: {reason}.", "figures": [], "rows": []}


def test_a_set_without_a_report_is_unknown_and_a_damaged_one_is_named(tmp_path):
    assert "of the kind unknown" in compare(tmp_path)["reason"]
    (tmp_path / "report.json").write_text("{")
    with pytest.raises(UserError, match=r"report\.json cannot be read"):
        compare(tmp_path)


@pytest.mark.parametrize(
    ("kind", "benchmark", "setting", "expected"),
    [
        ("pascal-part-116", "pascal-part-116", "oracle-obj", (59.2, 46.5, 52.1)),
        ("partimagenet-seg", "partimagenet-seg", "oracle-obj", (71.9, 73.7, 72.8)),
        ("pascal-part-116", "pascal-part-116", "pred-all", None),
        ("pascal-part-116", None, "oracle-obj", "the unseen names are not those of the published split"),
        ("coco-parts", "pascal-part-116", "oracle-obj", "this set is of the kind coco-parts"),
    ],
)
def test_zero_shot_figures_belong_to_their_split(prepared, kind, benchmark, setting, expected):
    """A set of the finer names of its published split may name fewer itself."""
    told = beside(
        prepared(kind=kind, pictures=850), "val", {"seen": 0.6, "unseen": 0.4, "h": 0.48},
        scored=850, protocol="semantic hIoU", setting=setting, benchmark=benchmark,
    )  # fmt: skip
    if isinstance(expected, str):
        assert expected in told["reason"] and not told["rows"]
        return
    rows = {row["method"]: row for row in told["rows"]}
    if expected is None:
        assert "LangHOPS" not in rows and rows["HOPS"]["difference"] == {"seen": None, "unseen": None, "h": -1.29}
    else:
        assert tuple(rows["LangHOPS"]["published"].values()) == expected
        assert rows["LangHOPS"]["difference"]["h"] == round(48 - expected[2], 2)
