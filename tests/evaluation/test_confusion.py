"""Names taken for others, and the quality of pictures, on scenes whose answers are known."""

from __future__ import annotations

import json

import numpy as np
import pytest

from langhops_cli.evaluation.confusion import NameConfusion
from langhops_cli.evaluation.instances.stream import scored_pictures
from langhops_cli.evaluation.pictures import SHOWN, PictureQuality

from .scenes import SIDE, annotation, random_scene, result, truth

CAR, DOG, WHEEL, DOOR, HEAD = 1, 2, 3, 4, 5
NAMES = {CAR: "car", DOG: "dog", WHEEL: "car wheel", DOOR: "car door", HEAD: "dog head"}


def count(truth_, results, **more):
    stream = scored_pictures(truth_, results)
    confusion = NameConfusion(stream.categories, **more)
    for picture in stream:
        confusion.see(picture)
    return confusion.result()


def measure(truth_, results, **more):
    quality = PictureQuality(**more)
    for picture in scored_pictures(truth_, results):
        quality.see(picture)
    return quality.result()


@pytest.mark.parametrize(
    ("results", "pairs", "missed", "nothing", "repeated"),
    [
        ([], {}, 2, {}, 0),
        ([result(1, CAR, 0.9, 0, 0, 40, 40)], {("car", "car"): 1}, 1, {}, 0),
        ([result(1, DOG, 0.9, 0, 0, 40, 40)], {("car", "dog"): 1}, 1, {}, 0),
        # IoU 20/40 is enough, 19/40 is not
        ([result(1, DOG, 0.9, 0, 0, 40, 20)], {("car", "dog"): 1}, 1, {}, 0),
        ([result(1, DOG, 0.9, 0, 0, 40, 19)], {}, 2, {"dog": 1}, 0),
        # the surer one has the say, whichever name it is, the second says nothing new
        ([result(1, CAR, 0.4, 0, 0, 40, 40), result(1, DOG, 0.9, 0, 0, 40, 40)], {("car", "dog"): 1}, 1, {}, 1),
        ([result(1, CAR, 0.9, 0, 0, 40, 40), result(1, DOG, 0.4, 0, 0, 40, 40)], {("car", "car"): 1}, 1, {}, 1),
        # below the least score, and a part where an object is
        ([result(1, CAR, 0.2, 0, 0, 40, 40)], {}, 2, {}, 0),
        ([result(1, WHEEL, 0.9, 0, 0, 40, 40)], {}, 2, {}, 0),
    ],
)
def test_one_picture_worked_by_hand(results, pairs, missed, nothing, repeated):
    """A car at the upper left, a dog at the lower right."""
    set_ = truth([annotation(1, CAR, 0, 0, 40, 40), annotation(1, DOG, 80, 80, 40, 40)])
    found = count(set_, results).objects
    assert (dict(found.pairs), found.missed) == (pairs, missed)
    assert (dict(found.nothing_there), found.repeated, found.set_aside) == (nothing, repeated, 0)
    told = found.to_dict()
    assert told["annotated"] == 2 == told["right"] + told["wrong_name"] + told["missed"]
    assert (
        told["rows"]["car"]["annotated"]
        == sum(told["rows"]["car"]["found_as"].values()) + told["rows"]["car"]["missed"]
    )


def test_of_two_instances_one_takes_its_own_name():
    """Two instances lie almost on one another: the result overlaps the other one more, and means its own."""
    set_ = truth([annotation(1, WHEEL, 0, 0, 40, 40), annotation(1, DOOR, 0, 0, 40, 36)])
    found = count(set_, [result(1, WHEEL, 0.9, 0, 0, 40, 36), result(1, DOOR, 0.8, 0, 0, 40, 36)]).parts
    assert dict(found.pairs) == {("car wheel", "car wheel"): 1, ("car door", "car door"): 1}


def test_crowds_and_unsearched_names_are_set_aside():
    crowd = [annotation(1, CAR, 0, 0, 60, 60, iscrowd=1), annotation(1, CAR, 80, 80, 20, 20)]
    inside = result(1, DOG, 0.9, 5, 5, 20, 20)
    found = count(truth(crowd), [inside]).objects
    assert (found.set_aside, found.annotated.total(), found.nothing_there.total()) == (1, 1, 0)
    alone = [annotation(1, CAR, 80, 80, 20, 20)]
    assert dict(count(truth(alone), [inside]).objects.nothing_there) == {"dog": 1}
    assert count(truth(alone, exhaustive=False), [inside]).objects.set_aside == 1


def brute_force(set_, results, least=0.25):
    """The same by plain loops over decoded pixels."""
    from pycocotools import mask as coco_mask

    def pixels(entry):
        return coco_mask.decode(entry["segmentation"]).astype(bool)

    level = {entry["id"]: entry["parent_id"] is not None for entry in set_["categories"]}
    pairs, nothing, repeated, aside, annotated = {}, {}, 0, 0, 0
    for image in set_["images"]:
        here = [e for e in set_["annotations"] if e["image_id"] == image["id"]]
        said = sorted(
            (e for e in results if e["image_id"] == image["id"] and e["score"] >= least), key=lambda e: -e["score"]
        )
        annotated += sum(not e["iscrowd"] for e in here)
        taken = set()
        for entry in said:
            own = pixels(entry)
            near = []
            for other in here:
                if other["iscrowd"] or level[other["category_id"]] != level[entry["category_id"]]:
                    continue
                shape = pixels(other)
                iou = (own & shape).sum() / (own | shape).sum()
                if iou >= 0.5:
                    near.append((other["category_id"] == entry["category_id"], iou, -other["id"], other))
            free = [item for item in near if item[3]["id"] not in taken]
            if free:
                chosen = max(free, key=lambda item: item[:3])[3]
                taken.add(chosen["id"])
                key = (NAMES[chosen["category_id"]], NAMES[entry["category_id"]])
                pairs[key] = pairs.get(key, 0) + 1
            elif near:
                repeated += 1
            elif any(
                o["iscrowd"] and level[o["category_id"]] == level[entry["category_id"]]
                and (own & pixels(o)).sum() / own.sum() >= 0.5 for o in here
            ):  # fmt: skip
                aside += 1
            else:
                nothing[NAMES[entry["category_id"]]] = nothing.get(NAMES[entry["category_id"]], 0) + 1
    return pairs, nothing, repeated, aside, annotated


