"""A set's vocabulary in other words, in another order and with more names, and which name is which."""

from __future__ import annotations

import pytest

from langhops_cli.data.manifests import load_manifest, manifest_names
from langhops_cli.evaluation.vocabulary_change import VocabularyChange, extend, permute, rename
from langhops_cli.evaluation.words import load_synonyms, more_names, plurals
from langhops_cli.vocabulary import ObjectNode, PartNode, Vocabulary, VocabularyError, clean_name, parse_vocabulary

STREET = parse_vocabulary("car:wheel*4(rim,tire),hood; person:hand(finger*5),head; bus:wheel,hood; sheep")


def table(words):
    return lambda name, owner: words.get((owner, name), words.get(name, []))


def test_renamed_names_stay_in_their_places_with_their_counts():
    change = rename(
        STREET, table({"car": ["auto"], "tire": ["tyre"], "head": ["noddle"], ("car", "hood"): ["bonnet"]}), label="x"
    )
    assert str(change.vocabulary) == (
        "auto:wheel*4(rim,tyre),bonnet; person:hand(finger*5),noddle; bus:wheel,hood; sheep"
    )
    assert (change.objects, change.parts) == ((0, 1, 2, 3), tuple(range(9)))
    assert (change.label, change.changed, change.added) == ("x", 4, 0)


def test_no_two_names_become_one():
    """The next word is taken, or none: not that of a name beside it, nor one that another name has got already."""
    vocabulary = parse_vocabulary("motorbike:seat,saddle; motorcycle; moped; car:seat")
    words = {
        "motorbike": ["Motorcycle", "cycle"],  # the first stands beside it already
        "motorcycle": ["motorbike", "cycle"],  # the second was just given away
        "moped": ["cycle", "scooter"],
        "saddle": ["seat"],
        "seat": ["chair"],
    }
    change = rename(vocabulary, table(words), label="synonyms")
    assert str(change.vocabulary) == "cycle:chair,saddle; motorcycle; scooter; car:chair"
    assert change.changed == 4


def test_a_permuted_name_is_known_by_its_number():
    for seed in range(5):
        change = permute(STREET, seed=seed)
        assert change == permute(STREET, seed=seed)
        assert [STREET.object_names[number] for number in change.objects] == [*change.vocabulary.object_names]
        own = [STREET.part_classes[number] for number in change.parts]
        assert [(part.text, part.count) for part in own] == [
            (part.text, part.count) for part in change.vocabulary.part_classes
        ]
        assert sorted(change.parts) == list(range(9))
        # Parts of parts stay with theirs.
        above = [None if part.parent is None else STREET.part_classes[part.parent].name for part in own]
        new = change.vocabulary.part_classes
        assert above == [None if part.parent is None else new[part.parent].name for part in new]
    assert len({permute(STREET, seed=seed).objects for seed in range(5)}) > 1


def test_an_order_is_changed_if_it_can_be():
    for text in ("car; bus", "car:wheel,hood", "car:wheel(rim,tire)"):
        vocabulary = parse_vocabulary(text)
        assert all(permute(vocabulary, seed=seed).vocabulary != vocabulary for seed in range(10))
    alone = parse_vocabulary("car:wheel(rim)")
    assert permute(alone, seed=0).vocabulary == alone


def test_parts_that_two_objects_share_are_told_apart():
    wheel = PartNode("wheel")
    vocabulary = Vocabulary((ObjectNode("car", (wheel, PartNode("door"))), ObjectNode("bus", (wheel,))))
    for seed in range(5):
        change = permute(vocabulary, seed=seed)
        assert sorted(change.parts) == [0, 1, 2]


def test_added_names_stand_for_nothing():
    change = extend(STREET, ["dog", "cat"])
    assert change.vocabulary.object_names == (*STREET.object_names, "dog", "cat")
    assert change.vocabulary.part_classes == STREET.part_classes
    assert (change.objects, change.parts) == ((0, 1, 2, 3, None, None), tuple(range(9)))
    assert (change.label, change.changed, change.added) == ("2 more names", 0, 2)
    assert extend(STREET, ["dog"]).label == "1 more name"
    with pytest.raises(VocabularyError, match="object 'Car' stands twice"):
        extend(STREET, ["Car"])


def test_a_number_for_every_name():
    with pytest.raises(ValueError, match="as many numbers"):
        VocabularyChange("x", STREET, (0, 1, 2), tuple(range(9)))


def test_synonyms_of_objects_and_parts():
    words = load_synonyms()
    assert words.of("car")[0] == "automobile"
    assert words.of("car (automobile)") == words.of("car")
    assert (words.of("hood", "car"), words.of("hood", "hoodie")) == (["bonnet", "cowling"], [])
    assert words.of("hood", "car (automobile)") == ["bonnet"]
    assert words.of("mouth", "face") == words.of("nothing at all") == []


def test_the_file_of_synonyms_is_sound():
    for table_of in (load_synonyms().objects, load_synonyms().parts):
        for name, words in table_of.items():
            assert clean_name(name) == name
            assert words
            assert len({name, *words}) == len(words) + 1
            assert all(clean_name(word) == word for word in words)


def test_synonyms_and_plurals_of_every_manifest_make_vocabularies():
    """No name is lost, no two become one, and those that change are counted."""
    changed = 0
    for tree in (load_manifest(name).vocabulary for name in manifest_names()):
        if not tree:
            continue
        vocabulary = Vocabulary.from_dict({owner: dict.fromkeys(parts) for owner, parts in tree.items()})
        for spellings in (load_synonyms().of, plurals):
            change = rename(vocabulary, spellings, label="x")
            old = [*vocabulary.object_names, *(part.name for part in vocabulary.part_classes)]
            new = [*change.vocabulary.object_names, *(part.name for part in change.vocabulary.part_classes)]
            assert change.changed == sum(map(str.__ne__, old, new))
            changed += change.changed
    assert changed > 1000


def test_more_names_are_none_of_the_sets_own():
    vocabulary = parse_vocabulary("car:wheel,headlight; tv:screen; couch; person")
    names = more_names(vocabulary, 2000, seed=0)
    assert len(names) > 1000
    own = {"car", "wheel", "headlight", "tv", "television set", "couch", "sofa", "person", "race car", "sports car"}
    assert not own & set(names)
    assert not {"object", "cabinet/shelf", "other shoes", "car (automobile)"} & set(names)
    assert {"bicycle", "dog"} <= set(names)
    extend(vocabulary, names)  # as a vocabulary: no name stands twice


def test_the_draw_of_more_names():
    """Fewer are the first of more, another seed draws others, the same one the same."""
    vocabulary = parse_vocabulary("car:wheel")
    ten, hundred = (more_names(vocabulary, count, seed=3) for count in (10, 100))
    assert ten == hundred[:10]
    assert len(hundred) == 100
    assert ten == more_names(vocabulary, 10, seed=3) != more_names(vocabulary, 10, seed=4)
