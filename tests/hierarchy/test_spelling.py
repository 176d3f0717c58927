import pytest

from langhops_cli.hierarchy.spelling import bare, singular, spelling_key, told_apart, without_owner
from langhops_cli.vocabulary.plurals import plural


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("T-Shirts", "t shirt"),
        ("steeringwheel", "steering wheel"),
        ("the wheels", "Wheel"),
        ("tyre", "tires"),
        ("licence plate", "license plates"),
        ("aeroplane", "Airplanes"),
        ("trash_can", "trash can"),
        ("ＴＶ", "tv"),
    ],
)
def test_spellings_of_one_name_have_one_key(one, other):
    assert spelling_key(one) == spelling_key(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("bow (weapon)", "bow (ribbon)"), ("lens", "len"), ("glass", "glasses"), ("頭", "尾"), ("a", "b")],
)
def test_other_names_have_other_keys(one, other):
    assert spelling_key(one) != spelling_key(other)


@pytest.mark.parametrize(
    "name", ["wheel", "leaf", "tooth", "chest of drawers", "box", "body", "knife", "mouse", "bus", "house"]
)
def test_the_singular_of_a_plural_is_the_name(name):
    assert singular(plural(name)) == singular(name) == name


@pytest.mark.parametrize("name", ["glass", "lens", "chassis", "moss", "canvas", "s", "skis", "house"])
def test_what_only_looks_like_a_plural_stays(name):
    assert singular(name) == name


def test_a_remark_in_brackets_is_told_from_the_name():
    assert bare("Car_(automobile)") == ("car", "automobile")
    assert bare("(odd)") == ("(odd)", "")


def test_a_part_loses_the_name_of_its_object():
    assert without_owner("bicycle wheel", "bike", "bicycle") == "wheel"
    assert without_owner("bird's foot", "bird") == "foot"
    assert without_owner("carpet", "car") == "carpet"
    assert without_owner("car", "car") == "car"


@pytest.mark.parametrize(
    ("one", "other", "apart"),
    [
        ("left mirror", "right mirror", True),
        ("mirror", "left mirror", True),
        ("back bumper", "front bumper", True),
        ("left mirror", "left glass", False),
        ("hood", "bonnet", False),
    ],
)
def test_words_that_exclude_each_other_tell_names_apart(one, other, apart):
    assert told_apart(one, other) == told_apart(other, one) == apart
