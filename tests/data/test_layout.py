"""What a folder lacks of an expected layout, and what the user is told."""

from pathlib import Path

import pytest

from langhops_cli.data.fetching.layout import instructions, missing
from langhops_cli.data.manifests import RemoteFile
from tests.data.serving import manifest


def lacks(tree: list[str], folder: Path, *there: str) -> list[str]:
    """What is missing where these files and folders ("name/") are there."""
    for name in there:
        path = folder / name
        (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            path.touch()
    return missing(manifest().model_copy(update={"tree": tree}), folder)


@pytest.mark.parametrize(
    ("line", "there", "expected"),
    [
        ("train.json", ["train.json"], []),
        ("train.json   a remark", [], ["train.json"]),
        ("images/", ["images/"], []),
        ("images/", ["images"], ["images/"]),
        ("images/*.jpg", ["images/1.jpg"], []),
        ("images/*.jpg", ["images/1.png"], ["images/*.jpg"]),
        ("images/*.jpg", ["images/._1.jpg"], ["images/*.jpg"]),
        ("images/*.jpg", ["images"], ["images/*.jpg"]),
        ("a+b(1).json", ["aab1.json"], ["a+b(1).json"]),
        ("<synset>/<synset>_<n>.JPEG", ["n01/n01_7.JPEG"], []),
        ("<synset>/<synset>_<n>.JPEG", ["n01.JPEG", "empty/"], ["<synset>/<synset>_<n>.JPEG"]),
        ("sa_*/", ["sa_1"], ["sa_*/"]),
        ("sa_*/", ["sa_1", "sa_2/"], []),
        ("*/deep/*.png", ["a/b/1.png", "b/deep/1.png"], []),
        ("images/{train,val}/*.jpg", ["images/train/1.jpg"], ["images/val/*.jpg"]),
        ("{a,b}/{1,2}", ["a/1", "b/2"], ["a/2", "b/1"]),
        ("images/*.{jpg|png}", ["images/1.png"], []),
        ("images/*.{jpg|png}", [], ["images/*.jpg or images/*.png"]),
        ("{train,val}.{json|yaml}", ["train.yaml"], ["val.json or val.yaml"]),
        ("{|images/|coco/}{a,b}/*.jpg", ["coco/a/1.jpg", "b/1.jpg"], []),
        ("{|images/|coco/}{a,b}/*.{jpg|png}", ["coco/a/1.jpg"], ["b/*.jpg or b/*.png"]),
        ("../{a,b}", ["../a"], ["../b"]),
        ("images/...", ["images/a/"], []),
        ("images/...", ["images/"], ["images/..."]),
        ("extra.json  optional, for the second stage", [], []),
        ("extra.json  (optional)", [], []),
        (" indented.json", [], []),
        ("", [], []),
    ],
)
def test_a_line_of_a_tree(tmp_path: Path, line: str, there: list[str], expected: list[str]) -> None:
    assert lacks([line], tmp_path, *there) == expected


TWO = ["train.json", "or annotations/{train,val}.json  both", "or train.yaml"]


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        (["train.json"], []),
        (["train.yaml"], []),
        (["annotations/train.json", "annotations/val.json"], []),
        (["annotations/train.json"], ["train.json or annotations/{train,val}.json or train.yaml"]),
    ],
)
def test_one_of_several_entries_is_enough(tmp_path: Path, there: list[str], expected: list[str]) -> None:
    assert lacks(TWO, tmp_path, *there) == expected


def test_an_alternative_of_what_is_optional_is_optional(tmp_path: Path) -> None:
    assert lacks(["a.json  optional", "or b.json", "c.json"], tmp_path) == ["c.json"]


LAYOUTS = [
    "names.txt",
    "for detection:",
    "train/",
    "val/",
    "for segmentation:",
    "images/",
    "masks/",
    "{train,val}.json",
]


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        (["names.txt", "train/", "val/"], []),
        (["train/", "val/"], ["names.txt"]),
        (["names.txt", "images/", "masks/", "train.json", "val.json"], []),
        (["images/", "masks/", "train.json"], ["names.txt", "val.json"]),
        (["val/"], ["names.txt", "train/"]),
    ],
)
def test_the_layout_that_is_closest_counts(tmp_path: Path, there: list[str], expected: list[str]) -> None:
    assert lacks(LAYOUTS, tmp_path, *there) == expected


def test_a_manifest_without_a_tree_misses_nothing(tmp_path: Path) -> None:
    assert lacks([], tmp_path) == []
    assert lacks(["a"], tmp_path / "nowhere") == ["a"]


def test_a_large_folder_is_not_listed_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from langhops_cli.data.fetching import layout

    for number in range(50):
        (tmp_path / f"{number}.jpg").touch()
    looked, compiled = [], layout._compiled
    monkeypatch.setattr(layout, "_compiled", lambda pattern: looked.append(pattern) or compiled(pattern))
    assert lacks(["*.jpg"], tmp_path) == []
    assert len(looked) == 1


def test_instructions_say_where_what_and_how(tmp_path: Path) -> None:
    folder = tmp_path / "my data"
    folder.mkdir()
    (folder / "train.json").touch()
    facts = {"tree": ["{train,val}.json  names", "  more of them", "images/"], "form": "https://a.org/form"}
    told = manifest().model_copy(update=facts)
    assert instructions(told, folder).splitlines() == [
        "A test",
        f"  source{' ' * (len(str(folder)) + 2)}nowhere",
        f"  form{' ' * (len(str(folder)) + 4)}https://a.org/form has to be filled in first",
        f"  licence{' ' * (len(str(folder)) + 1)}none",
        f"  below {folder}  {{train,val}}.json  names",
        f"{' ' * (len(str(folder)) + 10)}  more of them",
        f"{' ' * (len(str(folder)) + 10)}images/",
        f"  missing{' ' * (len(str(folder)) + 1)}val.json",
        f"{' ' * (len(str(folder)) + 10)}images/",
        f"  then{' ' * (len(str(folder)) + 4)}langhops prepare test --source '{folder}'",
    ]
    (folder / "val.json").touch()
    (folder / "images").mkdir()
    assert instructions(told, folder) == ""


def test_instructions_without_a_folder_miss_nothing(tmp_path: Path) -> None:
    told = manifest(RemoteFile(url="https://a.org/a", path="a")).model_copy(update={"tree": ["a"]})
    assert "missing" not in instructions(told)
    assert instructions(told).endswith("langhops prepare test --source DIR --download")
    assert f"the folder {tmp_path / 'no'} itself" in instructions(told, tmp_path / "no")
