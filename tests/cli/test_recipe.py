"""`langhops recipe`: list, show, copy, check, schema and plot."""

import json
import re
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from langhops_cli.cli.app import app
from langhops_cli.training.recipe import Recipe, load_recipe
from langhops_cli.training.recipe_files import shipped_recipes
from tests.handmade import write_index

SHIPPED = shipped_recipes()
run = CliRunner()


def recipe(*arguments, code=0):
    result = run.invoke(app, ["recipe", *map(str, arguments)], prog_name="langhops")
    assert result.exit_code == code, result.output
    return result


@pytest.fixture
def data_root(tmp_path, monkeypatch):
    """A folder of prepared sets in which nothing lies but `cars`, with a report, and nothing else around."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "sets" / "cars"
    folder.mkdir(parents=True)
    content = {"info": {"format": 1, "exhaustive": True, "image_root": "."}, "images": [], "annotations": []}
    (folder / "train.json").write_text(
        json.dumps(content | {"categories": [{"id": 1, "name": "car", "parent_id": None}]})
    )
    write_index(folder, "train")
    (folder / "report.json").write_text(json.dumps({"inputs": {}, "splits": {"train": {"images": 12345}}}))
    return tmp_path / "sets"


def test_the_list_says_of_each_what_it_reproduces_and_needs():
    rows = {row["name"]: row for row in json.loads(recipe("list", "--json").stdout)}
    assert rows.keys() == SHIPPED.keys()
    assert rows["pps116_ins_part_stage2"]["reproduces"].startswith("obj 62.8 / part 16.4 / AP 26.7 on PartImageNet")
    assert "not measured here" in rows["ins"]["needs"]
    shown = recipe("list").stdout.splitlines()
    assert shown[::3] == list(SHIPPED)
    assert shown[1::3] == [f"  reproduces  {row['reproduces']}" for row in rows.values()]
    assert shown[2::3] == [f"  needs       {row['needs']}" for row in rows.values()]


def test_show_keeps_a_file_as_it_is_and_resolves_what_builds_on_another(tmp_path):
    assert recipe("show", "mini_stage1").stdout == SHIPPED["mini_stage1"].read_text(encoding="utf-8")

    shown = recipe("show", "ablation_qformer").stdout
    assert shown.startswith("# Ablation: a Q-Former in place of the language model")
    whole = tmp_path / "shown.yaml"
    whole.write_text(shown, encoding="utf-8")
    assert "base" not in yaml.safe_load(shown)
    assert load_recipe(whole) == load_recipe(SHIPPED["ablation_qformer"])

    changed = recipe("show", "mini_stage1", "schedule.steps=7", "model.decoder.dim=64").stdout
    assert "#" not in changed
    assert yaml.safe_load(changed)["schedule"]["steps"] == 7
    assert Recipe.model_validate(yaml.safe_load(changed)).model.overrides == {"decoder": {"dim": 64}}


def test_a_copy_is_the_same_recipe_says_where_it_came_from_and_overwrites_nothing(tmp_path):
    file = tmp_path / "new" / "mine.yaml"
    recipe("copy", "ablation_qformer", file)
    text = file.read_text(encoding="utf-8")
    assert re.match(r"# Copied from recipe ablation_qformer of langhops [\d.]+\S*\.\n", text)
    assert text.endswith(SHIPPED["ablation_qformer"].read_text(encoding="utf-8"))
    assert load_recipe(file) == load_recipe(SHIPPED["ablation_qformer"])

    file.write_text("mine", encoding="utf-8")
    assert "is there already and is not overwritten" in recipe("copy", "ins", file, code=2).stderr
    assert file.read_text(encoding="utf-8") == "mine"
    assert "end in .yaml" in recipe("copy", "ins", tmp_path / "mine", code=2).stderr


def test_a_recipe_builds_on_a_file_beside_it_but_not_on_itself(tmp_path):
    below, above = tmp_path / "below.yaml", tmp_path / "above.yaml"
    recipe("copy", "mini_stage1", below)
    above.write_text("base: below.yaml\ndata:\n  train: [{name: mine}]\nschedule: {steps: 9, decay: drops}\n")
    resolved, whole = load_recipe(above), load_recipe(below)
    assert [item.name for item in resolved.data.train] == ["mine"]
    assert (resolved.schedule.steps, resolved.schedule.warmup) == (9, whole.schedule.warmup)
    assert resolved.optimizer == whole.optimizer
    assert "copy elsewhere would not find" in recipe("copy", above, tmp_path / "c.yaml", code=2).stderr

    below.write_text("base: above.yaml\n")
    assert "builds on this recipe itself" in recipe("check", above, code=2).stderr
    above.write_text("base: ins_prat\n")
    assert "base ins_prat is no recipe of the package (ablation_" in recipe("check", above, code=2).stderr


def test_check_says_what_would_be_trained_and_what_is_missing(data_root):
    overrides = ["data.train=[{name: cars}, {name: paco, ratio: 3}]", "data.accumulate=4"]
    shown = recipe("check", "ins_part", *overrides, "--data-root", data_root).stdout
    lines = shown.splitlines()
    assert lines[0].endswith("ins_part.yaml: stage 2, objects and their parts")
    assert lines[1:] == [
        "  model     paper: swin, clip for names, 200 object queries, hierarchy of parts, refined by paligemma",
        "  start     runs/ins is not there yet: langhops train-stage1 recipes/ins.yaml",
        "  train     cars/train, ratio 1: prepared, 12,345 pictures",
        "  train     paco/train, ratio 3: not prepared: langhops prepare paco --source DIR",
        "  measure   paco/val: not prepared: langhops prepare paco --source DIR",
        "  batch     4 a step on each process (1 at once), 1024 px",
        "  steps     90,000, learning rate 5e-05, 360,000 pictures in all on each process",
    ]
    told = json.loads(recipe("check", "ins_part", "--data-root", data_root, "--json").stdout)
    assert [item["name"] for item in told["sets"]] == ["coco", "lvis", "visual-genome", "sa-1b", "paco", "paco"]


@pytest.mark.parametrize("name", SHIPPED)
def test_every_recipe_of_the_package_passes_the_check(name, data_root):
    shown = recipe("check", name).stdout
    level = load_recipe(SHIPPED[name]).stage.level
    assert f"{name}.yaml: stage {2 if level == 'parts' else 1}," in shown


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["ablation_partglee"], "10 learned part queries, refined by a Q-Former"),
        (["ablation_detached"], "detached from the objects"),
        (["finetune"], "objects and their parts, adapters only"),
        (["finetune"], "  start     embedded\n"),
        (["finetune"], "efficientnet-lite0"),
        (["finetune", "stage.init=null"], "start     a checkpoint, to be named with --init\n"),
        (["finetune", "stage.init=null"], "model     that of the checkpoint which it starts from\n"),
        (["finetune", "stage.init=you/yours"], "start     you/yours, on the Hub\n"),
        (["mini_stage1", "data.train=[{stream: you/cars}]"], "train     you/cars/train, ratio 1: streamed\n"),
    ],
)
def test_check_knows_what_is_particular(data_root, arguments, said):
    assert said in recipe("check", *arguments).stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["ins_prat"], "no recipe ins_prat; did you mean ins_part?"),
        (["ins", "schedule.step=4"], "unknown key schedule.step; did you mean schedule.steps?"),
        (["ins", "model.decoder.dim=wide"], "model.decoder.dim = 'wide'"),
        (["ins", "model.refiner.base=gpt", "stage.level=parts"], "'gpt' is no language model with a name"),
        (["ins", "data.train.0={name: a, absent: [b], without: [b]}"], "b is either absent from the pictures or left"),
    ],
)
def test_a_faulty_recipe_is_refused_with_code_2(data_root, arguments, said):
    assert said in recipe("check", *arguments, code=2).stderr


def test_the_schema_knows_every_key_that_a_recipe_may_hold():
    schema = json.loads(recipe("schema").stdout)

    def missing(value, key, path):
        """Keys of a recipe that the schema does not allow at their place."""
        for choice in key.get("anyOf", [key]):
            while "$ref" in choice:
                choice = schema["$defs"][choice["$ref"].rpartition("/")[2]]
            if isinstance(value, dict) and "properties" in choice:
                for name, below in value.items():
                    if name not in choice["properties"]:
                        yield f"{path}.{name}"
                    else:
                        yield from missing(below, choice["properties"][name], f"{path}.{name}")
                assert choice["additionalProperties"] is False, path
            elif isinstance(value, list) and "items" in choice:
                for item in value:
                    yield from missing(item, choice["items"], path)

    top = {"properties": schema["properties"], "additionalProperties": schema["additionalProperties"]}
    for path in SHIPPED.values():
        assert list(missing(yaml.safe_load(path.read_text(encoding="utf-8")), top, "")) == []
        assert list(missing(load_recipe(path).to_dict(), top, "")) == []
    wrong = {"optimizer": {"learning_rat": 1}, "model": {"decoder": {"dimm": 3}}, "data": {"train": [{"nmae": "x"}]}}
    assert set(missing(wrong, top, "")) == {".optimizer.learning_rat", ".model.decoder.dimm", ".data.train.nmae"}
    assert schema["$defs"]["DistributedSection"]["properties"]["zero"]["enum"] == [0, 1, 2, 3]
    assert "ins_part" in schema["properties"]["base"]["anyOf"][0]["enum"]


def test_plot_hands_over_the_runs(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr("langhops_cli.training.plot.plot_runs", lambda folders, out: calls.append((folders, out)))
    monkeypatch.chdir(tmp_path)
    runs = [tmp_path / "a", tmp_path / "b"]
    for folder in runs:
        folder.mkdir()
    recipe("plot", *runs, "--out", tmp_path / "both.png")
    recipe("plot", runs[0])
    assert calls == [(runs, tmp_path / "both.png"), (runs[:1], Path("curves.png"))]
    assert "is no folder" in recipe("plot", tmp_path / "c", code=3).stderr
