"""A release made anew from the names of its keys, converted by the command, and loaded by the public API."""

import csv
import hashlib
import json
import os
import re
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close
from typer.testing import CliRunner

from langhops_cli.checkpoint.base_models import build_random
from langhops_cli.checkpoint.hub import LangHOPS
from langhops_cli.cli.app import app
from langhops_cli.model.pixel_decoder import Pyramid
from langhops_cli.model.structures import Names, Pictures, VocabularyBatch

GOLDENS = Path(
    os.environ.get("LANGHOPS_GOLDENS", Path(__file__).parents[3] / "shared" / "goldens" / "reference_small_a")
)
HERE = Path(__file__).parent
PALIGEMMA = "partglee.llm_model.base_model.model."


def pytest_collection_modifyitems(items):
    skip = pytest.mark.skip(reason=f"no golden tensors in {GOLDENS}")
    for item in items:
        if item.path.is_relative_to(HERE) and not GOLDENS.is_dir():
            item.add_marker(skip)


class Goldens:
    """The stored tensors; remembers which of them were compared.

    The tolerance of each is that of the set's index. A scalar of the losses may differ by a share as well.
    """

    def __init__(self) -> None:
        self.tensors = load_file(GOLDENS / "outputs.safetensors")
        self.inputs = load_file(GOLDENS / "inputs.safetensors")
        self.config = json.loads((GOLDENS / "config.json").read_text())
        with (GOLDENS / "outputs_index.tsv").open(newline="") as file:
            rows = [row for row in csv.reader(file, delimiter="\t") if not row[0].startswith("#")]
        self.tolerance = {row[0]: float(row[6]) for row in rows}
        self.compared = set()

    def __getitem__(self, name):
        return self.tensors[name]

    def __contains__(self, name):
        return name in self.tensors

    def use(self, name):
        """A stored tensor that the caller compares by itself."""
        self.compared.add(name)
        return self.tensors[name]

    def compare(self, name, actual, *, mask=None, loosen=1.0, rtol=0.0):
        """Compare with a stored tensor, where `mask` is True.

        Args:
            loosen: how much more than the index suggests; our order of operations is another one.
        """
        expected = self.use(name)
        assert actual.shape == expected.shape, f"{name}: {tuple(actual.shape)} against {tuple(expected.shape)}"
        if mask is not None:
            actual, expected = actual[mask], expected[mask]
        if not expected.is_floating_point():
            assert torch.equal(actual.to(expected.dtype), expected), name
            return
        assert_close(
            actual, expected, atol=loosen * max(self.tolerance[name], 2e-5), rtol=rtol, msg=lambda m: f"{name}: {m}"
        )

    @property
    def names(self):
        vocabulary = self.config["vocabulary"]
        return [*vocabulary["object_names"], *vocabulary["part_names"]]

    @property
    def scale(self):
        """By which the release's transformers multiplied whatever entered Gemma."""
        return self.config["mllm_extra"]["embedding_scale"]


@pytest.fixture(scope="session")
def golden():
    return Goldens()


def draw(name, shape, kind, salt):
    """The recipe of the set's README: every tensor is drawn from a generator seeded by its own name."""
    seed = int.from_bytes(hashlib.sha256((salt + name).encode()).digest()[:8], "little")
    x = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    if kind == "norm_weight":
        x = 1 + 0.1 * x
    elif kind in ("bias", "running_mean"):
        x = 0.05 * x
    elif kind == "running_var":
        x = 1 + 0.1 * np.abs(x)
    elif kind in ("rms_weight", "rel_pos_table"):
        x = 0.1 * x
    elif kind == "lang_projection":
        x = x / 16
    elif kind == "category_embed":
        x = x / 256
    else:
        x = x / np.sqrt(np.prod(shape[1:])) if len(shape) > 1 else 0.05 * x
    return torch.from_numpy(np.asarray(x, dtype=np.float32))


@pytest.fixture(scope="session")
def released(golden):
    """Every tensor of the release by its name; those without influence are zeros that take no room."""
    with (GOLDENS / "keys.tsv").open(newline="") as file:
        rows = list(csv.reader(file, delimiter="\t"))[1:]
    tensors = {}
    for key, text, kind, alias, used in (row[:5] for row in rows):
        shape = () if text == "scalar" else tuple(map(int, text.split("x")))
        if used == "0" or kind in ("int_buffer", "constant"):
            tensors[key] = torch.zeros((), dtype=torch.long if kind == "int_buffer" else torch.float).expand(shape)
        elif alias:
            tensors[key] = tensors[alias] if alias in tensors else draw(alias, shape, kind, golden.config["salt"])
        else:
            tensors[key] = draw(key, shape, kind, golden.config["salt"])
    for key, probe in golden.config["weight_probes"].items():
        assert tensors[key].flatten()[:4].tolist() == pytest.approx(probe["first4"], rel=1e-6), key
    return tensors


