"""Semantic hIoU of a model and of files: settings, records, the way through files, and what is refused."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import yaml
from PIL import Image

from langhops_cli.data.index import PreparedDataset
from langhops_cli.errors import UserError
from langhops_cli.evaluation.predictions import Ranks
from langhops_cli.evaluation.semantic.files import MapWriter
from langhops_cli.evaluation.semantic.records import RecordReader
from langhops_cli.evaluation.semantic.runner import evaluate_semantic, predict_semantic
from langhops_cli.evaluation.semantic.scoring import score_semantic_files
from langhops_cli.evaluation.semantic.splits import ScoredNames, scored_names
from langhops_cli.prediction.predictor import Predictor
from langhops_cli.vocabulary import Vocabulary

from .prepared import CONFIG, HIERARCHY, SIDE
from .semantic_scene import CARS, DOG, ITEMS, WHEELS, Answers, box, evaluate, make_set

WHEEL, DOOR, HEAD, NONE = range(4)
"""The scored parts in the order of the hierarchy; the last stands for none."""


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    return make_set(tmp_path_factory.mktemp("sets") / "toys")


BY_OBJECT = ScoredNames(Vocabulary.from_dict(yaml.safe_load(HIERARCHY)), records="instance")


def read_maps(folder):
    """Every map with its entry; the label 255 of none becomes NONE."""
    index = json.loads((folder / "index.json").read_text())
    assert index["names"] == ["car wheel", "car door", "dog head"]
    maps = []
    for entry in index["records"]:
        labels = np.asarray(Image.open(folder / entry["file"])).astype(int)
        maps.append((entry, np.where(labels == index["ignore"], NONE, labels)))
    return maps


def count(pairs):
    """A confusion matrix by looking at every pixel."""
    counted = Counter((int(p), int(t)) for pred, true in pairs for p, t in zip(pred.flat, true.flat, strict=True))
    return np.array([[counted[p, t] for t in range(NONE + 1)] for p in range(NONE + 1)])


def truth_of(items):
    """A map by hand: later and smaller parts on top."""
    labels = np.full((SIDE, SIDE), NONE)
    for label, mask in items:
        labels[mask] = label
    return labels


CAR_PARTS = [(DOOR, box(12, 0, 16, 24)), (WHEEL, WHEELS[0]), (WHEEL, box(12, 16, 4, 4))]
TRUTH = {
    (100, "car", 0): truth_of(CAR_PARTS),
    (100, "car", 1): truth_of([(WHEEL, WHEELS[1])]),
    (100, "car", None): truth_of([*CAR_PARTS, (WHEEL, WHEELS[1])]),
    (100, "dog", 2): truth_of([(HEAD, box(8, 32, 12, 12))]),
    (100, "dog", None): truth_of([(HEAD, box(8, 32, 12, 12))]),
    (101, "car", 0): truth_of(CAR_PARTS[:2]),
    (101, "car", 1): truth_of([(WHEEL, WHEELS[1])]),
    (101, "car", None): truth_of([*CAR_PARTS[:2], (WHEEL, WHEELS[1])]),
}


def test_records_of_names_and_of_objects(toys):
    for names, none in ((scored_names(toys), True), (BY_OBJECT, False)):
        reader = RecordReader(toys, names)
        found = {(r.image_id, r.object, r.instance): r for place in range(2) for r in reader[place].records}
        assert set(found) == {key for key in TRUTH if (key[2] is None) == none}
        for key, record in found.items():
            assert (record.truth() == TRUTH[key]).all()
    assert (found[100, "car", 0].inside() == CARS[0]).all()
    assert (found[100, "dog", 2].labels, found[100, "car", 0].labels) == (range(2, 3), range(2))


def test_annotations_that_make_no_record(tmp_path):
    """A part with a box only takes its record with it; a part of no object is in none, unless names are scored."""
    items = [*ITEMS[:7], (12, None, 2), (11, box(40, 40, 4, 4), None)]
    dataset = make_set(tmp_path, items=items, pictures=1)
    whole = RecordReader(dataset, scored_names(dataset))[0]
    assert ([r.object for r in whole.records], whole.without_mask, whole.unowned) == (["car"], 1, 0)
    assert whole.records[0].truth()[42, 42] == DOOR
    assert whole.records[0].inside()[42, 42]
    single = RecordReader(dataset, BY_OBJECT)[0]
    assert ([r.instance for r in single.records], single.without_mask, single.unowned) == ([0, 1], 1, 1)


@pytest.mark.parametrize("unit", ["class", "instance"])
def test_with_the_object_given(toys, tmp_path, unit):
    names = ScoredNames(toys.vocabulary, frozenset({"dog"}), unit)
    result = evaluate(toys, tmp_path, setting="oracle-obj", names=names)
    pairs = []
    for entry, labels in read_maps(tmp_path):
        key = entry["image_id"], entry["object"], entry.get("instance")
        pairs.append((labels, TRUTH[key]))
        if entry["object"] == "dog":
            # no part of a dog is looked for below the upper half, and of its name there is one part alone
            assert (labels == np.where(DOG, HEAD, NONE)).all()
        else:
            assert set(np.unique(labels)) == {WHEEL, DOOR, NONE}
            outside = ~(CARS[0] | CARS[1]) if unit == "class" else ~CARS[entry["instance"]]
            assert ((labels == NONE) == outside).all()
    assert len(pairs) == {"class": 3, "instance": 5}[unit]
    expected = count(pairs)
    assert (result.matrix == expected).all()
    assert (result.records, result.pictures) == (len(pairs), 2)
    # By hand: of the dog's head, 144 pixels, all are found, and 816 of the dog besides.
    assert result.strict.unseen == pytest.approx(144 / (40 * 24))
    assert result.ovparts.unseen == 1.0


def test_with_nothing_given(toys, tmp_path):
    result = evaluate(toys, tmp_path, setting="pred-all", boundary=True)
    maps = read_maps(tmp_path)
    assert [sorted(entry) for entry, _ in maps] == [["file", "image_id"]] * 2
    whole = {
        100: truth_of([*CAR_PARTS, (WHEEL, WHEELS[1]), (HEAD, box(8, 32, 12, 12))]),
        101: TRUTH[101, "car", None],
    }
    assert (result.matrix == count([(labels, whole[entry["image_id"]]) for entry, labels in maps])).all()
    assert not result.matrix[NONE].any()  # as published, every pixel is named
    assert result.records == 3
    assert result.boundary is not None


def test_both_units_of_records_agree_where_nothing_is_given(toys, tmp_path):
    """The objects do not overlap, so that their pixels are counted once either way."""
    names = evaluate(toys, tmp_path / "a", setting="pred-all")
    objects = evaluate(toys, tmp_path / "b", setting="pred-all", names=BY_OBJECT)
    assert (names.matrix == objects.matrix).all()


def test_abstaining_is_asked_for(toys, tmp_path):
    result = evaluate(toys, tmp_path, setting="pred-all", abstain_below=0.4)
    labels = read_maps(tmp_path)[0][1]
    assert (labels[50:, 50:] == NONE).all()
    assert (labels[:20, :8] != NONE).all()
    assert result.made_by["abstain_below"] == 0.4


@pytest.mark.parametrize("setting", ["oracle-obj", "pred-all"])
def test_files_are_scored_again_without_a_model(toys, tmp_path, setting):
    first = evaluate(toys, tmp_path, setting=setting, boundary=True)
    again = score_semantic_files(tmp_path, toys, boundary=True)
    assert again.to_dict() == first.to_dict()
    alone = score_semantic_files(tmp_path, toys, pictures=[1])
    assert (alone.pictures, alone.boundary) == (1, None)
    assert alone.matrix.sum() == SIDE * SIDE


def test_a_picture_without_parts_is_not_asked_of_the_model(tmp_path):
    dataset = make_set(tmp_path / "set", items=[*ITEMS[:3]], pictures=2)
    model = Answers()
    with pytest.raises(UserError, match="none of the 2 pictures has an annotated part"):
        evaluate_semantic(model, dataset, tmp_path / "out", config=CONFIG)
    assert model.seen == 0


def test_two_processes_write_what_one_writes(toys, tmp_path):
    for folder, ranks in (("one", [Ranks()]), ("two", [Ranks(1, 2), Ranks(0, 2)])):
        for rank in ranks:
            predict_semantic(
                Answers(), toys, tmp_path / folder, config=CONFIG, setting="oracle-obj", names=scored_names(toys),
                pictures=range(2), ranks=rank,
            )  # fmt: skip
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file())
    assert files == sorted(p.relative_to(tmp_path / "two") for p in (tmp_path / "two").rglob("*") if p.is_file())
    assert all((tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes() for file in files)


def test_many_names_take_sixteen_bits(tmp_path):
    names = [f"thing {number}" for number in range(300)]
    writer = MapWriter(tmp_path, setting="pred-all", names=names, made_by={})
    writer.finish([[writer.add(1, np.array([[0, 299, 300]], np.uint16))]])
    index = json.loads((tmp_path / "index.json").read_text())
    assert (index["bits"], index["ignore"]) == (16, 65535)
    assert np.asarray(Image.open(tmp_path / "maps" / "1-0.png")).tolist() == [[0, 299, 65535]]


def test_files_of_another_system(toys, tmp_path):
    """Names in another order, not all of them, a label of its own for none, and what lies outside the object."""
    (tmp_path / "m").mkdir()
    values = np.full((SIDE, SIDE), 9, np.uint8)
    values[:24] = 0
    values[WHEELS[0] | WHEELS[1]] = 1
    Image.fromarray(values).save(tmp_path / "m" / "a.png")
    records = [{"image_id": 101, "object": "car", "file": "m/a.png"}]
    index = {"format": 1, "setting": "oracle-obj", "names": ["car door", "car wheel"], "bits": 8, "ignore": 9}
    (tmp_path / "index.json").write_text(json.dumps({**index, "records": records}))
    result = score_semantic_files(tmp_path, toys, pictures=[1])
    predicted = np.where(WHEELS[0] | WHEELS[1], WHEEL, np.where(CARS[0] | CARS[1], DOOR, NONE))
    assert (result.matrix == count([(predicted, TRUTH[101, "car", None])])).all()


def test_a_failing_run_leaves_no_index(toys, tmp_path):
    evaluate(toys, tmp_path)
    broken = PreparedDataset(toys.root, "val")
    broken.image_path = lambda place: toys.root / "nowhere.png"
    with pytest.raises(UserError, match="does not exist"):
        evaluate(broken, tmp_path)
    with pytest.raises(UserError, match=r"index.json does not exist"):
        score_semantic_files(tmp_path, toys)


def test_a_model_of_objects_has_no_parts_to_measure(toys, tmp_path):
    with pytest.raises(UserError, match="trained on objects only"):
        evaluate_semantic(Answers(), toys, tmp_path, config=replace(CONFIG, level="objects"))


def test_the_embedded_model(toys, tmp_path):
    predictor = Predictor.from_pretrained()
    for setting in ("oracle-obj", "pred-all"):
        result = evaluate_semantic(
            predictor.model, toys, tmp_path, config=predictor.config, setting=setting, pictures=[0]
        )
        labelled = RecordReader(toys, result.names)[0].truth() != NONE
        assert result.setting == setting
        assert result.matrix[:, :NONE].sum() == labelled.sum()
        assert 0 <= result.strict.all <= 1
        assert not result.matrix[NONE, :NONE].any()
