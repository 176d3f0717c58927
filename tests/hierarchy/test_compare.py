"""Names of one tree on those of another."""

from itertools import permutations

import numpy as np
import pytest
import yaml

from langhops_cli.hierarchy.compare import ELSEWHERE, MIN_SIMILARITY, compare_trees
from langhops_cli.hierarchy.similarity import NameEmbeddings
from langhops_cli.vocabulary import parse_vocabulary
from tests.hierarchy.knowledge import given, letters, wordnet


def compare(first, second, cosines=None, **options):
    return compare_trees(
        parse_vocabulary(first), parse_vocabulary(second), wordnet=wordnet(), embeddings=given(cosines or {}), **options
    )


def pairs(found):
    return {
        (match.object, match.part): (match.to_object, match.to_part, match.how)
        for match in found.matches
        if match.how != "none"
    }


def test_a_tree_maps_onto_itself():
    text = "dog:head(ear,eye),leg*4; car:wheel"
    found = compare(text, text)
    assert all(match.how == "exact" and match.similarity == 1.0 for match in found.matches)
    assert all((match.object, match.part) == (match.to_object, match.to_part) for match in found.matches)
    assert [match.part for match in found.matches] == [None, "head", "head: ear", "head: eye", "leg", None, "wheel"]
    assert found.found(parts=False) == (2, 2) and found.found(parts=True) == (5, 5)


def test_spelling_and_meaning_come_before_similarity():
    found = compare(
        "'car (automobile)':hood,wheels,rim".replace("'", '"'),
        "auto:bonnet,wheel,tyre",
        {("rim", "wheel"): 0.99, ("hood", "tyre"): 0.98},
    )
    assert pairs(found) == {
        ("car (automobile)", None): ("auto", None, "same meaning"),
        ("car (automobile)", "hood"): ("auto", "bonnet", "same meaning"),
        ("car (automobile)", "wheels"): ("auto", "wheel", "spelling"),
    }


def test_many_to_one_gives_each_its_best():
    cosines = {("rim", "wheel"): 0.9}
    one = pairs(compare("car:rim,wheel", "car:wheel", cosines))
    assert one == {("car", None): ("car", None, "exact"), ("car", "wheel"): ("car", "wheel", "exact")}
    many = pairs(compare("car:rim,wheel", "car:wheel", cosines, many=True))
    assert many["car", "rim"] == ("car", "wheel", "similar") and many["car", "wheel"] == ("car", "wheel", "exact")


@pytest.mark.parametrize(("cosine", "mapped"), [(MIN_SIMILARITY + 0.01, True), (MIN_SIMILARITY - 0.01, False)])
def test_similar_names_are_mapped_from_the_threshold_on(cosine, mapped):
    found = compare("car:shade", "car:cover", {("shade", "cover"): cosine})
    assert (("car", "shade") in pairs(found)) == mapped
    assert ("car", "shade") in pairs(
        compare("car:shade", "car:cover", {("shade", "cover"): cosine}, min_similarity=0.1)
    )


def test_objects_that_wordnet_knows_to_be_two_are_not_mapped_but_a_kind_is():
    assert pairs(compare("dog", "horse", {("dog", "horse"): 0.9})) == {}
    assert pairs(compare("dog", "husky", {("dog", "husky"): 0.9})) == {("dog", None): ("husky", None, "similar")}
    assert pairs(compare("dog", "tram", {("dog", "tram"): 0.9})) == {("dog", None): ("tram", None, "similar")}


def test_left_is_never_right():
    found = compare("car:left mirror", "car:right mirror", {("left mirror", "right mirror"): 0.97})
    assert ("car", "left mirror") not in pairs(found)


@pytest.mark.parametrize(("cosine", "mapped"), [(ELSEWHERE + 0.01, True), (ELSEWHERE - 0.01, False)])
def test_what_is_left_over_maps_onto_the_same_part_of_another_object(cosine, mapped):
    found = compare(
        "wolf:tail,fang", "dog:tail,paw", {("wolf tail", "dog tail"): cosine, ("wolf fang", "dog paw"): 0.99}
    )
    assert pairs(found) == ({("wolf", "tail"): ("dog", "tail", "similar")} if mapped else {})
    assert [match.elsewhere for match in found.matches if match.how != "none"] == [True] * mapped


def test_one_to_one_is_the_best_assignment():
    """All ways to assign are tried by hand: none has a larger sum, and no pair below the threshold is formed."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        names = ["".join(rng.choice(list("abcde"), 6)) for _ in range(8)]
        first, second = names[:4], names[4:]
        if len(set(names)) < 8:
            continue
        cosines = letters(first) @ letters(second).T
        best = max(
            sum(cosines[row, column] for row, column in enumerate(order) if cosines[row, column] >= 0.3)
            for order in permutations(range(4))
        )
        found = compare_trees(
            parse_vocabulary(";".join(first)),
            parse_vocabulary(";".join(second)),
            wordnet=wordnet(),
            embeddings=NameEmbeddings(letters),
            min_similarity=0.3,
        )
        got = [match for match in found.matches if match.how != "none"]
        assert sum(match.similarity for match in got) == pytest.approx(best, abs=1e-3)
        assert len({match.to_object for match in got}) == len(got)


def test_the_mapping_as_yaml_and_plain_values():
    found = compare("dog:head,fang; cat:tail", "dog:head; cow:tail", {("cat tail", "cow tail"): 0.9})
    assert yaml.safe_load(found.to_yaml()) == {
        "dog": {"to": "dog", "parts": {"head": "head", "fang": None}},
        "cat": {"to": None, "parts": {"tail": {"object": "cow", "part": "tail"}}},
    }
    plain = found.to_dict()
    assert plain["objects"] == {"mapped": 1, "of": 2} and plain["parts"] == {"mapped": 2, "of": 3}
    assert plain["matches"][2]["how"] == "none"
