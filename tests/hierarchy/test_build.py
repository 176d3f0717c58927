"""Proposals: which sources speak, what they are taken for, and how sure they make one."""

import json

import numpy as np
import pytest

from langhops_cli.errors import UserError
from langhops_cli.hierarchy.build import LARGEST_ADVANTAGE, build_parts, complete
from langhops_cli.hierarchy.evidence import STRENGTH
from langhops_cli.hierarchy.known import KnownTrees, load_known
from langhops_cli.vocabulary import VocabularyError, parse_vocabulary
from tests.hierarchy.knowledge import FIRST, SECOND, embeddings, given, known, wordnet

TREES = {"first": FIRST, "second": SECOND}


def propose(*objects, trees=TREES, names=None, **options):
    options = {"min_confidence": 0.0, "most": 99, **options}
    return build_parts(objects, trees=trees, wordnet=wordnet(), embeddings=names or embeddings(), **options)


def parts(proposal, place=0):
    return {part.name: part for part in proposal.objects[place].parts}


def sources(part):
    return {(source.kind, source.name, source.owner) for source in part.sources if source.kind != "similar objects"}


def together(*strengths):
    return 1 - np.prod([1 - strength for strength in strengths])


def test_a_known_object_has_the_parts_of_every_tree_and_of_wordnet():
    found = parts(propose("Dogs"))
    assert sources(found["head"]) == {
        ("tree", "first", "dog"),
        ("tree", "second", "dog"),
        ("WordNet, inherited", "WordNet", "animal"),
    }
    assert sources(found["tail"]) == {("tree", "first", "dog")}
    assert sources(found["paw"]) == {("tree", "second", "dog"), ("WordNet, inherited", "WordNet", "canine")}
    assert found["leg"].count == 4 and found["head"].count == 1


def test_the_sources_together_fail_only_where_all_fail():
    found = parts(propose("dog", names=given({})))  # no name is like another, so no similar objects speak
    tree, inherited = STRENGTH["tree"], STRENGTH["WordNet, inherited"]
    assert found["head"].confidence == pytest.approx(together(tree, tree, inherited), abs=1e-4)
    assert found["paw"].confidence == pytest.approx(together(tree, inherited), abs=1e-4)
    assert found["tail"].confidence == pytest.approx(tree)
    assert [part.confidence for part in found.values()] == sorted((p.confidence for p in found.values()), reverse=True)


def test_trees_of_one_family_are_one_opinion():
    tree = parse_vocabulary("dog:snout")
    one = parts(propose("dog", trees={"pascal-part": tree}, names=given({})))["snout"]
    two = parts(propose("dog", trees={"pascal-part": tree, "pascal-part-116": tree}, names=given({})))["snout"]
    other = parts(propose("dog", trees={"pascal-part": tree, "paco": tree}, names=given({})))["snout"]
    assert one.confidence == two.confidence < other.confidence
    assert len(two.sources) == 2


@pytest.mark.parametrize(
    ("name", "understood", "kind", "part"),
    [
        ("husky", "a kind of dog, says WordNet", "tree of a kind", "snout"),
        ("zebra", "like horse a kind of equine, says WordNet", "tree of a relative", "mane"),
        ("bicicle", "most like bicycle of all known objects", "tree of the nearest", "saddle"),
    ],
)
def test_an_unknown_object_borrows_and_says_so(name, understood, kind, part):
    proposal = propose(name)
    assert understood in proposal.objects[0].understood
    assert any(remark.startswith(f"{name} is {understood}") for remark in proposal.remarks)
    assert kind in {source.kind for source in parts(proposal)[part].sources}


def test_an_object_like_none_has_no_parts_and_says_so():
    proposal = propose("qq", names=given({}))
    assert proposal.objects[0].parts == ()
    assert "nothing is known of the parts of qq" in proposal.remarks
    assert str(proposal.vocabulary) == "qq"


def test_the_nearest_object_makes_as_sure_as_it_is_similar():
    found = parts(propose("cycle", names=given({("cycle", "bicycle"): 0.6})))
    assert found["saddle"].confidence == pytest.approx(STRENGTH["tree of the nearest"] * 0.6)


def test_similar_objects_speak_by_their_share():
    """Two objects of one similarity, both with a head, and three with none: the share is one."""
    trees = {"first": parse_vocabulary("cow:head,horn; goat:head,beard; tram:door")}
    names = given({("calf", "cow"): 0.6})
    vectors = {name: names([name])[0] for name in ("calf", "cow")}
    vectors["goat"] = vectors["cow"]

    class Alike:
        def __call__(self, wanted):
            return np.stack([vectors[name] if name in vectors else np.eye(512)[300] for name in wanted])

        def cosines(self, rows, columns):
            return self(rows) @ self(columns).T

    found = parts(propose("calf", trees=trees, names=Alike()))
    [similar] = [source for source in found["head"].sources if source.kind == "similar objects"]
    assert similar.strength == pytest.approx(STRENGTH["similar objects"], abs=1e-3)
    assert similar.owner == "cow, goat"
    assert not [source for source in found["horn"].sources if source.kind == "similar objects"]


