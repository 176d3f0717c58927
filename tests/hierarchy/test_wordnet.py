import pytest

from langhops_cli.hierarchy.wordnet import TABLE, load_wordnet
from langhops_cli.resources import manifests_folder
from tests.hierarchy.knowledge import wordnet


def words(wordnet, name):
    found = wordnet.find(name)
    return None if found is None else found.words


def test_a_name_is_taken_in_its_most_usual_visible_meaning():
    small = wordnet()
    assert words(small, "dog") == words(small, "Dogs") == words(small, "domestic dog") == ("dog", "domestic dog")
    assert words(small, "mug") == ("mug", "beaker")  # no person, though that meaning is the more usual one
    assert words(small, "flux capacitor") is None


def test_a_remark_chooses_the_meaning():
    small = wordnet()
    assert words(small, "bat (animal)") == words(small, "bat") == ("bat",)
    assert words(small, "bat (thing for cricket)") == ("bat", "cricket bat")


def test_kinds_are_told_nearest_first_with_steps():
    small = wordnet()
    above = [(meaning.words[0], steps) for meaning, steps in small.above(small.find("husky").number)]
    assert above == [("husky", 0), ("dog", 1), ("canine", 2), ("animal", 3), ("thing", 4)]


def test_parts_are_inherited_and_those_of_a_body_are_its_owners():
    small = wordnet()
    parts = [(part.words[0], kind.words[0], steps) for part, kind, steps in small.parts_of(small.find("husky").number)]
    assert parts == [("paw", "canine", 2), ("animal's head", "animal", 3)]
    athlete = [part.words[0] for part, _, _ in small.parts_of(small.find("athlete").number)]
    assert athlete == ["torso"]


def test_names_share_unusual_meanings():
    small = wordnet()
    assert small.find("hood") != small.find("bonnet")
    assert small.meanings_of("hoods") & small.meanings_of("bonnet")
    assert not small.meanings_of("hood") & small.meanings_of("door")


@pytest.mark.parametrize(
    ("one", "other", "unlike"),
    [
        ("dog", "horse", True),
        ("husky", "dog", False),
        ("dog", "husky", False),
        ("dog", "tram", False),
        ("dog", "dogs", False),
    ],
)
def test_things_are_unlike_if_known_and_neither_is_a_kind_of_the_other(one, other, unlike):
    assert wordnet().unlike(one, other) == unlike


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("bicycle", {"pedal", "handlebar", "chain"}),
        ("dog", {"paw", "head", "tail"}),
        ("person", {"head", "neck", "arm", "leg"}),
        ("table", {"leg"}),
        ("bird", {"beak", "wing", "feather"}),
    ],
)
def test_the_shipped_table_knows_parts_of_common_things(name, wanted):
    table = load_wordnet()
    parts = {word for part, _, _ in table.parts_of(table.find(name).number) for word in part.words}
    assert wanted <= parts


def test_the_shipped_table_is_whole_and_has_its_licence():
    text = (manifests_folder() / TABLE).read_text(encoding="utf-8")
    assert "WordNet 3.0 Copyright 2006 by Princeton University" in text
    assert "without fee or" in text and "DISCLAIMER" not in text.partition("\nentity")[2]
    table = load_wordnet()
    assert len(table.meanings) > 20_000
    numbers = range(len(table.meanings))
    for meaning in table.meanings:
        assert meaning.words and all(meaning.words)
        assert all(number in numbers for number in (*meaning.kinds, *meaning.parts))


def test_the_shipped_table_says_what_is_a_kind_of_what():
    table = load_wordnet()
    kinds = {meaning.words[0] for meaning, _ in table.above(table.find("husky").number)}
    assert "dog" in kinds
    assert table.find("aeroplane") == table.find("airplane")
    assert "mug" not in {meaning.words[0] for meaning, _ in table.above(table.find("person").number)}
