"""Running a model over a prepared set: names, limits, sizes, and the same score from memory and from the saved file."""

from __future__ import annotations

import json

import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask

from langhops_cli.data.index import PreparedDataset
from langhops_cli.errors import UserError
from langhops_cli.evaluation.runner import category_ids, evaluate_file, evaluate_model, predict_dataset

from .prepared import CONFIG, OBJECTS, PARTS, SIDE, Reader, car, make_set

ONE = pytest.approx(1.0, abs=1e-12)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return make_set(tmp_path_factory.mktemp("data") / "toys")


def test_a_model_that_is_right_scores_one(dataset):
    report = evaluate_model(Reader(), dataset, config=CONFIG)
    figures = report.figures
    for levels in (figures.mask, figures.box):
        assert (levels.obj.ap, levels.part.ap, levels.all.ap) == (ONE, ONE, ONE)
    assert (figures.pictures, report.dataset.name, report.dataset.split) == (3, "toys", "val")
    assert report.dataset.fingerprint == dataset.fingerprint
    # the faint dogs and doors: nothing of the kind is annotated
    assert figures.without_truth == sum(row["category_id"] in (3, 11) for row in report.predictions) > 0


def test_names_find_their_categories_whatever_the_order_of_ids(dataset):
    truth = json.loads(dataset.annotation_file.read_text())
    assert category_ids(truth["categories"], dataset) == (OBJECTS, PARTS)
    with pytest.raises(UserError, match=r"has no category 'car', which hierarchy\.yaml names") as caught:
        category_ids([row for row in truth["categories"] if row["name"] != "car"], dataset)
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
    figures = evaluate_model(Reader(parts=False), dataset, config=CONFIG).figures
    assert (figures.mask.obj.ap, figures.mask.part.ap) == (ONE, 0.0)
    assert figures.mask.all.ap == pytest.approx(0.5)


@pytest.mark.parametrize(("max_objects", "max_parts"), [(1, 1), (3, 2), (20, 100)])
def test_no_more_results_a_picture_than_asked_for(dataset, max_objects, max_parts):
    results = predict_dataset(
        Reader(), dataset, config=CONFIG, pictures=[0], max_objects=max_objects, max_parts=max_parts
    )
    objects = [row for row in results if row["category_id"] in OBJECTS]
    # two queries under two names each; two part queries under the one name each was made for
    assert len(objects) == min(max_objects, 4)
    assert len(results) - len(objects) == min(max_parts, 2)
    assert max(objects, key=lambda row: row["score"])["category_id"] == 7


def test_results_hold_text_and_numbers_only(dataset):
    """Nothing of a mask's size stays in memory: one of 4096 pixels is a line of text."""
    results = predict_dataset(Reader(), dataset, config=CONFIG, pictures=range(3))
    assert json.loads(json.dumps(results)) == results
    assert all(len(row["segmentation"]["counts"]) < 200 for row in results)


def test_some_pictures_only(dataset):
    model = Reader()
    report = evaluate_model(model, dataset, config=CONFIG, pictures=[2])
    assert len(model.seen) == 1
    assert {row["image_id"] for row in report.predictions} == {102}
    assert (report.figures.mask.all.ap, report.figures.mask.all.instances) == (ONE, 2)
    assert (report.dataset.scored, report.dataset.pictures) == (1, 3)
    assert report.notes()[0].startswith("A quick look: 1 of 3 pictures")


def test_the_saved_file_scores_as_the_memory_did(dataset, tmp_path):
    report = evaluate_model(Reader(), dataset, config=CONFIG)
    report.save(tmp_path)
    again = evaluate_file(tmp_path / "predictions.json", dataset)
    assert again.figures == report.figures
    assert again.dataset == report.dataset


def test_a_file_of_all_pictures_scores_on_some(dataset, tmp_path):
    evaluate_model(Reader(), dataset, config=CONFIG).save(tmp_path)
    some = evaluate_file(tmp_path / "predictions.json", dataset, pictures=[0, 1])
    assert (some.figures.pictures, some.figures.mask.all.ap) == (2, ONE)


def test_larger_pictures_get_masks_of_their_own_size(tmp_path):
    """Pictures are brought to 32 pixels for the model; the 32 x 32 of a mask that it fills are brought back."""
    dataset = make_set(tmp_path / "toys", pictures=1)
    small = CONFIG.from_dict({**CONFIG.to_dict(), "preprocessing": {"shortest": 32, "longest": 32}})
    model = Reader()
    results = predict_dataset(model, dataset, config=small, pictures=[0])
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
    report = evaluate_model(Reader(parts=False), PreparedDataset(tmp_path / "toys", "val"), config=CONFIG)
    assert (report.figures.mask.part.ap, report.not_asked) == (0.0, ["car wheel"])
    assert "the model was not asked for them and misses them (car wheel)" in report.notes()[-1]


def test_progress_is_told_every_picture(dataset):
    told = []

    def watch(places, total):
        for place in places:
            told.append((place, total))
            yield place

    evaluate_model(Reader(), dataset, config=CONFIG, watch=watch)
    assert told == [(0, 3), (1, 3), (2, 3)]