def below(tensors, prefix):
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def save_tokenizer(folder, size, *, texts=None, pad=0, length=10_000):
    """A tokenizer whose token number n is written "tn"; `texts` are written by their ids."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel({f"t{number}": number for number in range(size)}, unk_token=f"t{pad}"))
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.Replace(Regex(f"^{re.escape(text)}$"), " ".join(f"t{number}" for number in ids))
            for text, ids in (texts or {}).items()
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=f"t{pad}", model_max_length=length).save_pretrained(
        folder
    )


@pytest.fixture(scope="session")
def clip_folder(golden, released, tmp_path_factory):
    """The frozen teacher is what the release's base was."""
    folder, sizes = tmp_path_factory.mktemp("clip"), golden.config["model"]["text"]
    model = build_random(
        {
            "model_type": "clip_text_model",
            "vocab_size": sizes["vocab_size"],
            "hidden_size": sizes["hidden"],
            "num_hidden_layers": sizes["layers"],
            "num_attention_heads": sizes["heads"],
            "intermediate_size": sizes["intermediate"],
            "max_position_embeddings": sizes["max_positions"],
            "hidden_act": sizes["act"],
            "eos_token_id": sizes["eos_id"],
            "bos_token_id": sizes["bos_id"],
            "pad_token_id": sizes["pad_id"],
        }
    )
    model.load_state_dict(below(released, "partglee.text_encoder_teacher.text_model."))
    model.save_pretrained(folder)
    ids, attended = (golden.inputs[f"text.{name}"] for name in ("input_ids", "attention_mask"))
    texts = {text: row[real.bool()].tolist() for text, row, real in zip(golden.names, ids, attended, strict=True)}
    save_tokenizer(folder, sizes["vocab_size"], texts=texts, pad=sizes["pad_id"], length=sizes["max_positions"])
    return folder


@pytest.fixture(scope="session")
def paligemma_folder(golden, released, tmp_path_factory):
    folder, sizes = tmp_path_factory.mktemp("paligemma"), golden.config["model"]["mllm"]
    vision = sizes["vision"]
    model = build_random(
        {
            "model_type": "paligemma",
            "projection_dim": sizes["hidden"],
            "vision_config": {
                "model_type": "siglip_vision_model",
                "hidden_size": vision["hidden"],
                "intermediate_size": vision["intermediate"],
                "num_hidden_layers": vision["layers"],
                "num_attention_heads": vision["heads"],
                "image_size": vision["image_size"],
                "patch_size": vision["patch_size"],
                "hidden_act": vision["act"],
                "layer_norm_eps": vision["layer_norm_eps"],
                "vision_use_head": False,
            },
            "text_config": {
                "model_type": "gemma2",
                "vocab_size": sizes["vocab_size"],
                "hidden_size": sizes["hidden"],
                "num_hidden_layers": sizes["layers"],
                "num_attention_heads": sizes["heads"],
                "num_key_value_heads": sizes["kv_heads"],
                "head_dim": sizes["head_dim"],
                "intermediate_size": sizes["intermediate"],
                "query_pre_attn_scalar": sizes["query_pre_attn_scalar"],
                "rms_norm_eps": sizes["rms_eps"],
            },
        }
    )
    state = {
        name.replace("vision_tower.vision_model.", "vision_tower.").replace(
            "language_model.model.", "language_model."
        ): value
        for name, value in below(released, PALIGEMMA).items()
        if "lora_" not in name and "lm_head" not in name
    }
    model.load_state_dict(state)
    model.save_pretrained(folder)
    save_tokenizer(folder, sizes["vocab_size"])
    return folder


def prompt_of(pieces):
    """The set's prompt as text: what stands before the objects, and what around the queries of each."""
    texts, segments = [""], []
    for piece in pieces:
        if "text" in piece:
            texts[-1] += " ".join(f"t{number}" for number in piece["text"])
        elif "image" in piece:
            texts[-1] += " {image} "
        else:
            texts.append("")
    prompt, *between, last = texts
    segments = ["{queries}", *(f"{text} {{queries}}" for text in between)]
    segments[-1] += f" {last}"
    return {"prompt": prompt + " {parts}", "segment": segments}


