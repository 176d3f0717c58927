"""Truth and results picture by picture: order, checks before the first picture, and memory that does not grow."""

from __future__ import annotations

import json
import tracemalloc

import pytest

from langhops_cli.errors import UserError
from langhops_cli.evaluation.instances.stream import scored_pictures

from .scenes import SIDE, annotation, rectangle, result, truth


def files(tmp_path, truth_, results):
    (tmp_path / "val.json").write_text(json.dumps(truth_))
    (tmp_path / "results.json").write_text(json.dumps(results))
    return tmp_path / "val.json", str(tmp_path / "results.json")


def mixed():
    """Results of three pictures in no order; two of them are not annotated."""
    annotations = [annotation(3, 1, 0, 0, 20, 20), annotation(1, 3, 2, 2, 9, 9, parent_id=3)]
    annotations.append(annotation(1, 1, 0, 0, 30, 30))
    results = [result(image, 1, 0.1 * number, 0, 0, 9, 9) for number, image in enumerate([3, 1, 3, 2, 1])]
    return truth(annotations, pictures=3), results


@pytest.mark.parametrize("kept", ["files", "memory"])
def test_each_picture_has_its_own_in_the_order_of_the_files(tmp_path, kept):
    truth_, results = mixed()
    truth_["images"].reverse()
    given = files(tmp_path, truth_, results) if kept == "files" else (truth_, iter(results))
    pictures = scored_pictures(*given)
    for _ in range(2):  # as often as needed
        seen = list(pictures)
        assert [picture.image["id"] for picture in seen] == [3, 2, 1] == list(pictures.image_ids)
        assert [picture.place for picture in seen] == [0, 1, 2]
        assert [[entry["number"] for entry in picture.results] for picture in seen] == [[0, 2], [3], [1, 4]]
        assert [[entry["id"] for entry in picture.truth] for picture in seen] == [[1], [], [2, 3]]
    assert (len(pictures), pictures.result_count, pictures.has_masks, pictures.exhaustive) == (3, 5, True, True)
    assert [(name.name, name.level, name.instances) for name in pictures.names] == [
        ("car", "object", 2),
        ("car wheel", "part", 1),
    ]


def test_entries_are_whole_and_in_one_form():
    truth_ = truth([annotation(1, 1, 10, 10, 20, 20, segmentation=[[10, 10, 30, 10, 30, 30, 10, 30]])])
    del truth_["annotations"][0]["area"], truth_["annotations"][0]["bbox"], truth_["annotations"][0]["iscrowd"]
    given = {**result(1, 1, 0.5, 10, 10, 20, 20), "id": "a", "extra": 1}
    del given["bbox"]
    part = {**result(1, 3, 1, 12, 12, 5, 5), "id": 9, "parent_id": "a"}
    (picture,) = scored_pictures(truth_, [given, part])
    mask = rectangle(10, 10, 20, 20)
    assert picture.truth == [
        {"id": 1, "image_id": 1, "category_id": 1, "parent_id": None, "segmentation": mask,
         "bbox": [10.0, 10.0, 20.0, 20.0], "area": 400.0, "iscrowd": 0}
    ]  # fmt: skip
    assert picture.results[0] == {
        "number": 0, "id": "a", "image_id": 1, "category_id": 1, "score": 0.5,
        "segmentation": mask, "bbox": [10.0, 10.0, 20.0, 20.0],
    }  # fmt: skip
    assert (picture.results[1]["id"], picture.results[1]["parent_id"], picture.results[1]["score"]) == (9, "a", 1.0)
    assert picture.image == {"id": 1, "file_name": "1.png", "height": SIDE, "width": SIDE}


def test_a_choice_of_pictures_leaves_the_others_out():
    truth_, results = mixed()
    pictures = scored_pictures(truth_, results, image_ids=[2, 1])
    assert pictures.image_ids == (1, 2)
    assert (pictures.result_count, [name.instances for name in pictures.names]) == (3, [1, 1])
    assert [len(picture.results) for picture in pictures] == [2, 1]


