import json
import random
import unicodedata

import pytest

from langhops_cli.vocabulary import ObjectNode, PartNode, Vocabulary, VocabularyError, parse_vocabulary
from langhops_cli.vocabulary.grammar import point_at


def objects_of(*texts):
    return parse_vocabulary(texts).objects


def test_an_object_has_parts_with_counts_and_parts_of_their_own():
    vocabulary = parse_vocabulary("dog:head(ear*2,eye),leg*4,tail; car")
    assert vocabulary.objects == (
        ObjectNode(
            "dog",
            (PartNode("head", parts=(PartNode("ear", 2), PartNode("eye"))), PartNode("leg", 4), PartNode("tail")),
        ),
        ObjectNode("car"),
    )


def test_part_classes_run_depth_first_over_the_objects():
    vocabulary = parse_vocabulary("dog:head(ear(tip),eye),leg*4; car; cat:head")
    assert [(item.object, item.name, item.text, item.count, item.parent) for item in vocabulary.part_classes] == [
        (0, "head", "dog head", 1, None),
        (0, "ear", "dog ear", 1, 0),
        (0, "tip", "dog tip", 1, 1),
        (0, "eye", "dog eye", 1, 0),
        (0, "leg", "dog leg", 4, None),
        (2, "head", "cat head", 1, None),
    ]
    assert vocabulary.object_names == ("dog", "car", "cat")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("  chest of drawers :  left  door ; t-shirt", ["chest of drawers", "t-shirt", "left  door"]),
        ("собака:лапа*4", ["собака", "лапа"]),
        ("狗：的", ["狗：的"]),
        ("l'étoile:côté", ["l'étoile", "côté"]),
        ('"car (automobile)":"door, left",wheel', ["car (automobile)", "door, left", "wheel"]),
        ('screen:17" panel', ["screen", '17" panel']),
        ('"the ""big"" one"', ['the "big" one']),
        ("dog:\n  head,\n  tail\n", ["dog", "head", "tail"]),
    ],
)
def test_names_keep_inner_space_and_any_letters(text, names):
    vocabulary = parse_vocabulary(text)
    assert [*vocabulary.object_names, *(item.name for item in vocabulary.part_classes)] == names


def test_a_star_gives_its_parts_to_every_object_of_all_texts():
    texts = objects_of("*:head(ear),logo*2; dog:tail", "cat:head")
    assert texts == (
        ObjectNode("dog", (PartNode("tail"), PartNode("head", parts=(PartNode("ear"),)), PartNode("logo", 2))),
        ObjectNode("cat", (PartNode("head"), PartNode("logo", 2))),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dog:head,,leg", "empty part name\n  dog:head,,leg\n           ^"),
        ("dog:leg*0", "a count starts at 1\n  dog:leg*0\n          ^"),
        ("dog:leg*65", "a count ends at 64\n  dog:leg*65\n          ^"),
        ("dog:leg*" + "9" * 5000, "a count ends at 64\n"),
        ("dog:leg*four", "a count is a whole number, not 'four'\n  dog:leg*four\n          ^"),
        ("dog:leg*-1", "a count is a whole number, not '-1'\n  dog:leg*-1\n          ^"),
        ("dog:leg*1.5", "a count is a whole number, not '1.5'\n  dog:leg*1.5\n          ^"),
        ("dog:leg*,tail", "a number belongs after '*', as in leg*4\n  dog:leg*,tail\n          ^"),
        ("dog:leg(paw)*4", "a count stands before the bracket, as in leg*4(paw)\n  dog:leg(paw)*4\n              ^"),
        ("dog*2:leg", "a count belongs to a part, as in dog:leg*4\n  dog*2:leg\n     ^"),
        ("", "empty object name\n  \n  ^"),
        (":head", "empty object name\n  :head\n  ^"),
        ("dog;;cat", "empty object name\n  dog;;cat\n      ^"),
        ("dog:", "empty part name\n  dog:\n      ^"),
        ('dog:""', 'empty part name\n  dog:""\n      ^'),
        ("dog:head()", "empty part name\n  dog:head()\n           ^"),
        ("dog:head(ear", "this bracket is never closed\n  dog:head(ear\n          ^"),
        ("dog:head(ear; cat", "this bracket is never closed\n  dog:head(ear; cat\n          ^"),
        ("dog:head),leg", "this bracket was never opened\n  dog:head),leg\n          ^"),
        ('dog:"head', 'this quote is never closed\n  dog:"head\n      ^'),
        ("dog: head; dog", "object 'dog' stands twice\n  dog: head; dog\n             ^"),
        ("dog; Dog", "object 'Dog' stands twice\n  dog; Dog\n       ^"),
        ("dog:head,tail,head", "part 'head' stands twice in one object\n  dog:head,tail,head\n                ^"),
        ("dog:head(ear),ear", "part 'ear' stands twice in one object\n  dog:head(ear),ear\n                ^"),
        ("dog:a:b", "unexpected ':': an object ends with ';', and its parts begin with ':'\n  dog:a:b\n       ^"),
        ("a:b(c(d(e(f(g(h(i(j(k)))))))))", "parts go deeper than 8 levels\n  a:b(c(d(e(f(g(h(i(j(k)))))))))\n  "),
        ("*:head", "'*' stands for every object, but the vocabulary names none"),
        ("dog; *", "'*' gives its parts to every object, but has none"),
    ],
)
def test_mistakes_point_at_the_column(text, message):
    with pytest.raises(VocabularyError) as caught:
        parse_vocabulary(text)
    assert str(caught.value).startswith(message)
    assert caught.value.code == 2


