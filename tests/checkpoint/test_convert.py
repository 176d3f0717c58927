"""Reading other projects' checkpoints; that a whole release gives its own answers is tests/parity's matter."""

import json
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.testing import assert_close
from typer.testing import CliRunner

from langhops_cli.checkpoint.base_models import SWIN_L_CONFIG, build_random, load_swin_l
from langhops_cli.checkpoint.convert import Ledger, convert_release, convert_swin, read_foreign
from langhops_cli.checkpoint.convert.released import fold_norm
from langhops_cli.checkpoint.folder import INDEX, read_tensors
from langhops_cli.checkpoint.skeleton import build_skeleton
from langhops_cli.cli.app import app
from langhops_cli.errors import UserError
from langhops_cli.model.configuration import BaseModelConfig

from .foreign import SMALL, WIDTH, backbone, decoder, microsoft, pixel_decoder


def run(*words):
    result = CliRunner().invoke(app, [str(word) for word in words])
    return result.exit_code, " ".join(result.output.split())


@pytest.fixture(scope="module")
def swin():
    torch.manual_seed(0)
    model = build_random(SWIN_L_CONFIG | SMALL).eval()
    for parameter in model.parameters():
        parameter.data += torch.randn_like(parameter) * 0.1
    return model


@pytest.mark.parametrize("prefix", ["", "backbone."])
def test_a_swin_keeps_its_maps(swin, tmp_path, prefix):
    state = {f"{prefix}{name}": value for name, value in microsoft(swin, norms=True).items()}
    if prefix:
        state["sem_seg_head.predictor.class_embed.weight"] = torch.zeros(80, 8)  # the rest of a Mask DINO
    torch.save({"model": state, "epoch": 3}, tmp_path / "swin.pth")
    code, said = run("convert", tmp_path / "swin.pth", tmp_path / "out", "--from", "swin")
    assert code == 0, said
    assert f"model.backbone.source={tmp_path / 'out'}" in said
    pixels = torch.randn(1, 3, 64, 96)
    found = load_swin_l(str(tmp_path / "out")).eval()
    with torch.no_grad():
        for mine, theirs in zip(found(pixels).feature_maps, swin(pixels).feature_maps, strict=True):
            assert_close(mine, theirs)


def test_a_classifier_brings_no_norms_for_its_maps(swin, tmp_path):
    state = microsoft(swin, norms=False) | {"head.weight": torch.zeros(5, 64), "head.bias": torch.zeros(5)}
    ledger = Ledger(state, source="swin.pth")
    convert_swin(ledger, source="", target="")
    assert not ledger.left
    assert torch.equal(ledger.taken["hidden_states_norms.stage2.weight"], torch.ones(16))
    assert ledger.dropped["head.weight"].startswith("the classifier")


def test_a_swin_of_transformers_needs_no_conversion(swin, tmp_path):
    swin.save_pretrained(tmp_path / "swin")
    code, said = run("convert", tmp_path / "swin", tmp_path / "out", "--from", "swin")
    assert code == 3
    assert "give its folder or hub id as model.backbone.source" in said


def test_a_folded_norm_is_the_norm_and_the_layer():
    torch.manual_seed(0)
    norm, layer = nn.BatchNorm1d(5).eval(), nn.Linear(5, 3)
    for value in (norm.weight.data, norm.bias.data, norm.running_mean):
        value.copy_(torch.randn(5))
    norm.running_var.copy_(torch.rand(5) + 0.5)
    weight, bias = fold_norm(
        layer.weight.data, layer.bias.data, [norm.weight.data, norm.bias.data, norm.running_mean, norm.running_var]
    )
    x = torch.randn(7, 5)
    assert_close(x @ weight.T + bias, layer(norm(x)).detach())


class Malicious:
    def __reduce__(self):
        return Path.touch, (Path("harm"),)


def test_a_file_that_wants_to_run_code_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"model": {"a": torch.ones(1)}, "args": Malicious()}, "evil.pth")
    code, said = run("convert", "evil.pth", "out")
    assert code == 3
    assert "evil.pth needs code of its own" in said
    assert "--trust-checkpoint" in said
    assert not Path("harm").exists()
    assert not Path("out").exists()
    assert list(read_foreign(Path("evil.pth"), trust=True)) == ["a"]
    assert Path("harm").exists()


def test_kinds_of_files(tmp_path):
    tensors = {"a": torch.arange(3.0), "b": torch.ones(2, dtype=torch.float16)}
    save_file(tensors, tmp_path / "one.safetensors")
    torch.save({"state_dict": tensors}, tmp_path / "wrapped.pth")
    torch.save(tensors, tmp_path / "flat.pt")
    (tmp_path / "numbers.pkl").write_bytes(pickle.dumps({"model": {name: t.numpy() for name, t in tensors.items()}}))
    shards = tmp_path / "shards"
    shards.mkdir()
    for name, tensor in tensors.items():
        save_file({name: tensor}, shards / f"{name}.safetensors")
    (shards / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {name: f"{name}.safetensors" for name in tensors}})
    )
    for path in ("one.safetensors", "wrapped.pth", "flat.pt", "numbers.pkl", "shards"):
        read = read_foreign(tmp_path / path, trust=path.endswith("pkl"))
        assert read.keys() == tensors.keys(), path
        assert read["b"].dtype == torch.float32


