"""English plurals of names as data sets have them."""

from __future__ import annotations

import pytest

from langhops_cli.data.manifests import load_manifest, manifest_names
from langhops_cli.vocabulary.plurals import plural


@pytest.mark.parametrize(
    ("name", "many"),
    [
        ("car", "cars"),
        ("bus", "buses"),
        ("couch", "couches"),
        ("radish", "radishes"),
        ("glass", "glasses"),
        ("box", "boxes"),
        ("camera lens", "camera lenses"),
        ("cherry", "cherries"),
        ("donkey", "donkeys"),
        ("person", "people"),
        ("foot", "feet"),
        ("goose", "geese"),
        ("mouse (computer equipment)", "mice (computer equipment)"),
        ("knife", "knives"),
        ("pocketknife", "pocketknives"),
        ("bookshelf", "bookshelves"),
        ("leaf", "leaves"),
        ("scarf", "scarves"),
        ("hoof", "hooves"),
        ("roof", "roofs"),
        ("handkerchief", "handkerchiefs"),
        ("giraffe", "giraffes"),
        ("potato", "potatoes"),
        ("piano", "pianos"),
        ("avocado", "avocados"),
        ("snowman", "snowmen"),
        ("ottoman", "ottomans"),
        ("octopus (animal)", "octopuses (animal)"),
        ("rhinoceros", "rhinoceroses"),
        ("chest of drawers", "chests of drawers"),
        ("traffic light", "traffic lights"),
        ("car (automobile)", "cars (automobile)"),
        ("cabinet/shelf", "cabinets/shelves"),
        ("garlic/tomato", "garlic/tomatoes"),
        ("t-shirt", "t-shirts"),
        ("Foot", "Feet"),
    ],
)
def test_plurals(name, many):
    assert plural(name) == many


@pytest.mark.parametrize(
    "name",
    ["sheep", "black sheep", "fish (food)", "scissors", "eyeglasses", "french fries", "teeth", "hair", "rice/bread"],
)
def test_names_that_stay(name):
    assert plural(name) is None


def test_the_plural_of_a_plural_is_none():
    """Whatever a manifest names: what was made a plural is known as one, and no two names of a set become one."""
    for manifest in map(load_manifest, manifest_names()):
        for names in (manifest.vocabulary, *manifest.vocabulary.values()):
            many = [new for name in names if (new := plural(name)) is not None]
            assert len(set(many)) == len(many)
            assert {new: again for new in many if (again := plural(new)) is not None} == {}