@pytest.mark.parametrize(
    ("before", "columns"),
    [("dog", 3), ("狗狗", 4), ("de\u0301", 2), ("ｄｏｇ", 6), ("\U0001f436", 2), ("a\tb", 3), ("e\u200d", 1)],
)
def test_the_caret_counts_columns_of_a_terminal(before, columns):
    caret = point_at(before + "!", len(before)).splitlines()[1]
    assert caret == "  " + " " * columns + "^"


def test_a_long_text_is_cut_around_the_mistake():
    names = [f"object {number}" for number in range(300)]
    text = ";".join([*names, "object 150", *(f"more {number}" for number in range(300))])
    with pytest.raises(VocabularyError) as caught:
        parse_vocabulary(text)
    message, shown, caret = str(caught.value).splitlines()
    assert message == "object 'object 150' stands twice"
    assert len(shown) < 100
    assert shown[caret.index("^") :].startswith("object 150;more 0")


def test_a_mistake_in_a_second_text_shows_that_text():
    with pytest.raises(VocabularyError, match="object 'dog' stands twice\n  cat;dog\n      \\^"):
        parse_vocabulary(["dog:head", "cat;dog"])


def test_no_text_at_all_is_told():
    with pytest.raises(VocabularyError, match="names no object"):
        parse_vocabulary([])


def test_two_thousand_names_keep_their_order():
    text = ";".join(f"object {n}:" + ",".join(f"part {k}" for k in range(10)) for n in range(200))
    vocabulary = parse_vocabulary(text)
    assert [item.text for item in vocabulary.part_classes] == [
        f"object {n} part {k}" for n in range(200) for k in range(10)
    ]


def random_vocabulary(rng: random.Random) -> Vocabulary:
    letters = "ab é狗,;:()*\"@#'"

    def names(number):
        found = {}
        while len(found) < number:
            name = "".join(rng.choice(letters) for _ in range(rng.randint(1, 5))).strip()
            if name and name != "*":
                found.setdefault(unicodedata.normalize("NFC", name).casefold(), name)
        return list(found.values())

    def grow(pool, depth):
        parts = []
        while pool and rng.random() < 0.7:
            name = pool.pop()
            inner = grow(pool, depth + 1) if depth < 4 else ()
            parts.append(PartNode(name, rng.choice([1, 1, 2, 64]), inner))
        return tuple(parts)

    return Vocabulary(tuple(ObjectNode(name, grow(names(6), 1)) for name in names(rng.randint(1, 4))))


@pytest.mark.parametrize("seed", range(40))
def test_every_vocabulary_survives_its_own_text_dictionary_and_file(seed, tmp_path):
    vocabulary = random_vocabulary(random.Random(seed))
    assert parse_vocabulary(str(vocabulary)) == vocabulary
    assert Vocabulary.from_dict(vocabulary.to_dict()) == vocabulary
    (tmp_path / "tree.yaml").write_text(vocabulary.to_yaml(), encoding="utf-8")
    (tmp_path / "tree.json").write_text(json.dumps(vocabulary.to_dict()), encoding="utf-8")
    assert parse_vocabulary(f"@{tmp_path}/tree.yaml") == vocabulary
    assert parse_vocabulary(f"@{tmp_path}/tree.json") == vocabulary
