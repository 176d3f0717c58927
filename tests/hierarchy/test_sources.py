"""One way to name a tree."""

import json
import shutil

import pytest

from langhops_cli.errors import UserError
from langhops_cli.hierarchy.sources import EMBEDDED, checkpoint_names, find_tree, read_checkpoint
from langhops_cli.resources import assets_folder
from langhops_cli.vocabulary import VocabularyError, parse_vocabulary

TREE = parse_vocabulary("dog:head(ear),leg*4")


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working folder with a prepared set, a set of a manifest's name, a vocabulary file and a checkpoint."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LANGHOPS_DATA", raising=False)
    for name in ("mine", "partimagenet"):
        (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data" / name / "hierarchy.yaml").write_text(TREE.to_yaml(), encoding="utf-8")
    (tmp_path / "names.yaml").write_text(TREE.to_yaml(), encoding="utf-8")
    run = tmp_path / "runs" / "stage2"
    run.mkdir(parents=True)
    record = json.loads((assets_folder() / "mini" / "config.json").read_text(encoding="utf-8"))
    (run / "config.json").write_text(json.dumps(record | {"vocabulary": TREE.to_dict()}), encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("dog:head(ear),leg*4", "names"),
        (" @names.yaml", "file"),
        ("mine", "prepared set"),
        ("partimagenet", "prepared set"),  # what is prepared comes before what is known of the dataset
        ("data/mine", "prepared set"),
        ("runs/stage2", "checkpoint"),
    ],
)
def test_every_way_leads_to_the_tree(place, text, kind):
    tree = find_tree(text)
    assert (tree.vocabulary, tree.kind) == (TREE, kind)


def test_the_data_root_is_another_folder_of_sets(place, monkeypatch):
    (place / "data").rename(place / "sets")
    assert find_tree("mine", data_root=place / "sets").vocabulary == TREE
    assert find_tree("partimagenet").kind == "dataset"
    monkeypatch.setenv("LANGHOPS_DATA", str(place / "sets"))
    assert find_tree("partimagenet").kind == "prepared set"


def test_a_dataset_and_the_embedded_checkpoint_have_trees():
    tree = find_tree("paco")
    assert tree.kind == "dataset" and len(tree.vocabulary.part_classes) == 456
    embedded = find_tree(EMBEDDED)
    assert embedded.kind == "checkpoint" and "face" in embedded.vocabulary.object_names


def test_several_texts_are_one_tree():
    assert find_tree(["dog", "cat:paw"]).vocabulary == parse_vocabulary("dog; cat:paw")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dog", "'dog' names no tree: there is no prepared set data/dog, no dataset, no checkpoint of that name. An"),
        ("mime", "did you mean mine[?]"),
        ("partimagenets", "did you mean partimagenet[?]"),
        ("names.yaml", "names.yaml is a file; a file is given as @names.yaml"),
        ("lost.yaml", "looks like a file, but there is none of that name"),
        ("coco-parts", "the names of coco-parts come with its source"),
        ("data", "'data' names no tree"),
        ("../mine", "'../mine' names no tree: there is no prepared set, no dataset"),
    ],
)
def test_an_unclear_name_is_told_in_one_line(place, text, message):
    with pytest.raises(UserError, match=message) as error:
        find_tree(text)
    assert len(str(error.value).splitlines()) == 1


def test_a_mistake_in_the_grammar_is_told_as_everywhere():
    with pytest.raises(VocabularyError, match="empty part name"):
        find_tree("dog:head,,leg")
    with pytest.raises(VocabularyError, match="empty object name"):
        find_tree("")


def test_a_broken_set_or_checkpoint_is_told(place):
    (place / "data" / "mine" / "hierarchy.yaml").write_text("dog: [", encoding="utf-8")
    with pytest.raises(UserError, match=r"hierarchy.yaml, line \d+: not YAML"):
        find_tree("mine")
    record = json.loads((place / "runs" / "stage2" / "config.json").read_text(encoding="utf-8"))
    (place / "runs" / "stage2" / "config.json").write_text(json.dumps(record | {"vocabulary": None}), encoding="utf-8")
    with pytest.raises(UserError, match=r"runs/stage2 keeps no names in its config.json"):
        find_tree("runs/stage2")
    with pytest.raises(UserError, match="does not exist"):
        checkpoint_names(place / "runs" / "none")


def test_of_a_checkpoint_only_the_configuration_is_read(place):
    record, config = read_checkpoint(place / "runs" / "stage2")
    assert record["vocabulary"] == TREE.to_dict()
    assert config.hierarchy.max_queries == 128
    shutil.rmtree(place / "runs")
    assert read_checkpoint(EMBEDDED)[1].level == "parts"


def test_the_hub_is_asked_for_the_configuration_alone(place, monkeypatch):
    asked = []

    def download(repository, name):
        asked.append((repository, name))
        return str(place / "runs" / "stage2" / "config.json")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    tree = find_tree("someone/model")
    assert (tree.vocabulary, tree.kind, tree.name) == (TREE, "checkpoint", "someone/model")
    assert asked == [("someone/model", "config.json")]