@pytest.fixture(scope="session")
def converted(golden, released, clip_folder, paligemma_folder, tmp_path_factory):
    """Folder of the checkpoint that `langhops convert` made of the release."""
    folder = tmp_path_factory.mktemp("converted")
    torch.save({"model": released, "iteration": 7}, folder / "release.pth")
    (folder / "prompt.yaml").write_text(json.dumps(prompt_of(golden.config["prompt"])))
    kept = golden.config["model"]["decoder"]["topk_objects"]
    result = CliRunner().invoke(
        app,
        [
            *(
                "convert",
                str(folder / "release.pth"),
                str(folder / "out"),
                "--prompt-file",
                str(folder / "prompt.yaml"),
            ),
            f"model.text.base.source={clip_folder}",
            f"model.refiner.base.source={paligemma_folder}",
            f"model.refiner.image_size={golden.config['model']['mllm']['vision']['image_size']}",
            "model.refiner.precision=fp32",
            f"model.hierarchy.num_kept={kept}",
        ],
    )
    assert result.exit_code == 0, result.output
    return folder / "out"


@pytest.fixture(scope="session")
def released_model(converted):
    """The arithmetic of the released inference: without the softcap."""
    return LangHOPS.from_pretrained(converted).model


@pytest.fixture(scope="session")
def model(converted, golden):
    """The same with the softcap, which most tensors of the set were made with."""
    config = json.loads((converted / "config.json").read_text())
    config["model"]["refiner"]["softcap"] = golden.config["model"]["mllm"]["attn_softcap"]
    capped = converted.parent / "capped"
    capped.mkdir()
    (capped / "config.json").write_text(json.dumps(config))
    (capped / "model.safetensors").symlink_to(converted / "model.safetensors")
    return LangHOPS.from_pretrained(capped).model


@pytest.fixture(scope="session")
def vocabulary(golden):
    """The names of the set for two pictures; there a part may belong to several objects."""
    objects, parts = (len(golden.config["vocabulary"][f"{level}_names"]) for level in ("object", "part"))
    table = golden.config["hierarchy"]["object_to_part_class_ids"]
    children = [[number - objects for number in table.get(str(index), [])] for index in range(objects)]
    width = max(map(len, children))
    padded = torch.tensor([row + [0] * (width - len(row)) for row in children])
    valid = torch.tensor([[place < len(row) for place in range(width)] for row in children])
    batch = golden.config["batch"]
    return VocabularyBatch(
        texts=tuple(golden.names),
        objects=torch.arange(objects).expand(batch, -1),
        object_valid=torch.ones(batch, objects, dtype=torch.bool),
        parts=torch.arange(objects, objects + parts).expand(batch, -1),
        part_valid=torch.ones(batch, parts, dtype=torch.bool),
        children=padded.expand(batch, -1, -1),
        child_valid=valid.expand(batch, -1, -1),
        child_slot=torch.zeros_like(padded).expand(batch, -1, -1),
    )


@pytest.fixture(scope="session")
def pictures(golden, released_model):
    """The set's pictures as they were before either side's normalisation."""
    backbone = released_model.backbone
    pixels = golden.inputs["image"] * backbone.pixel_std + backbone.pixel_mean
    # the release divided by 255 once more than it should have, which conversion has folded into the weights
    tower = (golden.inputs["pixel_values"].double() + 1) * 255 - 1
    sizes = torch.tensor([list(pixels.shape[-2:])]).expand(len(pixels), -1)
    return Pictures(pixels, sizes, tower.float())


def one(item, picture):
    """One picture of a batch, alone."""
    rows = slice(picture, picture + 1)
    values = {field.name: getattr(item, field.name) for field in fields(item)}
    return replace(item, **{name: value[rows] for name, value in values.items() if isinstance(value, torch.Tensor)})


def pyramid_of(golden):
    """What the decoders read, from the stored maps."""
    levels = [golden[f"pixel.level{number}"] for number in (3, 2, 1, 0)]
    memory = torch.cat([level.flatten(2).transpose(1, 2) for level in levels], dim=1)
    return Pyramid(
        memory,
        torch.ones(memory.shape[:2], dtype=torch.bool),
        tuple(tuple(level.shape[-2:]) for level in levels),
        golden["pixel.mask_features"],
        torch.ones_like(golden["pixel.mask_features"][:, 0], dtype=torch.bool),
        torch.ones(len(memory), 2),
    )


@pytest.fixture(scope="session")
def decode_live(golden, model):
    """The part decoder on refined queries of the release's batch, where padded ones take part like any other."""

    @torch.no_grad()
    def decode(queries, trace=None):
        texts = golden["text.class_embeddings"][len(golden.config["vocabulary"]["object_names"]) :]
        names = Names(texts.expand(len(queries), -1, -1), torch.ones(len(queries), len(texts), dtype=torch.bool))
        valid = torch.ones(queries.shape[:2], dtype=torch.bool)
        decoder = model.part_branch.decoder
        return decoder(pyramid_of(golden), names, queries=queries, valid=valid, auxiliary=True, trace=trace)

    return decode
