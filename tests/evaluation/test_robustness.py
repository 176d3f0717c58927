"""What a change of words does to AP: with a system whose words are known, and with a model that reads names."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from langhops_cli.data.index import PreparedDataset
from langhops_cli.evaluation.instances.instance_ap import score
from langhops_cli.evaluation.robustness import Robustness, measure_robustness, vocabulary_changes
from langhops_cli.evaluation.runner import predict_to_file
from langhops_cli.evaluation.vocabulary_change import extend, permute
from langhops_cli.model.structures import DecoderOutput, KeptObjects, Output, Predictions
from langhops_cli.vocabulary import parse_vocabulary

from .prepared import CONFIG, OBJECTS, PARTS, SELDOM, SURE, Reader, car, make_set, wheel
from .scenes import encode

PICTURES = range(3)
ONE = pytest.approx(1.0)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> PreparedDataset:
    return make_set(tmp_path_factory.mktemp("data") / "toys")


class System:
    """Finds every car and wheel that it is asked for by a word that it knows, among at most so many names."""

    def __init__(self, dataset, words, *, most=2000):
        self.dataset, self.words, self.most = dataset, words, most
        self.asked = []

    def predict(self, change, path):
        vocabulary = self.dataset.vocabulary if change is None else change.vocabulary
        objects = range(len(OBJECTS)) if change is None else change.objects
        parts = range(len(PARTS)) if change is None else change.parts
        self.asked.append(None if change is None else change.label)
        names = [(name, number, OBJECTS) for name, number in zip(vocabulary.object_names, objects, strict=True)]
        if len(names) > self.most:
            names = []
        names += [(part.text, number, PARTS) for part, number in zip(vocabulary.part_classes, parts, strict=True)]
        results = []
        for name, number, categories in names:
            if name in self.words and number is not None:
                for place in PICTURES:
                    row = {"image_id": 100 + place, "category_id": categories[number], "score": 0.9}
                    mask = car(place) if categories is OBJECTS else wheel(place)
                    results.append({**row, "segmentation": encode(mask)})
        path.write_text(json.dumps(results))

    def score(self, path):
        return score(self.dataset.annotation_file, path)

    def measure(self, folder, **options) -> Robustness:
        self.predict(None, folder / "own.json")
        figures = self.score(folder / "own.json")
        return measure_robustness(self.predict, self.score, self.dataset.vocabulary, folder, figures=figures, **options)


def test_what_a_system_does_not_know_it_loses(dataset, tmp_path):
    """It knows the car by both words and in the plural, its wheels only by the set's own word."""
    system = System(dataset, {"car", "automobile", "cars", "car wheel"}, most=50)
    found = system.measure(tmp_path, extra=(10, 100))
    labels = ["synonyms", "plurals", "permuted order", "10 more names", "100 more names"]
    assert [item.label for item in found.variations] == labels == system.asked[1:]
    assert (found.own.obj, found.own.part, found.own.all) == (pytest.approx(1), pytest.approx(1), pytest.approx(1))
    synonyms, plurals, order, few, many = found.variations
    # car -> automobile and dog -> domestic dog are the synonyms; all five names have plurals.
    assert (synonyms.changed, plurals.changed, order.changed, few.changed, found.names) == (2, 5, 0, 0, 5)
    for item in (synonyms, plurals):
        assert (item.obj, item.part, item.all) == (pytest.approx(1), pytest.approx(0), pytest.approx(0.5))
        assert (item.largest_name, item.largest) == ("car wheel", pytest.approx(-1))
    for item in (order, few):
        assert (item.obj, item.part, item.largest) == (pytest.approx(1), pytest.approx(1), 0.0)
    assert (few.added, many.added) == (10, 100)
    assert (many.obj, many.part, many.largest_name, many.largest) == (0.0, pytest.approx(1), "car", pytest.approx(-1))
    assert [path.name for path in tmp_path.iterdir()] == ["own.json"]


def test_the_table_says_what_was_changed_and_by_how_much(dataset, tmp_path):
    found = System(dataset, {"car", "automobile", "car wheel"}).measure(tmp_path, extra=(10,))
    assert found.rows() == [
        ("AP in percent", "changed", "obj", "part", "all", "largest change"),
        ("the set's own names", "-", "100.0", "100.0", "100.0", "-"),
        ("synonyms", "2 of 5", "100.0", "0.0", "50.0", "-100.0"),
        ("plurals", "5 of 5", "0.0", "0.0", "0.0", "-100.0"),
        ("permuted order", "-", "100.0", "100.0", "100.0", "0.0"),
        ("10 more names", "-", "100.0", "100.0", "100.0", "0.0"),
    ]
    notes = " ".join(found.notes())
    assert "takes its share of the pairs of name and query" in notes
    assert "the greatest loss is of 'car wheel' with synonyms" in notes
    assert json.loads(json.dumps(found.to_dict()))["variations"][1]["label"] == "plurals"


