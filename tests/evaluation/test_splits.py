"""Which names are seen and unseen, from data files, from the user, and what a checkpoint saw of a set."""

from __future__ import annotations

import json

import pytest

from langhops_cli.data.index import PreparedDataset
from langhops_cli.data.manifests import load_manifest
from langhops_cli.data.splits import ZeroShotSplit, load_split, split_names
from langhops_cli.errors import UserError
from langhops_cli.evaluation.semantic.splits import read_unseen, scored_names, setting_of
from langhops_cli.vocabulary import Vocabulary

from .prepared import make_set


@pytest.mark.parametrize(
    ("name", "objects", "parts"),
    [("pascal-part-116", (20, 5), (116, 42)), ("ade20k-part-234", (44, 11), (234, 58)),
     ("partimagenet-seg", (40, 15), (147, 55))],
)  # fmt: skip
def test_published_splits(name, objects, parts):
    split = load_split(name)
    unseen = set(split.unseen)
    assert (len(split.objects), len(unseen)) == objects
    assert (sum(map(len, split.objects.values())), sum(len(split.objects[one]) for one in unseen)) == parts


def test_every_split_file_is_known_and_no_other():
    assert split_names() == ["ade20k-part-234", "partimagenet-seg", "pascal-part-116"]
    with pytest.raises(UserError, match="no split is called 'coco'"):
        load_split("coco")


def test_a_split_names_only_objects_of_its_set():
    with pytest.raises(ValueError, match="no object 'cow boy'"):
        ZeroShotSplit(name="x", manifest="pascal-part-116", source="", records="class", unseen=["cow boy"])
    with pytest.raises(ValueError, match="no object 'tree'"):
        ZeroShotSplit(name="x", manifest="partimagenet", source="", records="class", unseen=[], classes={"tree": {}})


def test_synsets_are_spelt_as_in_file_names():
    synsets = [key for names in load_split("partimagenet-seg").classes.values() for key in names]
    assert len(set(synsets)) == 40
    assert all(len(key) == 9 and key[0] == "n" and key[1:].isdigit() for key in synsets)


def renamed(root, vocabulary):
    """A set whose hierarchy is another one; its pictures show none of it."""
    dataset = make_set(root)
    dataset.vocabulary = Vocabulary.from_dict({name: dict.fromkeys(parts) for name, parts in vocabulary.items()})
    return dataset


def test_a_set_is_told_by_its_objects_its_folder_or_its_kind(tmp_path):
    pascal, seg = load_manifest("pascal-part-116").vocabulary, load_manifest("partimagenet").vocabulary
    names = scored_names(renamed(tmp_path / "mine", pascal))
    assert (names.benchmark, names.records, len(names.unseen)) == ("pascal-part-116", "class", 5)
    kinds = scored_names(renamed(tmp_path / "other", seg))
    assert (kinds.benchmark, len(kinds.parts)) == (None, 40)  # may be the OOD set, whose classes are others
    fine = scored_names(renamed(tmp_path / "partimagenet-seg", seg))
    assert (fine.benchmark, len(fine.parts), len(fine.unseen)) == ("partimagenet-seg", 147, 15)
    told = renamed(tmp_path / "told", seg)
    (tmp_path / "told" / "report.json").write_text(json.dumps({"kind": "partimagenet-seg"}))
    assert scored_names(told).parts == fine.parts
    assert "wine bottle mouth" in fine.parts


def test_finer_objects_are_told_by_the_name_of_the_picture(tmp_path):
    names = scored_names(renamed(tmp_path / "partimagenet-seg", load_manifest("partimagenet").vocabulary))
    assert names.object_in("n02129604_77.JPEG", "quadruped") == "tiger"
    assert names.object_in("val/n02129604/n02129604_77.JPEG", "quadruped") == "tiger"
    assert names.object_in("n02129604_77.JPEG", "bird") is None
    assert names.object_in("n02114367_77.JPEG", "quadruped") is None


