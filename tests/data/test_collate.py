from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from langhops_cli.data.collate import Collate, to_targets
from langhops_cli.data.names import choose_names, leave_parts_out
from langhops_cli.data.sample import Sample, SampleInstance, box_of
from langhops_cli.vocabulary import parse_vocabulary


def _other(car_sample: Sample) -> Sample:
    mask = np.zeros((70, 20), np.uint8)
    mask[10:30, 5:15] = 1
    return replace(
        car_sample,
        name="dog.png",
        image=Image.new("RGB", (20, 70)),
        objects=[SampleInstance(0, mask, box_of(mask))],
        parts=[],
        vocabulary=parse_vocabulary("dog:leg*4,head; car"),
    )


def test_pictures_with_different_vocabularies_share_a_batch(car_sample: Sample) -> None:
    batch = Collate(queries_per_part=2)([car_sample, _other(car_sample)])
    assert batch.pictures.pixels.shape == (2, 3, 128, 64)
    assert batch.pictures.sizes.tolist() == [[30, 40], [70, 20]]
    words = batch.vocabulary
    assert [words.texts[n] for n in words.objects[1][words.object_valid[1]]] == ["dog", "car"]
    assert [words.texts[n] for n in words.parts[1][words.part_valid[1]]] == ["dog leg", "dog head"]
    assert words.texts.count("car") == 1
    assert words.part_valid.tolist() == [[True, True, True], [True, True, False]]
    assert words.children[1, 0][words.child_valid[1, 0]].tolist() == [0, 0, 0, 0, 1, 1]
    assert [target.name for target in batch.targets] == ["car.png", "dog.png"]


def test_targets_hold_masks_boxes_and_parents(car_sample: Sample) -> None:
    targets = to_targets(car_sample)
    assert targets.objects.labels.tolist() == [1, 0]
    torch.testing.assert_close(targets.objects.boxes[1], torch.tensor([19 / 40, 14 / 30, 30 / 40, 20 / 30]))
    assert targets.parts.parents is not None
    assert targets.parts.parents.tolist() == [1, 1]
    assert targets.parts.masks is not None
    assert targets.parts.masks.dtype == torch.uint8
    assert targets.parts.masks.shape == (2, 30, 40)
    for mask, item in zip(targets.parts.masks, car_sample.parts, strict=True):
        np.testing.assert_array_equal(mask.numpy(), item.mask)


def test_a_picture_without_instances_and_one_with_boxes_only(car_sample: Sample) -> None:
    empty = to_targets(replace(car_sample, objects=[], parts=[]))
    assert empty.objects.boxes.shape == (0, 4)
    assert empty.objects.masks is not None
    assert empty.objects.masks.shape == (0, 30, 40)
    assert empty.parts.parents is not None
    assert empty.parts.parents.shape == (0,)
    boxes = [replace(item, mask=None) for item in car_sample.objects]
    assert to_targets(replace(car_sample, objects=boxes)).objects.masks is None


def test_names_that_may_be_there_unannotated_are_no_negatives(car_sample: Sample) -> None:
    assert to_targets(car_sample).parts.negatives.tolist() == [True, True, True]
    unsure = replace(car_sample, exhaustive=False, unsure_parts=frozenset({1}), unsure_objects=frozenset({0}))
    assert to_targets(unsure).parts.negatives.tolist() == [True, False, True]
    assert to_targets(unsure).objects.negatives.tolist() == [False, True]


def test_a_batch_moves_as_a_whole(car_sample: Sample) -> None:
    moved = Collate()([car_sample]).to("meta")
    assert moved.pictures.pixels.device.type == "meta"
    assert moved.vocabulary.objects.device.type == "meta"
    assert moved.targets[0].parts.boxes.device.type == "meta"


def _large(car_sample: Sample) -> Sample:
    others = "; ".join(f"thing {n}:top {n},base {n}(foot {n})" for n in range(50))
    vocabulary = parse_vocabulary(f"car:left door,right door,wheel; {others}; left shoe")
    objects = [replace(car_sample.objects[0], label=51), car_sample.objects[1]]
    foot = 3 + 3 * 20 + 2  # the foot of thing 20
    parts = [*car_sample.parts, replace(car_sample.parts[0], label=foot, parent=-1)]
    return replace(car_sample, vocabulary=vocabulary, objects=objects, parts=parts, unsure_objects=frozenset({7}))


