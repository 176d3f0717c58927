"""Running a model over a prepared set: names, limits, sizes, several ranks, and the same score from the saved file."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from itertools import chain

import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask

from langhops_cli.data.index import PreparedDataset
from langhops_cli.errors import UserError
from langhops_cli.evaluation.predictions import Ranks, remove_shares, write_predictions
from langhops_cli.evaluation.runner import (
    category_ids,
    evaluate_model,
    predict_dataset,
    predict_to_file,
    published_limits,
)
from langhops_cli.evaluation.scoring import score_results
from langhops_cli.evaluation.vocabulary_change import VocabularyChange
from langhops_cli.vocabulary import parse_vocabulary

from .prepared import CONFIG, OBJECTS, PARTS, SIDE, Reader, car, make_set

ONE = pytest.approx(1.0, abs=1e-12)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return make_set(tmp_path_factory.mktemp("data") / "toys")


def results_of(*given, **named):
    return list(chain.from_iterable(predict_dataset(*given, **{"config": CONFIG, **named})))


def test_a_model_that_is_right_scores_one(dataset):
    figures = evaluate_model(Reader(), dataset, config=CONFIG)
    for levels in (figures.mask, figures.box):
        assert (levels.obj.ap, levels.part.ap, levels.all.ap) == (ONE, ONE, ONE)
    assert figures.pictures == 3
    # the faint dogs and doors: nothing of the kind is annotated
    faint = sum(row["category_id"] in (3, 11) for row in results_of(Reader(), dataset, pictures=range(3)))
    assert figures.without_truth == faint > 0


def test_names_find_their_categories_whatever_the_order_of_ids(tmp_path):
    dataset = make_set(tmp_path / "toys")
    assert category_ids(dataset) == (OBJECTS, PARTS)
    (tmp_path / "toys" / "hierarchy.yaml").write_text("car:\n  wheel:\n  roof:\n")
    with pytest.raises(UserError, match=r"has no category 'car roof', which hierarchy\.yaml names") as caught:
        category_ids(PreparedDataset(tmp_path / "toys", "val"))
    assert caught.value.code == 3


def test_the_model_sees_every_picture_with_all_names_and_without_gradient(dataset):
    model = Reader().train()
    evaluate_model(model, dataset, config=CONFIG)
    names = {"car", "dog", "car wheel", "car door", "dog head"}
    assert [(shape, set(texts), *modes) for shape, texts, *modes in model.seen] == [
        ((1, 3, SIDE, SIDE), names, False, False)
    ] * 3
    assert model.training
    assert torch.is_grad_enabled()


def test_the_mode_is_put_back_after_a_fault(dataset):
    model = Reader().train()

    def fault(*_):
        raise RuntimeError("out of memory")

    model.register_forward_pre_hook(fault)
    with pytest.raises(RuntimeError):
        evaluate_model(model, dataset, config=CONFIG)
    assert model.training


def test_a_model_without_parts_misses_them_all(dataset):
    figures = evaluate_model(Reader(parts=False), dataset, config=CONFIG)
    assert (figures.mask.obj.ap, figures.mask.part.ap) == (ONE, 0.0)
    assert figures.mask.all.ap == pytest.approx(0.5)


@pytest.mark.parametrize(("max_objects", "max_parts"), [(1, 1), (3, 2), (20, 100)])
def test_no_more_results_a_picture_than_asked_for(dataset, max_objects, max_parts):
    results = results_of(Reader(), dataset, pictures=[0], max_objects=max_objects, max_parts=max_parts)
    objects = [row for row in results if row["category_id"] in OBJECTS]
    # two queries under two names each; two part queries under the one name each was made for
    assert len(objects) == min(max_objects, 4)
    assert len(results) - len(objects) == min(max_parts, 2)
    assert max(objects, key=lambda row: row["score"])["category_id"] == 7


def test_results_hold_text_and_numbers_only(dataset):
    """Nothing of a mask's size stays in memory: one of 4096 pixels is a line of text."""
    results = results_of(Reader(), dataset, pictures=range(3))
    assert json.loads(json.dumps(results)) == results
    assert all(len(row["segmentation"]["counts"]) < 200 for row in results)


