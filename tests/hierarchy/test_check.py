"""What is told of a tree, and what is not."""

import pytest

from langhops_cli.hierarchy.check import NEAR_SYNONYM, Budget, check_tree, queries_of
from langhops_cli.hierarchy.known import KnownTrees
from langhops_cli.vocabulary import parse_vocabulary
from tests.hierarchy.knowledge import given, wordnet

KNOWN = KnownTrees(
    {"all": parse_vocabulary("thing:head,leg,wheel,tail,hood,bonnet,left mirror,right mirror,mirror")}, wordnet()
)


def check(text, cosines=None, known=KNOWN, budget=None):
    return check_tree(
        parse_vocabulary(text), known=known, wordnet=wordnet(), embeddings=given(cosines or {}), budget=budget
    )


def told(findings, topic):
    return [(finding.level, finding.where, finding.text) for finding in findings if finding.topic == topic]


@pytest.mark.parametrize("text", ["dog:head,leg", "car:left mirror,right mirror,mirror", "dog:head; car:wheel*4"])
def test_nothing_is_told_of_a_good_tree(text):
    assert check(text, {("left mirror", "right mirror"): 0.95}) == []


def test_spellings_of_one_name_are_an_error():
    [(level, where, text)] = told(check("car:wheel,Wheels,head"), "one name")
    assert (level, where) == ("error", "car")
    assert text == "'wheel' and 'Wheels' are one name in several spellings; keep one"
    [(level, where, _)] = told(check("dog:head; dogs:head"), "one name")
    assert (level, where) == ("error", "")


def test_parts_of_two_objects_may_have_one_name():
    assert told(check("car:wheel; dog:wheels"), "one name") == []


def test_words_for_one_thing_are_noted():
    [(level, where, text)] = told(check("car:hood,bonnet"), "near-synonym")
    assert (level, where) == ("note", "car")
    assert "mean one thing, says WordNet" in text


@pytest.mark.parametrize(("cosine", "count"), [(NEAR_SYNONYM + 0.01, 1), (NEAR_SYNONYM - 0.01, 0)])
def test_similar_names_are_noted_from_the_threshold_on(cosine, count):
    findings = [f for f in check("car:wheel,head", {("wheel", "head"): cosine}) if f.topic == "near-synonym"]
    assert len(findings) == count
    assert all(finding.similarity == pytest.approx(cosine, abs=0.005) for finding in findings)
    objects = [f for f in check("car:wheel; van:wheel", {("car", "van"): cosine}) if f.topic == "near-synonym"]
    assert [finding.where for finding in objects] == [""] * count
    two = check("dog:head; horse:head", {("dog", "horse"): cosine})  # WordNet knows both, and that they are two
    assert told(two, "near-synonym") == []


def test_objects_that_are_parts_are_noted():
    found = told(check("car:wheel; van:wheels; wheel:tail; dog:dog,dog head"), "object and part")
    assert [where for _, where, _ in found] == ["dog", "wheel"]
    assert "an object and a part of 'car' and 'van'" in found[1][2]
    [(_, where, text)] = told(check("dog:dog head"), "one name")
    assert where == "dog" and "'dog dog head': write 'head'" in text


def test_unknown_parts_come_with_the_nearest_known_one():
    [(level, where, text)] = told(check("car:flux,wheel(heads)", {("flux", "hood"): 0.44}), "unknown part")
    assert (level, where) == ("note", "car")
    assert text == "no known tree has a part 'flux'; the nearest is 'hood' (similarity 0.44)"


@pytest.mark.parametrize(("queries", "topics"), [(3, ["error"]), (4, ["note"]), (8, ["note"]), (40, [])])
def test_more_names_than_queries(queries, topics):
    """A head, a leg and two tails: four queries; the model looks at ten objects."""
    budget = Budget(queries=queries, kept=10, per_part=1)
    found = told(check("dog:head,leg,tail*2; car:wheel", budget=budget), "budget")
    assert [level for level, _, _ in found] == topics
    assert all(where == "dog" for _, where, _ in found)
    if queries == 8:
        assert "only the 2 likeliest objects" in found[0][2]


def test_queries_are_counted_as_the_model_counts_them():
    from langhops_cli.model.structures import VocabularyBatch

    tree = parse_vocabulary("dog:head(ear*2,eye),leg*4; car")
    batch = VocabularyBatch.of([tree], queries_per_part=3)
    assert list(queries_of(tree, 3).values()) == batch.child_valid[0].sum(1).tolist()[:2]


def test_parts_that_come_in_numbers():
    trained = parse_vocabulary("car:wheel*3,hood")
    budget = Budget(queries=99, kept=1, per_part=1, trained=trained)
    [(_, where, text)] = told(check("cars:wheels,hood; dog:leg", budget=budget), "instances")
    assert where == "cars" and "the model was trained to find 3" in text
    assert told(check("car:wheel*2,hood", budget=budget), "instances") == []
    [(_, _, text)] = told(check("dog:legs"), "instances")
    assert "write 'leg*4'" in text


def test_objects_that_the_model_never_met():
    budget = Budget(queries=99, kept=1, per_part=1, trained=parse_vocabulary("car; van"))
    assert told(check("Cars; van", budget=budget), "new to the model") == []
    [(level, _, text)] = told(check("car; dog; cow", budget=budget), "new to the model")
    assert level == "note" and text.startswith("'dog' and 'cow'")


def test_errors_come_first():
    levels = [finding.level for finding in check("car:legs,wheel,wheels,hood,bonnet; wheel")]
    assert levels == sorted(levels) and {"error", "note"} == set(levels)