@pytest.mark.parametrize("seed", range(15))
def test_same_as_loops_over_pixels(seed):
    set_, results = random_scene(seed)
    found = count(set_, results)
    levels = (found.objects, found.parts)
    pairs, nothing, repeated, aside, annotated = brute_force(set_, results)
    assert {**levels[0].pairs, **levels[1].pairs} == pairs
    assert {**levels[0].nothing_there, **levels[1].nothing_there} == nothing
    assert sum(level.repeated for level in levels) == repeated
    assert sum(level.set_aside for level in levels) == aside
    assert sum(level.annotated.total() for level in levels) == annotated
    json.dumps(found.to_dict(), allow_nan=False)


def test_the_largest_confusions_are_told_first():
    annotations = [annotation(n, CAR, 0, 0, 40, 40) for n in (1, 2, 3)]
    set_ = truth(annotations + [annotation(n, HEAD, 60, 60, 9, 9) for n in (1, 2)], pictures=3)
    results = [result(n, DOG, 0.9, 0, 0, 40, 40) for n in (1, 2, 3)] + [result(1, DOOR, 0.5, 60, 60, 9, 9)]
    found = count(set_, results)
    assert found.objects.confusions() == [("car", "dog", 3)]
    assert found.rows()[1:] == [("objects", "3", "0", "3", "0", "0"), ("parts", "2", "0", "1", "1", "0")]
    assert found.notes()[1] == "Most often under a wrong name: car as dog (3), dog head as car door (1)."


@pytest.mark.parametrize(
    ("results", "quality"),
    [
        ([], 0.0),
        # both found: 1 and 30/40
        ([(CAR, 0.9, 0, 0, 40, 40), (DOG, 0.5, 80, 80, 40, 30)], (1 + 0.75) / 2),
        # one of two: 1 / (1 + 1/2)
        ([(CAR, 0.9, 0, 0, 40, 40)], 1 / 1.5),
        # one of two, and two that are wrong: 1 / (1 + 3/2)
        ([(CAR, 0.9, 0, 0, 40, 40), (DOG, 0.9, 0, 0, 40, 40), (WHEEL, 0.9, 60, 0, 9, 9)], 1 / 2.5),
        # too unsure to count
        ([(CAR, 0.9, 0, 0, 40, 40), (DOG, 0.1, 0, 0, 40, 40)], 1 / 1.5),
    ],
)
def test_quality_of_a_picture_worked_by_hand(results, quality):
    set_ = truth([annotation(1, CAR, 0, 0, 40, 40), annotation(1, DOG, 80, 80, 40, 40)])
    found = measure(set_, [result(1, *entry) for entry in results])
    assert found.mean == pytest.approx(quality) == found.best[0].quality
    assert found.best[0].results == sum(entry[1] >= 0.25 for entry in results)


def test_nobody_is_blamed_for_what_nobody_knows():
    crowd = [annotation(1, CAR, 0, 0, 60, 60, iscrowd=1), annotation(1, CAR, 80, 80, 20, 20)]
    results = [result(1, CAR, 0.9, 80, 80, 20, 20), result(1, CAR, 0.8, 5, 5, 20, 20), result(1, DOG, 0.8, 5, 5, 9, 9)]
    assert measure(truth(crowd), results).mean == pytest.approx(1 / 1.5)  # the dog is wrong, the car on the crowd not
    assert measure(truth(crowd, exhaustive=False), results).mean == 1.0
    assert measure(truth([], pictures=2), []).pictures == 0
    assert measure(truth([], pictures=2), [result(1, CAR, 0.9, 0, 0, 9, 9)]).mean == 0.0


@pytest.mark.parametrize(("pictures", "best", "worst"), [(1, 1, 0), (5, 3, 2), (8, 4, 4), (12, 6, 6), (40, 6, 6)])
@pytest.mark.parametrize("alike", [False, True])
def test_best_and_worst_pictures(pictures, best, worst, alike):
    """The picture n is found to 100 - n percent, in an order that is not theirs; or all are alike."""
    order = [1 + (7 * n + 3) % pictures for n in range(pictures)]
    set_ = truth([annotation(n, CAR, 0, 0, 100, 100) for n in range(1, pictures + 1)], pictures=pictures)
    set_["images"] = [set_["images"][n - 1] for n in order]
    found = measure(set_, [result(n, CAR, 0.9, 0, 0, 100, 100 if alike else 100 - n) for n in range(1, pictures + 1)])
    shown = [item.image_id for item in (*found.best, *found.worst)]
    assert (len(found.best), len(found.worst)) == (best, worst) and len(set(shown)) == len(shown) <= 2 * SHOWN
    assert found.pictures == pictures
    if not alike:
        assert [item.image_id for item in found.best] == list(range(1, best + 1))
        assert [item.image_id for item in found.worst] == list(range(pictures, pictures - worst, -1))
        assert found.mean == pytest.approx(np.mean([1 - n / 100 for n in range(1, pictures + 1)]))
    assert set(found.shown) == set(shown)
    assert all(found.shown[number].image["height"] == SIDE for number in shown)
    assert "shown" not in found.to_dict()