def test_pictures_come_one_after_the_other(dataset):
    """A picture is predicted when it is asked for, so that nothing waits in memory; the mode is put back at the end."""
    model = Reader().train()
    pictures = predict_dataset(model, dataset, config=CONFIG, pictures=range(3))
    assert {row["image_id"] for row in next(pictures)} == {100}
    assert (len(model.seen), model.training) == (1, False)
    assert [{row["image_id"] for row in found} for found in pictures] == [{101}, {102}]
    assert model.training


def test_some_pictures_only(dataset):
    model = Reader()
    figures = evaluate_model(model, dataset, config=CONFIG, pictures=[2])
    assert len(model.seen) == 1
    assert (figures.mask.all.ap, figures.mask.all.instances) == (ONE, 2)


def test_the_saved_file_scores_as_the_memory_did(dataset, tmp_path):
    path = tmp_path / "new" / "predictions.json"
    predict_to_file(Reader(), dataset, path, config=CONFIG, pictures=range(3))
    again = score_results(path, dataset)
    assert again.figures == evaluate_model(Reader(), dataset, config=CONFIG)
    assert (again.dataset.name, again.dataset.split, again.dataset.fingerprint) == ("toys", "val", dataset.fingerprint)
    memory = score_results(json.loads(path.read_text()), dataset)
    assert memory.to_dict() == {**again.to_dict(), "results": ""}
    assert [path.name for path in path.parent.iterdir()] == ["predictions.json"]


def test_a_file_of_all_pictures_scores_on_some(dataset, tmp_path):
    predict_to_file(Reader(), dataset, tmp_path / "p.json", config=CONFIG, pictures=range(3))
    some = score_results(tmp_path / "p.json", dataset, pictures=[0, 1])
    assert (some.figures.pictures, some.figures.mask.all.ap) == (2, ONE)
    assert (some.dataset.scored, some.dataset.pictures) == (2, 3)
    assert some.notes()[0].startswith("A quick look: 2 of 3 pictures")


def test_the_hash_of_the_names_changes_with_them(tmp_path):
    whole = score_results([], make_set(tmp_path / "toys")).dataset
    (tmp_path / "toys" / "hierarchy.yaml").write_text("car:\n  door:\n")
    fewer = score_results([], PreparedDataset(tmp_path / "toys", "val")).dataset
    assert whole.fingerprint == fewer.fingerprint
    assert whole.names_hash != fewer.names_hash


def test_nothing_is_written_where_a_picture_fails(dataset, tmp_path):
    class Broken(Reader):
        def forward(self, pictures, vocabulary):
            if len(self.seen) == 2:
                raise RuntimeError("no more")
            return super().forward(pictures, vocabulary)

    with pytest.raises(RuntimeError, match="no more"):
        predict_to_file(Broken(), dataset, tmp_path / "p.json", config=CONFIG, pictures=range(3))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("pictures", "count"), [(7, 2), (7, 3), (1, 2), (3, 4), (0, 2)])
