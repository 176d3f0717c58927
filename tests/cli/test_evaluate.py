"""`langhops eval`: a results file or a model on a prepared set, and every mistake in one line."""

from __future__ import annotations

import json
import os
from types import SimpleNamespace

import pytest
from typer import Typer
from typer.testing import CliRunner

from langhops_cli.cli.app import Commands
from langhops_cli.cli.evaluate import evaluate
from langhops_cli.prediction.predictor import Predictor

from ..evaluation.prepared import CONFIG, Reader, make_set

FILES = ["matches.npz", "predictions.json", "report.html", "report.json"]
RECORD = {"vocabulary": {"car": {"door": None}}, "data": {"others": {"split": "train", "fingerprint": "x"}}}
application = Typer(cls=Commands, rich_markup_mode=None, pretty_exceptions_enable=False)
application.command("eval")(evaluate)
application.callback()(lambda: None)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    make_set(folder / "toys")
    return folder


@pytest.fixture
def embedded(monkeypatch):
    """A stand-in for loading; says what was asked for. The second model that is loaded finds objects only."""
    asked = []

    def load(checkpoint=None, *, device="cpu"):
        asked.append((checkpoint, device))
        return SimpleNamespace(model=Reader(), config=CONFIG, finds_parts=len(asked) != 2)

    monkeypatch.setattr(Predictor, "from_pretrained", load)
    for steps in ("instances", "semantic"):
        monkeypatch.setattr(f"langhops_cli.cli.evaluate_{steps}.read_record", lambda checkpoint: RECORD)
    return asked


def invoke(*arguments):
    return CliRunner().invoke(application, ["eval", *map(str, arguments)], prog_name="langhops")


def test_a_model_is_scored_and_report_and_results_are_written(root, embedded, tmp_path):
    done = invoke("--data", "toys", "--data-root", root, "--out", tmp_path / "out", "--device", "cpu")
    assert done.exit_code == 0, done.output
    assert embedded == [(None, "cpu")]
    assert "toys val: 3 pictures, cross-dataset, AP in percent" in done.stdout
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == FILES
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["sections"]["instance AP"]["mask"]["all"]["ap"] == pytest.approx(1.0)
    assert (report["model"], report["label"]) == ("embedded", "cross-dataset")
    assert report["published"]["rows"] == []
    assert list(report["sections"]) == ["instance AP", "hierarchy consistency", "name confusion", "pictures"]


