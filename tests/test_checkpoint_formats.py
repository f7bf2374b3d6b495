"""Checkpoints of older formats load and go on: `fixtures/format2` is what daydrive's commit 8d3a6ee wrote.

Its run was trained for 3 of 6 steps on the drives of `road_store`; `resumed.jsonl` is what the same code logged of the
rest, `rollout.safetensors` what it predicted from the checkpoint.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from daydrive import checkpoint
from daydrive.errors import UserError
from daydrive.files import read_json, write_json
from daydrive.models import build_world_model
from daydrive.models.rollout import rollout_uint8
from helpers.paths import TESTS
from helpers.runs import logged, run_training

OLD = TESTS / "fixtures/format2"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return shutil.copytree(OLD, tmp_path / "old")


def scene() -> tuple[torch.Tensor, torch.Tensor]:
    y, x = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    frames = [torch.stack([(3 * x + 2 * y * (c + 1) + 5 * t) % 256 for c in range(3)]) for t in range(4)]
    actions = torch.zeros(1, 6, 4)
    actions[0, :, 0], actions[0, :, 1], actions[0, :, 3] = torch.linspace(-1, 1, 6), 0.5, 1
    return torch.stack(frames)[None].to(torch.uint8), actions


def test_old_checkpoint_predicts_the_same() -> None:
    loaded = checkpoint.load(OLD)
    assert loaded.step == 3 and loaded.config is not None and loaded.config.model.type == "texture"
    expected = load_file(OLD / "rollout.safetensors")["frames"]
    frames = rollout_uint8(loaded.model, *scene())
    assert (frames.int() - expected.int()).abs().max() <= 1


def test_old_checkpoint_resumes_exactly(old: Path, road_store: Path) -> None:
    """Weights, their average, and the moments of both optimizers are restored."""
    assert run_training(old / "config.yaml", road_store, old, resume=True) == 0
    expected = [json.loads(line) for line in (OLD / "resumed.jsonl").read_text().splitlines()]
    steps = [line for line in logged(old) if line["step"] > 3]
    assert [line["step"] for line in steps] == [4, 5, 6]
    for line, before in zip(steps, expected, strict=True):
        assert line == pytest.approx(before, rel=1e-3, abs=1e-4)
    assert checkpoint.read_state(checkpoint.find(old, "last"))["format"] == checkpoint.FORMAT == 3
    checkpoint.load(old)


def test_old_weights_are_not_read_as_the_new_format(old: Path) -> None:
    folder = checkpoint.find(old)
    write_json(folder / "state.json", {**read_json(folder / "state.json", "state"), "format": 3})
    config = checkpoint.read_config(folder)
    with pytest.raises(UserError, match="weights of another model"):
        checkpoint.load_weights(build_world_model(config), folder)


@pytest.mark.parametrize("format", [1, 4])
def test_other_formats_are_rejected(old: Path, format: int) -> None:
    folder = checkpoint.find(old)
    write_json(folder / "state.json", {**read_json(folder / "state.json", "state"), "format": format})
    with pytest.raises(UserError, match=rf"format {format}; this one reads 2 and 3"):
        checkpoint.load(old)