def test_files_that_are_none(tmp_path):
    (tmp_path / "text.pth").write_text("hello")
    (tmp_path / "empty.safetensors").write_bytes(b"")
    torch.save({"epoch": 3}, tmp_path / "numbers.pth")
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"a": "gone.safetensors"}}')
    for name, why in (
        ("text.pth", "damaged or no checkpoint"),
        ("empty.safetensors", "damaged"),
        ("numbers.pth", "no tensors"),
        ("nothing.pth", "does not exist"),
        ("model.safetensors.index.json", "gone.safetensors is missing"),
    ):
        with pytest.raises(UserError, match=why) as caught:
            read_foreign(tmp_path / name)
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.fixture
def glee():
    generator, tensors = torch.Generator().manual_seed(0), {}
    backbone("glee.backbone.", tensors)
    pixel_decoder("glee.pixel_decoder.", tensors, generator)
    decoder("glee.predictor.", tensors, generator)
    tensors["glee.predictor.category_embed"] = torch.randn(WIDTH, WIDTH, generator=generator)
    text = build_random({"model_type": "clip_text_model", **CLIP})
    for side in ("text_encoder", "text_encoder_teacher"):
        tensors |= {f"glee.{side}.text_model.{name}": value for name, value in text.state_dict().items()}
    tensors["glee.lang_projection"] = torch.randn(32, WIDTH, generator=generator)
    return tensors


CLIP = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "max_position_embeddings": 16,
    "eos_token_id": 2,
    "bos_token_id": 1,
    "pad_token_id": 2,
}


@pytest.fixture
def clip_folder(tmp_path):
    """A base that brings nothing but its shapes: the release brings the weights."""
    folder = tmp_path / "clip"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "clip_text_model", **CLIP}))
    return folder


def convert(tensors, tmp_path, *words):
    torch.save(tensors, tmp_path / "release.pth")
    return run("convert", tmp_path / "release.pth", tmp_path / "out", *words)


def test_glee_becomes_a_stage_one_checkpoint_that_shards(glee, clip_folder, tmp_path):
    code, said = convert(
        glee, tmp_path, "--from", "glee", f"model.text.base.source={clip_folder}", "--shard-size", "0.0001"
    )
    assert code == 0, said
    for why in ("early fusion", "second name", "label tables", "had by its id"):
        assert why in said
    assert (tmp_path / "out" / INDEX).is_file()
    report = json.loads((tmp_path / "out/conversion.json").read_text())
    assert report["taken"]["text_encoder.lang_projection"] == ["glee.lang_projection"]
    assert report["dropped"]["glee.predictor.decoder.norm.bias"] == "second name of glee.predictor.decoder_norm.bias"
    accounted = {name for names in report["taken"].values() for name in names} | report["dropped"].keys()
    assert accounted == glee.keys()
    read = read_tensors(tmp_path / "out")
    assert_close(read["object_decoder.layers.0.norm2.weight"], glee["glee.predictor.decoder.layers.0.norm1.weight"])
    assert_close(read["object_decoder.category_embed.weight"], glee["glee.predictor.category_embed"].t())
    config = json.loads((tmp_path / "out/config.json").read_text())
    assert config["model"]["level"] == "objects"
    assert config["model"]["decoder"]["dim"] == WIDTH
    assert config["converted_from"] == {"file": "release.pth", "layout": "glee"}