@pytest.mark.parametrize("limit", [1, 10, 40])
def test_a_choice_of_names_keeps_what_is_in_the_picture(car_sample: Sample, limit: int) -> None:
    sample = _large(car_sample)
    chosen = choose_names(sample, max_names=limit, generator=np.random.default_rng(0))

    def named(sample: Sample) -> list[tuple[str, str]]:
        words = sample.vocabulary
        labels = [("object", words.object_names[item.label]) for item in sample.objects]
        labels += [("part", words.part_classes[item.label].text) for item in sample.parts]
        return labels + [("unsure", words.object_names[label]) for label in sample.unsure_objects]

    assert named(chosen) == named(sample)
    assert len(chosen.vocabulary.objects) == max(limit, 4)  # car, shoe, and the owners of the foot and the doubt
    assert len(chosen.vocabulary.part_classes) >= min(limit, 4)
    assert "thing 20 base 20" in [part.text for part in chosen.vocabulary.part_classes], "the foot needs its base"


def test_a_choice_of_names_is_random_by_seed_and_spares_small_vocabularies(car_sample: Sample) -> None:
    sample = _large(car_sample)
    same = [choose_names(sample, max_names=10, generator=np.random.default_rng(3)).vocabulary for _ in range(2)]
    other = choose_names(sample, max_names=10, generator=np.random.default_rng(4)).vocabulary
    assert same[0] == same[1]
    assert same[0] != other
    assert choose_names(car_sample, max_names=10, generator=np.random.default_rng(0)) is car_sample


def test_collation_draws_names_by_the_samples_draw(car_sample: Sample) -> None:
    collate = Collate(max_names=8)
    first, again, other = (collate([replace(_large(car_sample), draw=draw)]).vocabulary.texts for draw in (1, 1, 2))
    assert first == again
    assert first != other


def test_parts_left_out_of_the_names_lose_their_instances_and_doubts(car_sample: Sample) -> None:
    sample = replace(_large(car_sample), unsure_parts=frozenset({0, 5}))
    words = sample.vocabulary.part_classes
    shares = []
    for seed in range(40):
        asked = leave_parts_out(sample, chance=0.3, generator=np.random.default_rng(seed))
        left = [part.text for part in asked.vocabulary.part_classes]
        shares.append(len(left) / len(words))
        assert asked.vocabulary.object_names == sample.vocabulary.object_names
        assert asked.objects == sample.objects, "only parts are left out"
        stays = [item for item in sample.parts if words[item.label].text in left]
        assert [left[item.label] for item in asked.parts] == [words[item.label].text for item in stays]
        for item, before in zip(asked.parts, stays, strict=True):
            assert (item.mask is before.mask, item.parent) == (True, before.parent)
        assert {left[n] for n in asked.unsure_parts} == {words[n].text for n in (0, 5)} & set(left)
        assert all(text.replace("foot", "base") in left for text in left if "foot" in text), "feet go with their base"
    # a third of the parts of "thing N" is a part of another of them and goes with it: 0.7 or 0.49 of each
    assert 0.55 < np.mean(shares) < 0.7


def test_all_parts_may_go_and_none_goes_without_a_chance(car_sample: Sample) -> None:
    bare = leave_parts_out(car_sample, chance=1.0, generator=np.random.default_rng(0))
    assert (bare.parts, bare.vocabulary.part_classes) == ([], ())
    assert Collate()([bare, car_sample]).vocabulary.part_valid.tolist() == [[False] * 3, [True] * 3]
    assert leave_parts_out(car_sample, chance=0.0, generator=np.random.default_rng(0)) == car_sample


def test_collation_leaves_parts_out_by_the_samples_draw(car_sample: Sample) -> None:
    collate = Collate(drop_parts=0.5)
    asked = [collate([replace(car_sample, draw=draw)]).vocabulary.texts for draw in range(20)]
    assert asked == [collate([replace(car_sample, draw=draw)]).vocabulary.texts for draw in range(20)]
    assert len({tuple(texts) for texts in asked}) > 4
