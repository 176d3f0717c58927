"""Models on the Hub, with a Hub that stands in for the real one."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
from huggingface_hub import ModelCard
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    LocalEntryNotFoundError,
    LocalTokenNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from safetensors.torch import load_file

from langhops_cli import Predictor
from langhops_cli.checkpoint.build import build_model
from langhops_cli.checkpoint.card import model_card
from langhops_cli.checkpoint.hub import LangHOPS, checkpoint_name, find_checkpoint
from langhops_cli.errors import UserError
from langhops_cli.model.configuration import ModelConfig

MINI = ModelConfig.preset("mini")
SMALL = {"dim": 32, "feedforward": 32, "heads": 4, "encoder_layers": 1, "object_layers": 1, "part_layers": 1}
CONFIG = replace(MINI, level="objects", decoder=replace(MINI.decoder, **SMALL))


@pytest.fixture(scope="module")
def langhops() -> LangHOPS:
    return LangHOPS(build_model(CONFIG, pretrained=False), CONFIG, {"vocabulary": {"dog": None}})


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A Hub in a folder; `calls` is what it was asked, `refusal` what it raises."""
    state = SimpleNamespace(folder=tmp_path / "hub", calls=[], refusal=None)

    def ask(what: str, **arguments: object) -> None:
        state.calls.append((what, arguments))
        if state.refusal is not None:
            raise state.refusal

    class Api:
        def create_repo(self, repo_id: str, *, private: bool | None, exist_ok: bool) -> str:
            ask("create", repo_id=repo_id, private=private, exist_ok=exist_ok)
            return f"https://huggingface.co/{repo_id}"

        def upload_folder(self, *, repo_id: str, folder_path: Path, commit_message: str) -> None:
            ask("upload", repo_id=repo_id)
            shutil.copytree(folder_path, state.folder / repo_id)

    def download(repo_id: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        ask("download", repo_id=repo_id, revision=revision)
        return str(state.folder / repo_id)

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    return state


def refusal(kind: type[HfHubHTTPError], status: int) -> HfHubHTTPError:
    return kind("refused", response=SimpleNamespace(headers={}, request=None, status_code=status))


def test_what_is_put_on_the_hub_comes_back(langhops: LangHOPS, hub: SimpleNamespace, tmp_path: Path) -> None:
    page = langhops.push_to_hub("someone/dogs", private=True, license="cc-by-4.0")
    assert page == "https://huggingface.co/someone/dogs"
    assert hub.calls[0] == ("create", {"repo_id": "someone/dogs", "private": True, "exist_ok": True})
    loaded = LangHOPS.from_pretrained("someone/dogs", revision="v1")
    assert hub.calls[-1] == ("download", {"repo_id": "someone/dogs", "revision": "v1"})
    langhops.save_pretrained(tmp_path / "before")
    loaded.save_pretrained(tmp_path / "after")
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("before", "after"))
    assert before.keys() == after.keys() and all(before[name].equal(after[name]) for name in before)
    assert loaded.metadata["license"] == "cc-by-4.0"
    assert Predictor.from_pretrained("someone/dogs").config == CONFIG


def test_the_card_on_the_hub_can_be_found_and_copied_from(langhops: LangHOPS, hub: SimpleNamespace) -> None:
    langhops.push_to_hub("someone/dogs")
    text = (hub.folder / "someone" / "dogs" / "README.md").read_text(encoding="utf-8")
    card = ModelCard(text)
    assert card.data.license == "unknown"
    assert card.data.library_name == "langhops"
    assert card.data.pipeline_tag == "image-segmentation"
    assert "part-segmentation" in card.data.tags
    assert card.data.base_model == ["sentence-transformers/all-MiniLM-L6-v2"]
    assert "--checkpoint someone/dogs" in text


def test_a_licence_is_no_yaml_of_its_own() -> None:
    card = ModelCard(model_card({"model": {"level": "objects"}, "license": "other: see 'terms'"}))
    assert card.data.license == "other: see 'terms'"


@pytest.mark.parametrize("source", ["nowhere", "/no/where", "imgs/a", "a/b/c", "../b"])
def test_what_can_only_be_a_folder_is_not_asked_for(source: str, hub: SimpleNamespace) -> None:
    assert find_checkpoint(source) == Path(source)
    assert hub.calls == []


def test_a_folder_goes_before_a_model_of_the_same_name(
    hub: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    assert find_checkpoint("runs/stage9") == Path("runs/stage9")  # a slip in the name of a run is no model
    assert hub.calls == []
    assert checkpoint_name("runs/stage9") == "stage9"
    assert checkpoint_name("someone/dogs") == "someone/dogs"
    with pytest.raises(UserError, match=r"no revision v1"):
        find_checkpoint("runs/stage9", revision="v1")


@pytest.mark.parametrize(
    ("error", "message", "code"),
    [
        (refusal(GatedRepoError, 403), "wants its licence accepted first.*hf auth login", 4),
        (refusal(RepositoryNotFoundError, 401), "has none of that name", 3),
        (refusal(RevisionNotFoundError, 404), "has it, but not that revision", 3),
        (refusal(HfHubHTTPError, 500), "refused: refused", 4),
        (LocalEntryNotFoundError("offline\nand not kept"), "cannot be reached: connect, or use a local folder", 4),
        (ConnectionError(111, "Connection refused"), "cannot be reached", 4),
        (HTTPError("no route"), "cannot be reached", 4),
        (HFValidationError("a name\nof two lines"), "refused: a name of two lines", 4),
    ],
)
def test_why_the_hub_gives_no_model(error: Exception, message: str, code: int, hub: SimpleNamespace) -> None:
    hub.refusal = error
    with pytest.raises(UserError, match=f"someone/dogs is no folder here, and the Hub {message}") as caught:
        LangHOPS.from_pretrained("someone/dogs")
    assert caught.value.code == code
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (LocalTokenNotFoundError("no token"), "does not know you: `hf auth login`"),
        (refusal(HfHubHTTPError, 401), "does not know you"),
        (refusal(HfHubHTTPError, 403), "does not let you: check the owner"),
        (ConnectionError("offline"), "cannot be reached"),
    ],
)
def test_why_the_hub_takes_no_model(error: Exception, message: str, hub: SimpleNamespace, langhops: LangHOPS) -> None:
    hub.refusal = error
    with pytest.raises(UserError, match=f"someone/dogs was not written: the Hub {message}") as caught:
        langhops.push_to_hub("someone/dogs")
    assert caught.value.code == 4
    assert "\n" not in str(caught.value)


def test_a_full_disk_is_not_blamed_on_the_hub(hub: SimpleNamespace) -> None:
    hub.refusal = OSError(28, "No space left on device")
    with pytest.raises(UserError, match=r"^no space is left on the disk") as caught:
        find_checkpoint("someone/dogs")
    assert "Hub" not in str(caught.value)


@pytest.mark.parametrize("name", ["dogs", "some one/dogs", "a/b/c", ""])
def test_a_name_that_the_hub_cannot_have_is_refused(name: str, hub: SimpleNamespace, langhops: LangHOPS) -> None:
    with pytest.raises(UserError, match="owner/name"):
        langhops.push_to_hub(name)
    assert hub.calls == []
