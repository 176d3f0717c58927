"""The ranking by likelihood, with models whose likelihoods are known."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from langhops_cli.errors import UserError
from langhops_cli.hierarchy.likelihood import ANYTHING, CALIBRATION, PROMPT, PartLikelihood

WORDS = ["<pad>", "In", "the", "photo,", "you", "can", "see", "dog's", "cup's", "its", "head", "handle", "tail", "of"]
WORDS += ["wheel"]


class Words:
    """Splits at spaces; each word is a token."""

    eos_token_id = None

    def __call__(self, text):
        return {"input_ids": [WORDS.index(word) for word in text.split()]}


class Bigrams:
    """A model in which a token depends on the last one only; what is behind it is never read."""

    def __init__(self, table):
        self.log_probabilities = table.log_softmax(-1)
        self.shapes = []

    def __call__(self, input_ids, attention_mask):
        assert attention_mask.shape == input_ids.shape
        self.shapes.append(tuple(input_ids.shape))
        return SimpleNamespace(logits=self.log_probabilities[input_ids] + 3.0)  # a shift of all logits says nothing


@pytest.fixture
def table():
    return torch.randn(len(WORDS), len(WORDS), generator=torch.Generator().manual_seed(0))


def by_hand(table, prompt, name):
    tokens = [WORDS.index(word) for word in f"{prompt} {name}".split()]
    first = len(prompt.split())
    logs = table.log_softmax(-1)
    scores = [float(logs[tokens[at - 1], tokens[at]]) for at in range(first, len(tokens))]
    return sum(scores) / len(scores)


NAMES = ["head", "tail of wheel", "handle", "head of the dog's tail"]


@pytest.mark.parametrize("batch", [1, 3, 32])
def test_the_score_is_the_mean_log_likelihood_of_the_names_tokens(table, batch):
    model = Bigrams(table)
    scored = PartLikelihood(model, Words(), batch=batch).log_likelihoods(ANYTHING, NAMES)
    assert scored.tolist() == pytest.approx([by_hand(table, ANYTHING, name) for name in NAMES], abs=1e-5)
    assert [shape[0] for shape in model.shapes] == [min(batch, 4)] * (4 // min(batch, 4)) + [1] * (batch == 3)


def test_the_advantage_takes_off_what_is_likely_anyway(table):
    ranking = PartLikelihood(Bigrams(table), Words())
    found = ranking.advantage("dog", NAMES)
    wanted = [
        by_hand(table, PROMPT.format("dog"), name) - CALIBRATION * by_hand(table, ANYTHING, name) for name in NAMES
    ]
    assert found.tolist() == pytest.approx([value - sum(wanted) / 4 for value in wanted], abs=1e-5)
    assert found.sum() == pytest.approx(0, abs=1e-9)


def test_a_part_that_follows_its_object_is_ahead(table):
    table = torch.zeros_like(table)
    dog, cup, its = (WORDS.index(word) for word in ("dog's", "cup's", "its"))
    head, handle = WORDS.index("head"), WORDS.index("handle")
    table[dog, head] = table[cup, handle] = math.log(50)
    table[its, head] = table[its, handle] = math.log(3)
    ranking = PartLikelihood(Bigrams(table), Words())
    names = ["handle", "head", "wheel"]
    assert ranking.advantage("dog", names).argmax() == 1
    assert ranking.advantage("cup", names).argmax() == 0
    assert ranking.advantage("dog", ["wheel"]).tolist() == [0.0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small random Llama with a tokenizer of words, as transformers keeps them."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    place = tmp_path_factory.mktemp("llama")
    words = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="<pad>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<pad>").save_pretrained(place)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(WORDS), hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2
    )
    LlamaForCausalLM(config).save_pretrained(place)
    return place


def test_a_folder_of_transformers_is_read_and_padding_is_not(folder):
    ranking = PartLikelihood.from_pretrained(folder)
    together = ranking.log_likelihoods(ANYTHING, NAMES)
    alone = np.concatenate([ranking.log_likelihoods(ANYTHING, [name]) for name in NAMES])
    assert together == pytest.approx(alone, abs=1e-5)
    assert len(set(together.round(4))) == 4


def test_the_model_itself_agrees(folder):
    """The mean loss of transformers over the name's tokens alone is the score with its sign turned."""
    ranking = PartLikelihood.from_pretrained(folder)
    name = "tail of wheel"
    ids = torch.tensor([ranking.tokenizer(f"{ANYTHING} {name}")["input_ids"]])
    labels = ids.clone()
    labels[:, : len(ANYTHING.split())] = -100
    loss = ranking.model(input_ids=ids, labels=labels).loss.item()
    assert ranking.log_likelihoods(ANYTHING, [name])[0] == pytest.approx(-loss, abs=1e-5)


def test_what_is_no_language_model_is_told_in_one_line(tmp_path):
    with pytest.raises(UserError, match="there is no such folder or file with a language model") as missing:
        PartLikelihood.from_pretrained(tmp_path / "none")
    assert missing.value.code == 4
    (tmp_path / "empty").mkdir()
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    for folder in (tmp_path / "empty", tmp_path):
        with pytest.raises(UserError, match="is no causal language model that transformers reads") as empty:
            PartLikelihood.from_pretrained(folder)
        assert len(str(empty.value).splitlines()) == 1 and empty.value.code == 3


def test_a_gguf_file_without_its_package_is_told(tmp_path, monkeypatch):
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install gguf") as error:
        PartLikelihood.from_pretrained(path)
    assert error.value.code == 4


def test_one_text_behind_several_prompts(table):
    prompts = [ANYTHING, PROMPT.format("dog"), "head of the"]
    found = PartLikelihood(Bigrams(table), Words(), batch=2).log_likelihoods_behind(prompts, "tail of wheel")
    assert found.tolist() == pytest.approx([by_hand(table, prompt, "tail of wheel") for prompt in prompts], abs=1e-5)