def test_a_part_of_wordnet_has_the_name_that_trees_use_without_its_objects():
    found = parts(propose("car", trees={"first": parse_vocabulary("bus:bonnet,door")}, names=given({})))
    assert set(found) == {"door", "bonnet"}  # of "hood" and "bonnet" the one that a tree knows; no "car door"
    assert found["door"].sources[0].kind == "WordNet"


class Language:
    """Says what it was told of each part."""

    def __init__(self, told):
        self.told = told

    def advantage(self, owner, names):
        return np.array([self.told.get(name, 0.0) for name in names])


def test_a_language_model_multiplies_the_odds_within_bounds():
    plain = parts(propose("dog", names=given({})))
    told = {"tail": np.log(3.0), "head": -9.0, "leg": 0.0}
    model = propose("dog", names=given({}), language_model=Language(told))
    asked = parts(model)

    def odds(part):
        return part.confidence / (1 - part.confidence)

    assert odds(asked["tail"]) / odds(plain["tail"]) == pytest.approx(3, rel=1e-2)
    assert odds(asked["head"]) / odds(plain["head"]) == pytest.approx(np.exp(-LARGEST_ADVANTAGE), rel=1e-2)
    assert asked["leg"].confidence == plain["leg"].confidence
    assert asked["tail"].advantage == pytest.approx(np.log(3), abs=1e-4) and plain["tail"].advantage is None
    assert "language model" in model.ranked_by
    assert "no language model was asked" in propose("dog").ranked_by


def test_least_confidence_and_number_leave_parts_out_and_count_them():
    everything = propose("dog").objects[0]
    few = propose("dog", most=2).objects[0]
    sure = propose("dog", min_confidence=0.7).objects[0]
    assert [part.name for part in few.parts] == [part.name for part in everything.parts[:2]]
    assert few.left_out == len(everything.parts) - 2
    assert sure.parts and all(part.confidence >= 0.7 for part in sure.parts)
    assert len(sure.parts) + sure.left_out == len(everything.parts)


def test_the_proposal_is_a_vocabulary_file_and_plain_values(tmp_path):
    proposal = propose("dog", "husky", min_confidence=0.3)
    path = tmp_path / "names.yaml"
    path.write_text(proposal.vocabulary.to_yaml(), encoding="utf-8")
    assert parse_vocabulary(f"@{path}") == proposal.vocabulary
    assert "leg*4" in str(proposal.vocabulary)
    plain = json.loads(json.dumps(proposal.to_dict()))
    assert [item["name"] for item in plain["objects"]] == ["dog", "husky"]
    assert all(0 <= part["confidence"] <= 1 for item in plain["objects"] for part in item["parts"])


def test_complete_fills_only_what_has_no_parts():
    asked = parse_vocabulary("cat:paw; dog; car:wheel")
    options = {"trees": TREES, "wordnet": wordnet(), "embeddings": embeddings()}
    whole, proposal = complete(asked, **options)
    assert [item.name for item in whole.objects] == ["cat", "dog", "car"]
    assert whole.objects[0] == asked.objects[0] and whole.objects[2] == asked.objects[2]
    assert "head" in {part.name for part in whole.objects[1].parts}
    assert [item.name for item in proposal.objects] == ["dog"]
    assert complete(parse_vocabulary("cat:paw"), **options) == (parse_vocabulary("cat:paw"), None)


@pytest.mark.parametrize("objects", [["dog", "Dog"], [" "], []])
def test_names_twice_or_empty_are_refused(objects):
    with pytest.raises(VocabularyError):
        propose(*objects)


def test_a_missing_language_model_is_told(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        propose("dog", language_model=tmp_path / "none")


def test_known_objects_are_found_by_spelling_meaning_and_kind():
    trees = known()
    assert [item.source for item in trees.find("domestic dogs")] == ["first", "second"]
    assert [item.node.name for item in trees.find("auto")] == ["car (automobile)"]
    assert trees.find("husky") == []
    kind, steps, items = trees.find_kind("husky")
    assert (kind.words[0], steps, len(items)) == ("dog", 1, 2)
    assert trees.find_kind("dog") is None
    kind, names = trees.find_relatives("zebra")
    assert (kind.words[0], names) == ("equine", ["horse"])


def test_objects_without_parts_are_not_known():
    assert KnownTrees({"all": parse_vocabulary("dog; car:wheel")}, wordnet()).names == ["car"]


def test_the_manifests_trees_give_the_usual_parts():
    """The README's sort of question, with all that is shipped but the text encoder."""
    proposal = build_parts(["dog", "husky", "aeroplane"], embeddings=embeddings())
    for place in (0, 1):
        assert {"head", "tail", "ear", "leg"} <= set(parts(proposal, place))
    assert proposal.objects[1].understood == "a kind of dog, says WordNet"
    assert {"wing", "tail", "engine"} <= set(parts(proposal, 2))
    assert {"paco", "partimagenet", "pascal-part", "ade20k-part-234"} <= set(load_known())
    assert "sa-1b" not in load_known()  # it calls everything an object


def test_an_unusual_word_for_an_object_may_be_its_part():
    """WordNet has "wheel" as another word for a bicycle, and the bicycle wheel as a part of it."""
    proposal = build_parts(["bicycle"], trees={}, embeddings=given({}), min_confidence=0.0, most=99)
    assert ("WordNet", "WordNet", "bicycle") in sources(parts(proposal)["wheel"])
    assert "bicycle" not in parts(proposal)
