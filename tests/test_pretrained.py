"""Folders to share: saved, loaded from disk, from the package and from a local cache of the Hugging Face Hub."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

import daydrive
from daydrive import weights
from daydrive.checkpoint import load
from daydrive.cli import app
from daydrive.errors import UserError
from daydrive.models import WorldModel
from daydrive.weights import FOLDER, NAMES
from helpers.checkpoints import write_checkpoint
from helpers.refusals import checkpoint_of

MAX_PACKAGED_BYTES = 16_000_000


@pytest.fixture(scope="module")
def shared(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with half-precision weights."""
    return daydrive.save_pretrained(trained, tmp_path_factory.mktemp("shared") / "model", precision="float16")


@pytest.fixture
def packaged(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The package with weights for the road world."""
    monkeypatch.setattr(weights, "FOLDER", tmp_path / "weights")
    return shutil.copytree(shared, tmp_path / "weights" / "road")


def frames_of(model: WorldModel) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (1, 4, 3, 64, 64), dtype=torch.uint8, generator=generator)
    return daydrive.rollout(model, images, torch.rand(1, 8, 4, generator=generator)).int()


def test_folder_holds_what_the_conventions_ask_for(shared: Path, trained: Path) -> None:
    assert sorted(file.name for file in shared.iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
        "state.json",
    ]
    stored, original = (load_file(folder / "model.safetensors") for folder in (shared, checkpoint_of(trained)))
    assert stored.keys() == original.keys() and {tensor.dtype for tensor in stored.values()} == {torch.float16}
    config = json.loads((shared / "config.json").read_text())
    assert config["model"]["type"] == "texture" and config["data"]["root"] is None
    assert str(trained.parent) not in json.dumps(config)
    head = yaml.safe_load((shared / "README.md").read_text().split("---")[1])
    assert head["library_name"] == "daydrive" and "world-model" in head["tags"]
    assert "- command: `daydrive train --config" in (shared / "README.md").read_text()


def test_saved_model_predicts_the_same(shared: Path, trained: Path, tmp_path: Path) -> None:
    expected = frames_of(daydrive.load(trained))
    exact = daydrive.save_pretrained(trained, tmp_path / "exact")
    assert frames_of(daydrive.from_pretrained(exact)).equal(expected)
    model = daydrive.from_pretrained(shared)
    assert not model.training and next(model.parameters()).dtype == torch.float32
    assert (frames_of(model) - expected).abs().max() <= 3
    assert load(shared).step == 2
    again = daydrive.save_pretrained(shared, tmp_path / "again", precision="float16")
    assert (again / "README.md").read_text() == (shared / "README.md").read_text()


def test_card_of_the_evaluation_is_used(run: Path, tmp_path: Path) -> None:
    folder = run / "evaluation"
    folder.mkdir()
    (folder / "MODEL_CARD.md").write_text("measured")
    for name, card in ((checkpoint_of(run).name, "measured"), ("step-00009999", "None is recorded here")):
        (folder / "evaluation.json").write_text(json.dumps({"checkpoint": f"elsewhere/{name}"}))
        assert card in (daydrive.save_pretrained(run, tmp_path / name) / "README.md").read_text()


def test_weights_of_the_package_have_a_name(packaged: Path, shared: Path, here: Path) -> None:
    assert load(Path("road")).path == packaged
    assert frames_of(daydrive.load("road")).equal(frames_of(daydrive.from_pretrained(shared)))
    app(["dream-speed", "--checkpoint", "road", "--frames", "2", "--device", "cpu"], standalone_mode=False)
    write_checkpoint(here / "road", "texture")
    assert load(Path("road")).image_size == (32, 32), "an existing path comes first"


def test_missing_weights_of_the_package(tmp_path: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "FOLDER", tmp_path)
    with pytest.raises(UserError, match=r"the weights 'road' are not part of this installation.*--format pretrained"):
        daydrive.load("road")
    with pytest.raises(UserError, match="there is no checkpoint rode"):
        daydrive.load("rode")


@pytest.mark.parametrize("name", [name for name in NAMES if (FOLDER / name / "model.safetensors").is_file()])
def test_packaged_weights_are_small_and_free(name: str) -> None:
    assert sum(file.stat().st_size for file in (FOLDER / name).iterdir()) <= MAX_PACKAGED_BYTES
    card = (FOLDER / name / "README.md").read_text()
    assert yaml.safe_load(card.split("---")[1])["license"] == "mit" and "- command: `daydrive train" in card


def test_command_writes_a_folder(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["export", "--checkpoint", str(trained), "--format", "pretrained", "--output", str(tmp_path / "out")]
    app([*arguments, "--precision", "float16"], standalone_mode=False)
    assert str(tmp_path / "out/README.md") in capsys.readouterr().out
    assert daydrive.load(tmp_path / "out").image_size == (64, 64)


def test_weights_beyond_half_precision(run: Path, tmp_path: Path) -> None:
    file = checkpoint_of(run) / "model.safetensors"
    tensors = load_file(file)
    name = next(iter(tensors))
    save_file({**tensors, name: tensors[name] * 0 + 1e6}, file)
    with pytest.raises(UserError, match=f"the weight '{name}' has values beyond the range of float16"):
        daydrive.save_pretrained(run, tmp_path / "new/out", precision="float16")
    assert not (tmp_path / "new").exists()
    with pytest.raises(UserError, match="stored in float32 or float16, not in int8"):
        daydrive.save_pretrained(run, tmp_path / "out", precision="int8")


@pytest.fixture
def cache(shared: Path, tmp_path: Path) -> Path:
    """A cache of the Hub with the repository `someone/road`."""
    repository = tmp_path / "hub" / "models--someone--road"
    commit = "0123456789abcdef0123456789abcdef01234567"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    shutil.copytree(shared, repository / "snapshots" / commit)
    return tmp_path / "hub"


def test_repository_in_the_local_cache(cache: Path, shared: Path, here: Path) -> None:
    model = daydrive.from_pretrained("someone/road", cache_dir=cache, local_files_only=True)
    assert frames_of(model).equal(frames_of(daydrive.from_pretrained(shared)))
    with pytest.raises(UserError, match=r"^reading someone/else from the Hugging Face Hub failed"):
        daydrive.from_pretrained("someone/else", cache_dir=cache, local_files_only=True)
    with pytest.raises(UserError, match="there is no checkpoint nowhere"):
        daydrive.from_pretrained("nowhere", cache_dir=cache)


def test_upload(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uploaded: dict[str, Any] = {}

    class Api:
        def __init__(self, token: str | None) -> None:
            uploaded["token"] = token

        def create_repo(self, name: str, private: bool | None, exist_ok: bool) -> str:
            if name == "someone/forbidden":
                raise OSError("403 Forbidden.")
            return f"hub/{name}"

        def upload_folder(self, repo_id: str, folder_path: str, commit_message: str) -> None:
            uploaded["files"] = sorted(file.name for file in Path(folder_path).iterdir())
            uploaded["model"] = daydrive.from_pretrained(folder_path)

    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    assert daydrive.push_to_hub(trained, "someone/road", precision="float16", token="x") == "hub/someone/road"
    assert uploaded["files"] == ["README.md", "config.json", "model.safetensors", "state.json"]
    assert uploaded["token"] == "x" and uploaded["model"].image_size == (64, 64)
    with pytest.raises(UserError, match=r"uploading someone/forbidden to .* failed \(OSError: 403 Forbidden\)"):
        daydrive.push_to_hub(trained, "someone/forbidden")
    with pytest.raises(UserError, match="is OWNER/NAME, not 'road'"):
        daydrive.push_to_hub(trained, "road")


def test_missing_package(trained: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for call in (lambda: daydrive.from_pretrained("a/b"), lambda: daydrive.push_to_hub(trained, "a/b")):
        with pytest.raises(UserError, match=r"needs the package huggingface_hub: pip install 'daydrive\[hub\]'"):
            call()