def test_other_processes_predict_as_often_and_score_nothing(dataset, tmp_path):
    first, other = System(dataset, {"car"}), System(dataset, {"car"})
    first.measure(tmp_path)
    found = measure_robustness(other.predict, lambda path: None, dataset.vocabulary, tmp_path, figures=None)
    assert found is None
    assert other.asked == first.asked[1:]
    assert len(list(tmp_path.glob(".vocabulary-*.json"))) == len(other.asked)  # the first process removes them


def test_nothing_is_left_behind_when_a_model_fails(dataset, tmp_path):
    system = System(dataset, {"car"})
    system.predict(None, tmp_path / "own.json")

    def fail(change, path):
        path.write_text("[")
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError):
        measure_robustness(
            fail, system.score, dataset.vocabulary, tmp_path, figures=system.score(tmp_path / "own.json")
        )
    assert [path.name for path in tmp_path.iterdir()] == ["own.json"]


def test_changes_that_cannot_be_made_are_told():
    changes, left_out = vocabulary_changes(parse_vocabulary("sheep"), seed=0, extra=(5, 100_000, 200_000))
    assert [change.added for change in changes] == [5, max(change.added for change in changes)]  # all there are, once
    assert left_out[:3] == [
        "The vocabulary was not changed to synonyms: no synonym is known of any name.",
        "The vocabulary was not changed to plurals: no name has a plural of its own.",
        "The order was not permuted: the names have but one.",
    ]
    assert left_out[3].startswith("Of 100,000 names to add there are 1,3")
    assert len(left_out) == 5
    assert vocabulary_changes(parse_vocabulary("sheep"), seed=0, extra=()) == ([], left_out[:3])


class NamedReader(Reader):
    """Gives every name its own logits, wherever it stands in the vocabulary, and all other names `strange`."""

    def __init__(self, *, strange: float) -> None:
        super().__init__()
        self.strange = strange

    def forward(self, pictures, vocabulary) -> Output:
        output = super().forward(pictures, vocabulary)
        assert output.parts is not None
        objects = self._named(output.objects, ("car", "dog"), vocabulary, vocabulary.objects)
        parts = self._named(output.parts, ("car wheel", "car door", "dog head"), vocabulary, vocabulary.parts)
        names = [vocabulary.texts[number] for number in vocabulary.parts[0].tolist()]
        asked = torch.tensor([[names.index("car wheel"), names.index("car door")]])
        kept = output.kept
        best = objects.final.logits.max(-1)
        kept = KeptObjects(kept.index, kept.queries, best.indices, best.values, kept.valid, kept.boxes)
        return Output(objects, kept, replace(output.part_queries, name=asked), parts)

    def _named(self, decoded, own, vocabulary, numbers) -> DecoderOutput:
        names = [vocabulary.texts[number] for number in numbers[0].tolist()]
        old = decoded.final
        logits = torch.full((1, old.logits.shape[1], len(names)), self.strange)
        for column, name in enumerate(names):
            if name in own:
                logits[..., column] = old.logits[..., own.index(name)]
        return DecoderOutput(decoded.queries, decoded.valid, Predictions(logits, old.boxes, old.masks))


def figures_of(model, dataset, change, path):
    predict_to_file(model, dataset, path, config=CONFIG, pictures=PICTURES, vocabulary=change, max_objects=20)
    levels = score(dataset.annotation_file, path).main
    return levels.obj.ap, levels.part.ap


@pytest.mark.parametrize("seed", range(4))
def test_the_order_of_names_changes_nothing_for_a_model_that_reads_them(dataset, tmp_path, seed):
    change = permute(dataset.vocabulary, seed=seed)
    assert figures_of(NamedReader(strange=SELDOM), dataset, change, tmp_path / "out.json") == (ONE, ONE)


@pytest.mark.parametrize(("strange", "kept"), [(SELDOM, 1.0), (SURE + 1, 0.0)])
def test_names_that_seem_likelier_take_the_pairs_that_are_scored(dataset, tmp_path, strange, kept):
    change = extend(dataset.vocabulary, [f"thing {number}" for number in range(50)])
    found = figures_of(NamedReader(strange=strange), dataset, change, tmp_path / "out.json")
    assert found == (pytest.approx(kept), ONE)
