"""Checkpoints: what is saved comes back, and what is damaged is named."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from langhops_cli.checkpoint.build import build_model
from langhops_cli.checkpoint.folder import load_checkpoint, save_checkpoint
from langhops_cli.checkpoint.hub import LangHOPS
from langhops_cli.errors import UserError
from langhops_cli.model.configuration import ModelConfig
from langhops_cli.model.langhops import LangHOPSModel

MINI = ModelConfig.preset("mini")
CONFIG = replace(
    MINI,
    decoder=replace(MINI.decoder, dim=32, feedforward=32, heads=4, encoder_layers=1, object_layers=1, part_layers=1),
)
METADATA = {"vocabulary": {"dog": {"head": None, "leg": {"count": 4}}}, "step": 7, "data": {"dogs": {"pictures": 3}}}


@pytest.fixture(scope="module")
def model() -> LangHOPSModel:
    torch.manual_seed(0)
    return build_model(CONFIG)


@pytest.fixture(scope="module")
def saved(model: LangHOPSModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "run"
    save_checkpoint(model, folder, config=CONFIG, metadata=METADATA)
    return folder


@pytest.fixture
def copy(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "copy"))


def test_every_tensor_comes_back(model: LangHOPSModel, saved: Path) -> None:
    loaded, metadata = load_checkpoint(saved)
    assert not loaded.training
    before, after = model.state_dict(), loaded.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert {key: metadata[key] for key in METADATA} == METADATA
    assert metadata["versions"]["torch"]
    assert metadata["base_models"]["text"]["sha256"]


def test_frozen_bases_are_named_and_not_copied(saved: Path) -> None:
    names = load_file(saved / "model.safetensors").keys()
    assert any(".lora_A." in name for name in names)
    assert not any("word_embeddings" in name for name in names)
    assert sorted(path.name for path in saved.iterdir()) == ["README.md", "config.json", "model.safetensors"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_saving_what_was_loaded_gives_the_same_bytes(model: LangHOPSModel, tmp_path: Path, dtype: torch.dtype) -> None:
    save_checkpoint(model, tmp_path / "first", config=CONFIG, metadata=METADATA, dtype=dtype)
    LangHOPS.from_pretrained(tmp_path / "first").save_pretrained(tmp_path / "second", dtype=dtype)
    for name in ("config.json", "model.safetensors", "README.md"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes(), name
    stored = load_file(tmp_path / "first" / "model.safetensors")
    assert stored["text_encoder.lang_projection"].dtype == dtype


def test_what_float16_cannot_hold_stays_float32(tmp_path: Path) -> None:
    model = build_model(replace(CONFIG, level="objects"), pretrained=False)
    with torch.no_grad():
        model.text_encoder.lang_projection[0, 0] = 1e6
    save_checkpoint(model, tmp_path, config=replace(CONFIG, level="objects"), metadata={}, dtype=torch.float16)
    loaded, _ = load_checkpoint(tmp_path)
    assert loaded.text_encoder.lang_projection[0, 0] == 1e6


def change(folder: Path, **tensors: torch.Tensor | None) -> None:
    path = folder / "model.safetensors"
    state = {name.replace(".", "_"): (name, value) for name, value in load_file(path).items()}
    kept = {name: value for key, (name, value) in state.items() if tensors.get(key, value) is not None}
    for key, value in tensors.items():
        if value is not None:
            kept[state[key][0] if key in state else key] = value
    save_file(kept, path)


def test_a_missing_tensor_is_named(copy: Path) -> None:
    change(copy, object_decoder_norm_weight=None)
    refuse(copy, r"lacks object_decoder\.norm\.weight")


def test_an_unknown_tensor_is_named(copy: Path) -> None:
    change(copy, extra=torch.zeros(2))
    refuse(copy, "holds extra, which this model does not have")


def test_a_tensor_of_another_shape_is_named(copy: Path) -> None:
    change(copy, object_decoder_norm_weight=torch.zeros(5))
    refuse(copy, r"object_decoder\.norm\.weight has the shape \(5,\), and the model wants \(32,\)")


@pytest.mark.parametrize("keep", [0, 5, 1000, -1])
def test_a_file_that_is_cut_off_is_named(copy: Path, keep: int) -> None:
    path = copy / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    refuse(copy, r"model\.safetensors is damaged or cut off")


def test_noise_in_place_of_weights_is_named(copy: Path) -> None:
    (copy / "model.safetensors").write_bytes(b"\xff" * 4096)
    refuse(copy, r"model\.safetensors is damaged or cut off")


def test_missing_files_are_named(copy: Path) -> None:
    (copy / "model.safetensors").unlink()
    refuse(copy, r"model\.safetensors is missing")
    (copy / "config.json").unlink()
    refuse(copy, "is no checkpoint: it holds no config.json")
    refuse(copy / "nowhere", "does not exist")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is damaged"),
        ("[]", "says nothing of a model"),
        ('{"format": 99, "model": {}}', "newer langhops"),
        ('{"model": {"decodr": {}}}', "unknown key model.decodr"),
        ('{"model": {"decoder": 5}}', "model cannot be built"),
        ('{"model": {"backbone": {"kind": "nothing", "source": "x"}}}', "kind is nothing"),
    ],
)
def test_a_damaged_configuration_is_named(copy: Path, content: str, message: str) -> None:
    (copy / "config.json").write_text(content, encoding="utf-8")
    refuse(copy, message)


def test_a_save_that_fails_leaves_the_old_checkpoint(
    model: LangHOPSModel, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path.name: path.read_bytes() for path in copy.iterdir()}

    def half(tensors: object, path: Path, metadata: object = None) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("langhops_cli.checkpoint.folder.save_file", half)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(model, copy, config=CONFIG, metadata={"step": 8})
    assert {path.name: path.read_bytes() for path in copy.iterdir()} == before


def test_the_card_says_what_it_is_and_was_trained_on(saved: Path) -> None:
    card = (saved / "README.md").read_text(encoding="utf-8")
    assert "objects and their parts (stage 2)" in card
    assert "dogs, 3 pictures" in card
    assert json.loads((saved / "config.json").read_text())["model"]["level"] == "parts"


def refuse(folder: Path, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        load_checkpoint(folder)
    assert caught.value.code in (2, 3)
    assert "\n" not in str(caught.value)


def test_weights_can_be_read_by_whom_the_users_files_can_be_read(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    assert (saved / "model.safetensors").stat().st_mode == (tmp_path / "usual").stat().st_mode