@pytest.mark.parametrize(
    ("harm", "why"),
    [
        (lambda t: t.update({"glee.surprise": torch.ones(1)}), "glee.surprise, which no rule expects"),
        (lambda t: t.pop("glee.pixel_decoder.mask_features.bias"), "nothing fills pixel_decoder.mask_features.bias"),
        (lambda t: t.update({"glee.predictor.decoder.norm.bias": torch.ones(WIDTH)}), "two names of one tensor"),
        (lambda t: t.update({"glee.lang_projection": torch.ones(32, 8)}), "would have the shape"),
        (lambda t: t.pop("glee.backbone.patch_embed.proj.weight"), "holds no Swin"),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_is_written(glee, clip_folder, tmp_path, harm, why):
    harm(glee)
    code, said = convert(glee, tmp_path, "--from", "glee", f"model.text.base.source={clip_folder}")
    assert code == 3
    assert why in said
    assert not [path for path in tmp_path.iterdir() if "out" in path.name]


def test_another_project_is_noticed(glee, tmp_path):
    code, said = convert(glee, tmp_path, "--from", "langhops")
    assert code == 3
    assert "no checkpoint of langhops" in said


def test_partglee_brings_its_part_decoder_and_learned_queries(glee, clip_folder):
    generator = torch.Generator().manual_seed(2)
    tensors = {name.replace("glee.", "partglee.", 1): value for name, value in glee.items()}
    tensors = {name.replace("partglee.predictor.", "partglee.object_predictor."): v for name, v in tensors.items()}
    decoder("partglee.part_predictor.", tensors, generator)
    tensors["partglee.part_predictor.category_embed"] = torch.randn(WIDTH, WIDTH, generator=generator)
    for name, rows in (("part_queries_feat", 10), ("part_queries_pos", 10), ("obj_queries_pos", 30)):
        tensors[f"partglee.{name}.weight"] = torch.randn(rows, WIDTH, generator=generator)
    layer = nn.TransformerDecoder(nn.TransformerDecoderLayer(WIDTH, 8, 64), 2, norm=nn.LayerNorm(WIDTH))
    tensors |= {f"partglee.qformer.{name}": value for name, value in layer.state_dict().items()}
    conversion = convert_release(Ledger(tensors, source="x"), layout="partglee")
    assert not conversion.ledger.left
    config = conversion.config
    assert (config.level, config.hierarchy.source, config.refiner.kind) == ("parts", "learned", "qformer")
    assert (config.hierarchy.learned_queries, config.refiner.qformer_layers, config.decoder.num_queries) == (10, 2, 30)
    taken = conversion.ledger.taken
    assert_close(
        taken["part_branch.queries.queries.weight"],
        tensors["partglee.part_queries_feat.weight"] + tensors["partglee.part_queries_pos.weight"],
    )
    assert torch.equal(taken["part_branch.refiner.decoder.norm.bias"], tensors["partglee.qformer.norm.bias"])
    assert not taken["part_branch.queries.object_projection.weight"].any()
    skeleton = build_skeleton(
        replace(config, text=replace(config.text, base=BaseModelConfig("clip", str(clip_folder))))
    )
    shapes = {name: value.shape for name, value in skeleton.state_dict().items() if name in skeleton.saved_names()}
    new = {name for name in shapes if name.startswith("denoising.")}
    assert {name: value.shape for name, value in taken.items()} == {n: s for n, s in shapes.items() if n not in new}


def test_mask_dino_starts_a_training_without_names_of_its_own():
    generator, tensors = torch.Generator().manual_seed(0), {}
    backbone("backbone.", tensors)
    pixel_decoder("sem_seg_head.pixel_decoder.", tensors, generator)
    decoder("sem_seg_head.predictor.", tensors, generator)
    tensors["sem_seg_head.predictor.class_embed.weight"] = torch.randn(80, WIDTH)
    tensors["sem_seg_head.predictor.label_enc.weight"] = torch.randn(80, WIDTH)
    tensors["criterion.empty_weight"] = torch.ones(2)
    conversion = convert_release(Ledger(tensors, source="x"), layout="maskdino")
    assert not conversion.ledger.left
    assert "object_decoder.mask_embed.4.weight" in conversion.ledger.taken
    assert not any("text" in name or "category" in name for name in conversion.ledger.taken)


def test_wrong_turns(tmp_path):
    torch.save({"a": torch.ones(1)}, tmp_path / "a.pth")
    (tmp_path / "there").mkdir()
    (tmp_path / "bad.yaml").write_text("promt: hello")
    for words, why in (
        ((tmp_path / "a.pth", tmp_path / "there"), "exists; give a new folder"),
        ((tmp_path / "a.pth", tmp_path / "out", "--from", "glee", "--prompt-file", "x"), "no language model"),
        ((tmp_path / "a.pth", tmp_path / "out", "--from", "swin", "model.a=1"), "no settings to change"),
        ((tmp_path / "a.pth", tmp_path / "out", "--from", "sam"), "'sam'"),
    ):
        code, said = run("convert", *words)
        assert code == 2, said
        assert why in said


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("decoder.dim=3",), "begin it with model."),
        (("model.hierarchy.nonsense=3",), "unknown key model.hierarchy.nonsense"),
        (("--prompt-file", "bad.yaml"), "give the keys prompt and segment"),
        (("--prompt-file", "none.yaml"), "none.yaml: cannot be read"),
    ],
)
def test_settings_that_do_not_fit(glee, tmp_path, monkeypatch, words, why):
    monkeypatch.chdir(tmp_path)
    Path("bad.yaml").write_text("promt: hello")
    layout = "langhops" if "--prompt-file" in words else "glee"
    torch.save(glee, "release.pth")
    code, said = run("convert", "release.pth", "out", "--from", layout, *words)
    assert code == 2, said
    assert why in said