def test_a_wrong_entry_of_a_picture_that_is_not_chosen_is_named_all_the_same():
    truth_, results = mixed()
    results[0]["score"] = float("nan")
    with pytest.raises(UserError, match="entry 0: score is nan"):
        scored_pictures(truth_, results, image_ids=[1])


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([(1, None), (2, 7)], "entry 1: parent_id 7 is not the id of exactly one entry of its picture"),
        ([(1, None), (1, None), (3, 1)], "entry 2: parent_id 1 is not"),
        ([(None, None), (2, "1")], "entry 1: parent_id '1' is not"),
        ([(1.5, None)], "entry 0: id 1.5 is neither a whole number nor text"),
        ([(1, True)], "entry 0: parent_id True is neither"),
        ([(2**70, None)], "entry 0: id 1180591620717411303424 is neither"),
    ],
)
def test_ids_that_do_not_exist_are_named(ids, message):
    results = [{**result(1, 1, 0.5, 0, 0, 9, 9), "id": own, "parent_id": parent} for own, parent in ids]
    with pytest.raises(UserError) as caught:
        scored_pictures(truth([]), results)
    assert message in str(caught.value) and "nothing was scored" in str(caught.value)


def test_a_parent_in_another_picture_is_none():
    results = [
        {**result(image, 1, 0.5, 0, 0, 9, 9), "id": image, "parent_id": 1 if image == 2 else None} for image in (1, 2)
    ]
    with pytest.raises(UserError, match="entry 1: parent_id 1 is not"):
        scored_pictures(truth([], pictures=2), results)
    annotations = [annotation(1, 1, 0, 0, 9, 9), annotation(2, 3, 0, 0, 9, 9, parent_id=1)]
    with pytest.raises(UserError, match=r"ground truth, annotations: 1 of 2 entries are wrong.*entry 1: parent_id 1"):
        scored_pictures(truth(annotations, pictures=2), [])


def test_the_first_wrong_entries_are_named_in_the_order_of_the_file():
    """Forms are checked one by one and masks many at a time."""
    results = [result(1, 1, 0.5, 0, 0, 9, 9) for _ in range(6)]
    results[1]["segmentation"]["counts"] = "04"
    results[3]["score"] = None
    results[4]["segmentation"]["counts"] = "0P"
    with pytest.raises(UserError) as caught:
        scored_pictures(truth([]), results)
    assert "3 of 6 entries are wrong, nothing was scored: entry 1: the runs" in str(caught.value)
    assert str(caught.value).endswith("entry 3: no score; entry 4: the counts of its mask are damaged.")


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ({"id": 1, "height": 0, "width": 5}, "entry 0: height 0 is no number of pixels"),
        ({"id": 1, "height": 5, "width": "5"}, "entry 0: width '5' is no number of pixels"),
        ({"id": [1], "height": 5, "width": 5}, r"entry 0: id \[1\] is neither a whole number nor text"),
        ("1.png", "entry 0: '1.png' is no object"),
    ],
)
def test_a_wrong_image_is_named(image, message):
    with pytest.raises(UserError, match=message):
        scored_pictures({"images": [image], "annotations": [], "categories": []}, [])


def test_a_category_of_a_parent_that_is_none_is_named():
    made = truth([])
    made["categories"][2]["parent_id"] = 9
    with pytest.raises(UserError, match=r"categories: 1 of 5 entries are wrong.*entry 2: parent_id 9 is no category"):
        scored_pictures(made, [])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"images": [], "categories": [], "images": [], "annotations": []}', "several lists of images"),
        ('{"images": [], "categories": []}', "no list 'annotations'"),
        ('{"images": 3, "annotations": [], "categories": []}', "no list 'images'"),
        ("[]", "holds no mapping"),
        ('{"images": [], "annotations": [{"image_id"', "is no JSON"),
    ],
)
def test_a_truth_file_that_is_none_is_named(tmp_path, content, message):
    (tmp_path / "val.json").write_text(content)
    with pytest.raises(UserError, match=message) as caught:
        scored_pictures(tmp_path / "val.json", [])
    assert "val.json" in str(caught.value)


@pytest.mark.parametrize("results", [{"annotations": []}, 5])
def test_results_that_are_no_list_are_refused(results):
    with pytest.raises(UserError, match="results holds no list of COCO results"):
        scored_pictures(truth([]), results)


def test_memory_does_not_grow_with_the_results():
    """What 1,500 results more add to the peak is far from what they take when they are held."""
    made = truth([], pictures=20)

    def many(count):
        return (result(1 + number % 20, 1, number / count, 0, number % 100, 20, 20) for number in range(count))

    def peak(action):
        tracemalloc.start()
        action()
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    def go_through(count):
        for picture in scored_pictures(made, many(count)):
            assert len(picture.results) == count // 20

    held = peak(lambda: list(many(1500)))
    go_through(20)
    grown = peak(lambda: go_through(2100)) - peak(lambda: go_through(600))
    assert grown < held / 4