def test_a_set_without_a_split_is_all_seen(tmp_path):
    names = scored_names(make_set(tmp_path))
    assert (names.unseen, names.benchmark, names.records) == (frozenset(), None, "class")
    assert names.parts == ("car wheel", "car door", "dog head")
    assert names.owners == ("car", "car", "dog")


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("a.txt", "dog\n\ncar \n"),
        ("b.yaml", "[dog, car]"),
        ("c.yml", "unseen: [dog, car]\nname: mine"),
        (None, "dog, car"),
    ],
)
def test_unseen_names_of_the_user(tmp_path, file, content):
    if file is not None:
        (tmp_path / file).write_text(content)
        content = str(tmp_path / file)
    assert read_unseen(content) == ["dog", "car"]
    assert scored_names(make_set(tmp_path / "set"), content).unseen == {"dog", "car"}


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        (None, "dgo", "no object 'dgo' that could be unseen; did you mean 'dog'"),
        (None, "xylophone", "it has car, dog"),
        (None, "missing.yaml", "does not exist"),
        ("a.yaml", "unseen: dog", "holds no list of names"),
        ("a.yaml", "[dog, 3]", "holds no list of names"),
        ("a.yaml", "{", "cannot be read"),
        ("a.txt", b"\xff\xfe\x00", "cannot be read"),
    ],
)
def test_wrong_unseen_names(tmp_path, file, content, message):
    if file is not None:
        (tmp_path / file).write_bytes(content if isinstance(content, bytes) else content.encode())
        content = str(tmp_path / file)
    with pytest.raises(UserError, match=message) as error:
        scored_names(make_set(tmp_path / "set"), content)
    assert "\n" not in str(error.value)


def test_a_set_without_parts_cannot_be_scored(tmp_path):
    with pytest.raises(UserError, match="names no parts"):
        scored_names(renamed(tmp_path, {"car": [], "dog": []}))


def trained(*, split="train", names=("car", "dog"), fingerprint="x", other=False):
    data = {"toys": {"split": split, "pictures": 3, "fingerprint": fingerprint}}
    data |= {"coco": {"split": "train", "pictures": 9, "fingerprint": "y"}} if other else {}
    return {"data": data, "vocabulary": {name: {"head": None} for name in names}}


@pytest.mark.parametrize(
    ("record", "setting"),
    [
        (trained(), "supervised"),
        (trained(names=["car"]), "zero-shot"),
        (trained(names=["car"], other=True), "zero-shot"),
        (trained(other=True), "supervised"),
        (trained(split="train_16shot"), "few-shot (train_16shot)"),
        ({"data": {"coco": {"split": "train"}}}, "cross-dataset"),
        ({}, None),
        ({"data": 3}, None),
        ({"data": {"toys": "x"}}, None),
    ],
)
def test_what_a_checkpoint_saw(tmp_path, record, setting):
    dataset = make_set(tmp_path / "toys")
    assert setting_of(record, dataset, scored_names(dataset, ["dog"])) == setting


def test_a_checkpoint_on_its_own_training_pictures(tmp_path):
    dataset = make_set(tmp_path / "renamed")
    assert setting_of(trained(fingerprint=dataset.fingerprint), dataset) == "training pictures"


def test_objects_that_no_training_picture_shows_are_unseen(tmp_path):
    """As ADE20K-Part-234 is prepared: training asks for the unseen objects, and no picture has them."""
    make_set(tmp_path / "toys", split="train")
    dataset = make_set(tmp_path / "toys")
    dog, both = scored_names(dataset, ["dog"]), scored_names(dataset, ["dog", "car"])
    assert setting_of(trained(), dataset, dog) == "zero-shot"
    assert setting_of(trained(), dataset, both) == "zero-shot for 1 of 2 unseen objects"
    assert setting_of(trained(other=True), dataset, dog) == "supervised"  # the other set may have shown it


def test_a_kind_that_was_taught_teaches_its_classes(tmp_path):
    dataset = renamed(tmp_path / "partimagenet-seg", load_manifest("partimagenet").vocabulary)
    assert isinstance(dataset, PreparedDataset)
    kinds = [kind for kind in load_split("partimagenet-seg").classes if kind not in ("bird", "car")]
    record = {"data": {"partimagenet-seg": {"split": "train"}}, "vocabulary": {kind: {"body": None} for kind in kinds}}
    assert setting_of(record, dataset) == "zero-shot for 3 of 15 unseen objects"
