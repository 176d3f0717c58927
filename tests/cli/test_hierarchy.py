"""`langhops hierarchy`: what a person types and what comes back."""

import json

import pytest
import yaml
from typer.testing import CliRunner

from langhops_cli.cli.app import app
from langhops_cli.hierarchy import likelihood, similarity
from langhops_cli.vocabulary import parse_vocabulary
from tests.hierarchy.knowledge import letters

runner = CliRunner()


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
    """Names are compared by their letters, so that no model is loaded; and the folder is empty."""
    monkeypatch.setattr(similarity, "load_embed", lambda: letters)
    monkeypatch.delenv("LANGHOPS_DATA", raising=False)
    monkeypatch.chdir(tmp_path)


def run(*arguments, code=0):
    result = runner.invoke(app, ["hierarchy", *map(str, arguments)], prog_name="langhops")
    assert result.exit_code == code, result.output
    return result


def test_show_says_where_a_tree_was_found_and_how_large_it_is(tmp_path):
    lines = run("show", "partimagenet").stdout.splitlines()
    assert lines[0] == "dataset partimagenet: 11 objects, 40 parts of 13 names"
    assert lines[1:3] == ["├── quadruped", "│   ├── head"]
    assert run("show", "dog:head", "cat:paw").stdout.splitlines()[0] == "2 objects, 2 parts"
    data = tmp_path / "sets" / "mine"
    data.mkdir(parents=True)
    (data / "hierarchy.yaml").write_text("dog: {leg: {count: 4}}")
    found = run("show", "mine", "--data-root", tmp_path / "sets").stdout.splitlines()
    assert found[0].endswith("mine: 1 object, 1 part") and found[-1] == "    └── leg x 4"
    assert yaml.safe_load(run("show", "embedded", "--yaml").stdout)["face"]["eye"] == {"count": 2}


def test_check_tells_errors_and_notes_and_exits_by_them():
    good = run("check", "car:hood,wheel*3,license plate")
    assert good.stdout == "1 object, 3 parts: nothing to remark\n"
    noted = run("check", "car:hood,bonnet")
    assert "note   car: 'hood' and 'bonnet' mean one thing" in noted.stdout
    run("check", "car:hood,bonnet", "--strict", code=3)
    wrong = run("check", "car:hood,wheel*3,wheels", code=3)
    assert wrong.stdout.startswith("error  car: 'wheel' and 'wheels' are one name")
    assert wrong.stdout.splitlines()[-1].startswith("1 object, 3 parts: 1 error, ")
    plain = json.loads(run("check", "car:hood,wheel*3,wheels", "--json", code=3).stdout)
    assert plain["errors"] == 1 and plain["findings"][0]["level"] == "error"
    assert {finding["topic"] for finding in plain["findings"]} >= {"one name"}


def test_check_counts_the_queries_of_the_model():
    many = "car:" + ",".join(
        f"window*{count}" if not place else f"p{place}*{count}" for place, count in enumerate([64, 65 - 1, 2])
    )
    result = run("check", many, code=3)
    assert "error  car: 130 part queries, and the model has 128" in result.stdout
    run("check", "car:window", "--checkpoint", "nowhere", code=3)


def test_check_cuts_long_lists():
    tree = "car:" + ",".join(f"zz{chr(97 + place)}" for place in range(20))
    lines = run("check", tree).stdout.splitlines()
    assert sum("no known tree has a part" in line for line in lines) == 12
    assert any(line.strip().startswith("8 more of the topic 'unknown part'") for line in lines)


def test_build_shows_parts_with_confidence_and_sources_and_says_how_it_ranked():
    result = run("build", "dog", "husky", "--most", 4)
    lines = result.stdout.splitlines()
    assert lines[0].startswith("dog (") and "left out" in lines[0]
    assert any("paco (dog)" in line for line in lines)
    assert "husky is a kind of dog, says WordNet" in result.stderr
    assert "no language model was asked" in result.stderr


def test_build_writes_a_vocabulary_file(tmp_path):
    result = run("build", "aeroplane", "--yaml", "--min-confidence", 0.6)
    path = tmp_path / "names.yaml"
    path.write_text(result.stdout, encoding="utf-8")
    names = {part.name for part in parse_vocabulary(f"@{path}").objects[0].parts}
    assert {"wing", "tail", "engine"} <= names
    assert run("show", f"@{path}").stdout.splitlines()[1] == "└── aeroplane"


def test_build_as_json_tells_every_source():
    plain = json.loads(run("build", "chair", "--json").stdout)
    [chair] = plain["objects"]
    leg = next(part for part in chair["parts"] if part["name"] == "leg")
    assert {"paco", "ade20k-part-234", "WordNet"} <= {source["name"] for source in leg["sources"]}
    assert 0.9 < leg["confidence"] <= 1 and leg["advantage"] is None