def test_ranks_write_the_file_that_one_writes(tmp_path, pictures, count):
    """To the byte, whatever the shares, and nothing is left of them; pictures without a result too."""
    found = [[{"image_id": number, "score": index / 7} for index in range(number % 3)] for number in range(pictures)]
    write_predictions(tmp_path / "one.json", found)
    barrier = threading.Barrier(count)
    faults = []

    def write(rank):
        ranks = Ranks(rank, count, lambda: barrier.wait(60))
        try:
            write_predictions(tmp_path / "all.json", (found[place] for place in ranks.share(range(pictures))), ranks)
        except Exception as error:
            faults.append(error)

    threads = [threading.Thread(target=write, args=(rank,)) for rank in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert faults == []
    assert (tmp_path / "all.json").read_bytes() == (tmp_path / "one.json").read_bytes()
    assert json.loads((tmp_path / "all.json").read_text()) == list(chain.from_iterable(found))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["all.json", "one.json"]


def test_a_share_that_the_first_rank_does_not_see_is_told(tmp_path):
    path = tmp_path / "maps" / "p.json"
    with pytest.raises(UserError, match=r"2-of-2\.share is not there: all machines must write into one") as caught:
        write_predictions(path, [], Ranks(0, 2))
    assert caught.value.code == 4
    for folder in (path.parent, tmp_path):
        write_predictions(folder / "whole.json", [])
        (folder / ".p.json.1-of-2.share").touch()
    remove_shares(tmp_path)
    assert sorted(item.name for item in tmp_path.rglob("*")) == ["maps", "whole.json", "whole.json"]


def test_other_names_are_scored_as_what_they_stand_for(dataset):
    """ "dog" comes first, "automobile" stands for the car, and "boat" for nothing of the set."""
    names = parse_vocabulary("dog:head; automobile:tyre,door; boat")
    change = VocabularyChange("synonyms", names, objects=(1, 0, None), parts=(2, 0, 1))
    model = Reader()
    found = results_of(model, dataset, pictures=[0], vocabulary=change)
    assert {"automobile", "boat", "automobile tyre"} <= set(model.seen[0][1])
    # What the model says of its first object name now goes to the dog, and of its second to the car.
    best = max((row for row in found if row["category_id"] in OBJECTS), key=lambda row: row["score"])
    assert best["category_id"] == 3


def test_published_limits_follow_the_kind_of_the_set(tmp_path):
    dataset = make_set(tmp_path / "toys")
    assert published_limits(dataset) == (20, 100)
    for kind, limits in (("partimagenet-ood", (5, 95)), ("pascal-part-116", (20, 100))):
        (tmp_path / "toys" / "report.json").write_text(json.dumps({"kind": kind, "inputs": {}}))
        assert published_limits(dataset) == limits


def test_scoring_a_file_loads_no_model_and_no_torch():
    script = (
        "import sys, langhops_cli.cli.evaluate_semantic, langhops_cli.evaluation.tables\n"
        "print([name for name in ('torch', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_larger_pictures_get_masks_of_their_own_size(tmp_path):
    """Pictures are brought to 32 pixels for the model; the 32 x 32 of a mask that it fills are brought back."""
    dataset = make_set(tmp_path / "toys", pictures=1)
    small = CONFIG.from_dict({**CONFIG.to_dict(), "preprocessing": {"shortest": 32, "longest": 32}})
    model = Reader()
    results = results_of(model, dataset, config=small, pictures=[0])
    assert model.seen[0][0] == (1, 3, 64, 64)  # the canvas is a multiple of 64
    best = max((row for row in results if row["category_id"] == 7), key=lambda row: row["score"])
    twice = car(0)[:32, :32].repeat(2, axis=0).repeat(2, axis=1)
    assert (coco_mask.decode([best["segmentation"]])[..., 0].astype(bool) == twice).all()


def test_a_picture_that_was_changed_since_is_named(tmp_path):
    dataset = make_set(tmp_path / "toys", pictures=2)
    Image.new("RGB", (SIDE, 10)).save(dataset.image_path(1))
    with pytest.raises(UserError, match=r"1\.png has 64 x 10 pixels, its annotation 64 x 64") as caught:
        evaluate_model(Reader(), dataset, config=CONFIG)
    assert caught.value.code == 3


def test_names_taken_out_of_the_hierarchy_count_as_missed_and_are_told(tmp_path):
    make_set(tmp_path / "toys")
    (tmp_path / "toys" / "hierarchy.yaml").write_text("car:\n  door:\n")
    dataset = PreparedDataset(tmp_path / "toys", "val")
    report = score_results(results_of(Reader(parts=False), dataset, pictures=range(3)), dataset, asked=True)
    assert (report.figures.mask.part.ap, report.not_asked) == (0.0, ["car wheel"])
    assert "the model was not asked for them and misses them (car wheel)" in report.own_notes()[-1]
    assert score_results([], dataset).not_asked == [], "nobody knows what another system was asked for"


def test_progress_is_told_every_picture_of_a_share(dataset, tmp_path):
    told = []

    def watch(places, total):
        for place in places:
            told.append((place, total))
            yield place

    predict_to_file(Reader(), dataset, tmp_path / "p.json", config=CONFIG, pictures=range(3), watch=watch)
    assert told == [(0, 3), (1, 3), (2, 3)]
    told.clear()
    predict_to_file(
        Reader(), dataset, tmp_path / "p.json", config=CONFIG, pictures=range(3), watch=watch, ranks=Ranks(1, 2)
    )
    assert told == [(1, 1)]