def test_the_saved_results_score_the_same_without_a_model(root, embedded, tmp_path):
    invoke("--data", "toys", "--data-root", root, "--out", tmp_path / "a")
    done = invoke(
        "--data", "toys", "--data-root", root, "--predictions", tmp_path / "a" / "predictions.json",
        "--out", tmp_path / "b", "--json",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert len(embedded) == 1
    first = json.loads((tmp_path / "a" / "report.json").read_text())
    again = json.loads(done.stdout)
    assert again["sections"] == first["sections"]
    assert again == json.loads((tmp_path / "b" / "report.json").read_text())
    assert not (tmp_path / "b" / "predictions.json").exists()
    assert (tmp_path / "a" / "matches.npz").read_bytes() == (tmp_path / "b" / "matches.npz").read_bytes()


def test_what_an_earlier_evaluation_left_does_not_stay_beside_the_new_report(root, embedded, tmp_path):
    words = ("--data", "toys", "--data-root", root, "--out", tmp_path)
    invoke(*words)
    assert invoke(*words, "--no-html", "--limit", 1).exit_code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [name for name in FILES if name != "report.html"]


def test_more_results_count_where_that_is_asked_for(root, embedded, tmp_path):
    done = invoke("--data", "toys", "--data-root", root, "--out", tmp_path, "--max-dets", 300, "--no-html")
    assert "maxDets 300" in done.stdout
    assert json.loads((tmp_path / "report.json").read_text())["settings"]["max_detections"] == 300


def test_two_checkpoints_are_compared_on_held_out_names(root, embedded, tmp_path):
    """The names are those that the record of the model does not have."""
    words = ("--data", "toys", "--data-root", root, "--out", tmp_path, "--no-html", "--initial", "before")
    done = invoke("now", *words)
    assert done.exit_code == 0, done.output
    assert [str(checkpoint) for checkpoint, _ in embedded] == ["now", "before"]
    report = json.loads((tmp_path / "report.json").read_text())
    assert "Held out of the training: dog, car wheel." in report["notes"]
    assert (tmp_path / "initial.json").read_bytes() == (tmp_path / "predictions.json").read_bytes()
    done = invoke("now", *words, "--held-out", "dog, car door")
    assert "Held out of the training: dog, car door." in done.stdout


def test_the_vocabulary_is_changed_and_nothing_is_left_of_it(root, embedded, tmp_path, monkeypatch):
    asked = []

    def measure(predict, score, vocabulary, folder, *, figures, seed):
        asked.append((vocabulary.object_names, figures.mask.all.ap, seed))
        predict(None, folder / "changed.json")
        assert score(folder / "changed.json") == figures
        (folder / "changed.json").unlink()

    monkeypatch.setattr("langhops_cli.evaluation.robustness.measure_robustness", measure)
    words = ("--data", "toys", "--data-root", root, "--out", tmp_path, "--robustness", "--seed", 7)
    done = invoke(*words)
    assert done.exit_code == 0, done.output
    assert asked == [(("car", "dog"), pytest.approx(1.0), 7)]
    assert sorted(path.name for path in tmp_path.iterdir()) == FILES


def test_semantic_maps_are_written_and_score_the_same_again(root, embedded, tmp_path):
    words = ("--data", "toys", "--data-root", root, "--protocol", "hiou", "--boundary", "--unseen", "dog")
    done = invoke(*words, "--out", tmp_path / "a", "--per-name")
    assert done.exit_code == 0, done.output
    assert "toys val: 3 pictures, zero-shot" in done.stdout or "cross-dataset, semantic hIoU" in done.stdout
    assert "oracle-obj" in done.stdout
    again = invoke(*words, "--out", tmp_path / "b", "--predictions", tmp_path / "a" / "semantic")
    assert again.exit_code == 0, again.output
    first, second = (json.loads((tmp_path / name / "report.json").read_text()) for name in "ab")
    assert first["sections"] == second["sections"]
    assert sorted(path.name for path in (tmp_path / "b").iterdir()) == ["report.html", "report.json"]
    wrong = invoke(*words, "--setting", "pred-all", "--predictions", tmp_path / "a" / "semantic")
    assert wrong.exit_code == 3
    assert "holds maps of the setting oracle-obj, not pred-all: leave --setting out" in wrong.stderr


def test_finished_evaluations_are_put_side_by_side(root, embedded, tmp_path):
    for name in "abc":
        invoke("--data", "toys", "--data-root", root, "--out", tmp_path / name, "--no-html")
    folders = [tmp_path / name for name in "abc"]
    done = invoke("--compare", *folders, "--out", tmp_path / "all")
    assert done.exit_code == 0, done.output
    assert "mask all" in done.stdout
    assert sorted(path.name for path in (tmp_path / "all").iterdir()) == ["comparison.html", "comparison.json"]
    told = json.loads(invoke(folders[0], folders[1], "--compare", "--json", "--out", tmp_path / "two").stdout)
    assert [value["difference"] for value in told["figures"]["mask all"]] == [None, 0.0]


def test_the_report_goes_to_a_folder_named_after_the_set(root, embedded, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert invoke("--data", "toys", "--data-root", root).exit_code == 0
    assert (tmp_path / "evaluation" / "toys-val" / "report.json").is_file()


def test_a_quick_look_takes_the_first_pictures(root, embedded, tmp_path):
    done = invoke("--data", "toys", "--data-root", root, "--out", tmp_path, "--limit", 2, "--per-name")
    assert "toys val: 2 pictures" in done.stdout
    assert "A quick look: 2 of 3 pictures" in done.stdout
    assert "car wheel" in done.stdout
    results = json.loads((tmp_path / "predictions.json").read_text())
    assert {row["image_id"] for row in results} == {100, 101}


def test_a_model_of_objects_only_is_told(root, embedded, tmp_path):
    invoke("--data", "toys", "--data-root", root, "--out", tmp_path)
    done = invoke(tmp_path, "--data", "toys", "--data-root", root, "--out", tmp_path)
    assert embedded[1] == (tmp_path, "auto")
    assert "trained on objects only" in done.stderr


@pytest.fixture
def started(monkeypatch):
    """The launches that would have been run by others; there is no GPU."""
    seen = []
    for name in [name for name in os.environ if name in ("RANK", "LOCAL_RANK", "WORLD_SIZE") or name[:6] == "SLURM_"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    monkeypatch.setattr(
        "langhops_cli.training.children.run_children", lambda launch, work: seen.append((launch, work)) or 0
    )
    return seen


def test_processes_are_started_with_all_that_was_asked_for(root, started, tmp_path):
    options = [
        "run", "--data", "toys", "--split", "val", "--data-root", root, "--protocol", "ap", "--out", tmp_path,
        "--limit", 2, "--max-objects", 3, "--max-parts", 4, "--max-dets", 300, "--backend", "pycocotools",
        "--robustness", "--initial", "before", "--held-out", "a b", "--per-name", "--attention", "--seed", 5,
        "--no-html", "--json", "--device", "cpu",
    ]  # fmt: skip
    left = tmp_path / ".predictions.json.2-of-2.share"
    left.touch()
    done = invoke(*options, "--gpus", 2)
    assert done.exit_code == 0, done.output
    assert "2 processes work on the CPU" in done.stderr
    ((launch, work),) = started
    words = launch.command[launch.command.index("eval") + 1 :]
    assert sorted(words) == sorted(map(str, options))
    assert words[0] == "run"
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "", "--device cpu holds for all of them"
    assert work.again == "run the same command again"
    assert not left.exists(), "what a process left that failed"


def test_other_machines_are_told_where_the_sets_lie(started, tmp_path, monkeypatch):
    hosts = tmp_path / "hosts"
    hosts.write_text("a slots=2\nb slots=2\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LANGHOPS_DATA", "sets")
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    taken = []
    monkeypatch.setattr(os, "execve", lambda program, command, env: taken.append(command))
    monkeypatch.setattr("langhops_cli.cli.evaluate._measure", lambda wish, command: None)
    assert invoke("--data", "toys", "--hostfile", hosts).exit_code == 0
    ((*_, option, folder),) = taken
    assert (option, folder) == ("--data-root", str(tmp_path / "sets"))


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--data", "toys", "--data-root", "{root}", "--split", "test"], 3, "has no split 'test' (it has: val)"),
        (["--data", "cars", "--data-root", "{root}"], 3, "cars does not exist; make it with `langhops prepare`"),
        (["--data", "../toys", "--data-root", "{root}"], 2, "'../toys' cannot name a prepared set"),
        (["--data", "toys", "--data-root", "{root}", "--nodes", "2"], 2, "--nodes 2: start it with srun, or name"),
        (["a", "b", "--data", "toys"], 2, "give one model, not 2; to put finished evaluations side by side, --compare"),
        (["--compare", "{tmp}"], 2, "--compare needs two folders of evaluations or more"),
        (["--compare", "{tmp}", "{root}"], 3, "has no report.json; evaluate first"),
        (["--compare", "a", "b", "--data", "toys"], 2, "--data does not go with --compare"),
        (["--compare", "a", "b", "--protocol", "hiou"], 2, "--protocol does not go with --compare"),
        (["--data", "toys", "--predictions", "p.json", "--gpus", "2"], 2, "--gpus does not go with --predictions"),
        (["--data", "toys", "--predictions", "p.json", "--max-parts", "9"], 2, "--max-parts does not go with"),
        (["--data", "toys", "--predictions", "p.json", "--robustness"], 2, "--robustness does not go with"),
        (["--data", "toys", "--predictions", "p.json", "--device", "cpu"], 2, "--device does not go with"),
        (["--data", "toys", "--predictions", "{root}"], 3, "is a folder; give --predictions a file of COCO results"),
        (
            ["--data", "toys", "--protocol", "hiou", "--predictions", "{tmp}/cut.json"],
            3,
            "cut.json is a file; give --predictions the folder of the maps",
        ),
        (["--data", "toys", "--boundary"], 2, "--boundary does not go with --protocol ap: leave one out"),
        (["--data", "toys", "--setting", "pred-all"], 2, "--setting does not go with --protocol ap"),
        (
            ["--data", "toys", "--protocol", "hiou", "--max-dets", "300"],
            2,
            "--max-dets does not go with --protocol hiou",
        ),
        (["--data", "toys", "--protocol", "hiou", "--attention"], 2, "--attention does not go with --protocol hiou"),
        (["--data", "toys", "--held-out", "dog"], 2, "--held-out goes with --initial"),
        (["--data", "toys", "--seed", "3"], 2, "--seed goes with --robustness or --compare"),
        (["--data", "toys", "--max-dets", "50"], 2, "'50' is not one of '100', '300'"),
        (["--data", "toys", "--protocol", "iou"], 2, "'iou' is not one of 'ap', 'hiou'"),
        (
            ["run", "--data", "toys", "--predictions", "p.json"],
            2,
            "give a model (run) or --predictions p.json, not both",
        ),
        (
            ["--data", "toys", "--data-root", "{root}", "--predictions", "{tmp}/none.json"],
            3,
            "none.json does not exist",
        ),
        (["--data", "toys", "--data-root", "{root}", "--predictions", "{tmp}/cut.json"], 3, "cut.json"),
        (["--data", "toys", "--data-root", "{root}", "--predictions", "{tmp}/nan.json"], 3, "score is nan"),
        (
            ["--data", "toys", "--data-root", "{root}", "--predictions", "{tmp}/wrong.json"],
            3,
            "wrong.json: 1 of 1 entries are wrong, nothing was scored: entry 0: image_id 5 is not in the ground truth",
        ),
        (["--data", "toys", "--data-root", "{root}", "--out", "{tmp}/cut.json"], 3, "cut.json is a file; give --out"),
        (["{tmp}/norun", "--data", "toys", "--data-root", "{root}"], 3, "norun does not exist"),
        (["--data", "toys", "--limit", "0"], 2, "limit"),
        ([], 2, "--data"),
    ],
)
def test_mistakes_are_one_line_with_a_code(arguments, code, message, root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RANK", raising=False)  # a training in this process leaves it
    (tmp_path / "cut.json").write_text('[{"image_id"')
    mask = {"size": [64, 64], "counts": [4096]}
    nan = {"image_id": 100, "category_id": 7, "score": float("nan"), "segmentation": mask}
    (tmp_path / "nan.json").write_text(json.dumps([nan]))
    wrong = {"image_id": 5, "category_id": 7, "score": 1, "segmentation": {"size": [64, 64], "counts": "0"}}
    (tmp_path / "wrong.json").write_text(json.dumps([wrong]))
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    done = invoke(*(argument.format(root=root, tmp=tmp_path) for argument in arguments))
    assert done.exit_code == code
    assert message in done.stderr
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stdout == ""
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == before