def test_build_takes_further_trees(tmp_path):
    (tmp_path / "mine.yaml").write_text("widget: {knob: {count: 3}, dial: }")
    lines = run("build", "widget", "--tree", "@mine.yaml").stdout.splitlines()
    assert any("knob x 3" in line and "mine.yaml (widget)" in line for line in lines)


def test_build_asks_the_language_model_it_is_given(monkeypatch):
    class Says:
        def advantage(self, owner, parts):
            import numpy as np

            return np.array([2.0 if part == "tail" else -2.0 for part in parts])

    asked = []
    monkeypatch.setattr(
        likelihood.PartLikelihood, "from_pretrained", classmethod(lambda cls, source: asked.append(source) or Says())
    )
    result = run("build", "dog", "--language-model", "someone/model")
    assert asked == ["someone/model"]
    assert "tail" in result.stdout.splitlines()[1] and "+2.00" in result.stdout.splitlines()[1]
    assert "likelihood of a language model" in result.stderr


def test_the_defaults_are_those_of_the_functions():
    from typer.main import get_command

    from langhops_cli.hierarchy.build import MIN_CONFIDENCE, MOST
    from langhops_cli.hierarchy.compare import MIN_SIMILARITY

    commands = get_command(app).commands["hierarchy"].commands
    defaults = {option.name: option.default for name in ("build", "compare") for option in commands[name].params}
    assert defaults["min_confidence"] == MIN_CONFIDENCE and defaults["most"] == MOST
    assert defaults["min_similarity"] == MIN_SIMILARITY


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("build", "dog:head"), "error: dog:head: build takes names of objects alone, such as 'dog'"),
        (("build", "dog,cat"), "error: dog,cat: build takes names of objects alone, such as 'dog' 'cat'"),
        (("build", "@names.yaml"), "error: @names.yaml: build takes names of objects"),
        (("build", "dog", "--json", "--yaml"), "error: --json and --yaml exclude each other"),
        (("build", "dog", "Dog"), "error: object 'Dog' stands twice"),
        (("build", ""), "error: empty object name"),
        (("build", "dog", "--most", "0"), "error: Invalid value for '--most'"),
        (("check", "dog"), "error: 'dog' names no tree"),
        (("show", "partimagenett"), "error: 'partimagenett' names no tree"),
        (
            ("export", "dog:head", "--out", "dog.xyz"),
            "error: dog.xyz has no ending that tells the format; give --format",
        ),
        (("export", "dog:head", "--out", "dog.dot", "--format", "svg"), "error: --format svg is not known; give"),
        (("compare", "dog:head"), "error: Missing argument"),
    ],
)
def test_mistakes_are_told_in_one_line(arguments, message):
    result = run(*arguments, code=2)
    assert result.stderr.startswith(message)
    assert len(result.stderr.splitlines()) == 1 or arguments == ("build", "")
    assert result.stdout == ""


def test_a_language_model_that_is_not_there_is_told():
    result = run("build", "dog", "--language-model", "./none", code=4)
    assert result.stderr.startswith("error: ./none: there is no such folder or file")


def test_compare_shows_and_writes_the_mapping(tmp_path):
    result = run("compare", "car:bonnet,wheels,fin; ship", "partimagenet", "--out", "map.yaml")
    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines[0] == ["car", "car", "1.00", "exact"]
    assert ["fin", "no", "counterpart"] in lines
    assert result.stdout.splitlines()[-1] == "1 of 2 objects and 0 of 3 parts have a counterpart"
    assert yaml.safe_load((tmp_path / "map.yaml").read_text())["car"]["to"] == "car"
    assert "map.yaml" in result.stderr
    plain = json.loads(run("compare", "car:wheels", "auto:wheel", "--json").stdout)
    assert [match["how"] for match in plain["matches"]] == ["same meaning", "spelling"]


@pytest.mark.parametrize("name", ["tree.yaml", "tree.yml", "tree.json", "tree.dot", "tree.gv", "tree.html", "tree.htm"])
def test_export_writes_by_the_ending(tmp_path, name):
    result = run("export", "dog:head(ear),leg*4", "--out", f"new/{name}")
    assert result.stdout == f"new/{name}\n"
    text = (tmp_path / "new" / name).read_text(encoding="utf-8")
    begins = {"y": "dog:", "j": "{", "d": "digraph", "g": "digraph", "h": "<!doctype html>"}
    assert text.startswith(begins[name.rpartition(".")[2][0]])


def test_export_tells_a_folder_in_its_way(tmp_path):
    (tmp_path / "there.html").mkdir()
    assert "is a folder; give --out a file" in run("export", "dog:head", "--out", "there.html", code=3).stderr
