"""Training on lanes: exact resuming, any number of processes, every architecture."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from daydrive import checkpoint
from daydrive.config import load_config
from daydrive.errors import UserError
from daydrive.training.engine import Engine
from daydrive.training.validation import Validation, ValidationResult
from helpers.architectures import ARCHITECTURES, settings
from helpers.processes import keep_only, trained, worst_gap
from helpers.runs import logged, run_training, same, weights
from helpers.self_rollout_probes import built

LANES = {"start": 0.25, "lanes": 8, "steps": 2, "free_steps": 1, "max_age": 9, "short_age": 4}


SAMPLED = ("model.noise=true", "model.source_detail=true", "training.self_rollout.samples=2")


def write(file: Path, architecture: str = "texture", **lanes: Any) -> Path:
    tree = settings(architecture, self_rollout={**LANES, "critic": {}, **lanes})
    file.write_text(yaml.safe_dump({**tree, "data": {**tree["data"], "sequence_length": 8}}))
    return file


def lane_tensors(run: Path) -> dict[str, Any]:
    return checkpoint.read_self_rollout(checkpoint.find(run, "last"))


@pytest.mark.slow
def test_resumed_training_continues_bit_for_bit(road_store: Path, tmp_path: Path) -> None:
    config = write(tmp_path / "lanes.yaml")
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    run_training(config, road_store, whole, "logging.keep_checkpoints=9", *SAMPLED)
    for step in (2, 6):  # before the lanes, and among them
        shutil.copytree(whole, resumed)
        keep_only(resumed, step)
        run_training(config, road_store, resumed, "logging.keep_checkpoints=1", *SAMPLED, resume=True)
        assert same(weights(resumed), weights(whole))
        assert same(lane_tensors(resumed), lane_tensors(whole))
        shutil.rmtree(resumed)
    last = json.loads((whole / "metrics.jsonl").read_text().splitlines()[-1])
    assert {"train/realism_loss", "train/critic_accuracy", "train/action_loss", "train/coarse_loss"} <= last.keys()
    assert 0 < last["train/rollout_age"] <= last["train/rollout_oldest"] <= 9


def test_best_checkpoint_is_the_newest_of_the_self_rollouts(
    road_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted = iter([30.0, 22.0, 21.0])  # at steps 4, 8 and 12; the lanes start after step 6
    validate = Validation.run

    def run(validation: Validation, engine: Engine) -> ValidationResult:
        result = validate(validation, engine)
        return result._replace(metrics={**result.metrics, "val/psnr": next(planted)})

    monkeypatch.setattr(Validation, "run", run)
    run_training(write(tmp_path / "lanes.yaml", start=0.5), road_store, tmp_path / "run")
    assert checkpoint.find(tmp_path / "run", "best").name == "step-00000012"


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_trains_on_its_rollouts(architecture: str, road_store: Path, tmp_path: Path) -> None:
    config = write(tmp_path / "lanes.yaml", architecture, interval=2)
    assert run_training(config, road_store, tmp_path / "run", "training.max_steps=8") == 0
    assert all(value.isfinite().all() for value in weights(tmp_path / "run").values())
    assert len(logged(tmp_path / "run")) > 0


def test_futures_of_a_lane_continue_separately(road_store: Path, tmp_path: Path) -> None:
    run_training(write(tmp_path / "lanes.yaml", critic=None), road_store, tmp_path / "run", *SAMPLED)
    stored = lane_tensors(tmp_path / "run")
    first, second = stored["lanes.ages"][: LANES["lanes"]], stored["lanes.ages"][LANES["lanes"] :]
    assert torch.equal(first, second) and first.max() > 0
    numbers = (name.removeprefix("lanes.") for name in stored)
    newest = stored[f"lanes.{max(int(number) for number in numbers if number.isdigit())}"]  # frames follow the state
    differ = (newest[: LANES["lanes"]] - newest[LANES["lanes"] :]).abs().flatten(1).mean(1)
    assert torch.equal(differ > 0, first > 0)


@pytest.mark.slow
def test_lanes_do_not_depend_on_the_number_of_processes(road_store: Path, tmp_path: Path) -> None:
    config = write(tmp_path / "lanes.yaml")
    common = (
        "training.use_amp=false",
        "training.distributed=true",
        "training.max_steps=8",
        "model.dynamics.dropout=0.0",
        "optimizer.type=adamw",
        "training.self_rollout.critic=null",
        "logging.log_interval=1",
        *SAMPLED,
    )
    runs = {
        w: trained(w, config, road_store, tmp_path / str(w), *common, f"training.batch_size={4 // w}") for w in (1, 2)
    }
    assert worst_gap(runs[2], runs[1], "train/loss") < 1e-3
    one, two = (lane_tensors(tmp_path / str(world)) for world in (1, 2))
    assert one["lanes.ages"].tolist() == two["lanes.ages"].tolist() and one.keys() == two.keys()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "training.self_rollout.lanes=6",
            r"self_rollout\.lanes = 6 is not a multiple of the 4 clips of a step; set it to 8",
        ),
        ("training.strategy=fsdp", "training.self_rollout does not work with training.strategy = fsdp; use ddp"),
    ],
)
def test_unsuitable_settings_are_rejected(road_store: Path, tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        run_training(write(tmp_path / "lanes.yaml"), road_store, tmp_path / "run", override)


def test_clips_too_short_for_a_visit_are_rejected(road_store: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"sequence_length = 6 is too short .* set at least 7"):
        run_training(write(tmp_path / "lanes.yaml"), road_store, tmp_path / "run", "data.sequence_length=6")


@pytest.mark.parametrize(("critic", "samples", "factor"), [(None, 1, 1.0), ({}, 1, 2.3), (None, 2, 1.0)])
def test_cost_of_a_step_follows_its_frames(
    road_store: Path, tmp_path: Path, critic: dict[str, Any] | None, samples: int, factor: float
) -> None:
    file = write(tmp_path / "lanes.yaml", start=0.75, critic=critic, samples=samples)
    context, _ = built(load_config(file, [f"data.root={road_store}", "model.image_size=[64, 64]"]))
    # half of four frames of the context, then one or two predicted ones; on lanes two and a sixth
    assert [context.cost_at(step) for step in (0, 6)] == [3.0, 4.0]
    assert context.cost_at(9) == pytest.approx(factor * (2 + samples * (2 + 1 / 6)))
