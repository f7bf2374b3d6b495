"""Preflight checks report problems before training begins and leave no trace."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from daydrive.config import Config
from daydrive.data.store.drives import Drives
from daydrive.data.store.store import Store
from daydrive.errors import UserError
from daydrive.training.checks import preflight, static_checks
from daydrive.types import Batch
from helpers.training_setup import CPU, GIB, Make, Result, Training, one_sentence

CUDA = torch.device("cuda")


@pytest.fixture
def make(tiny_config: Path, road_store: Path, tmp_path: Path) -> Make:
    return lambda *overrides: Training(tiny_config, road_store, tmp_path / "run", *overrides)


def test_unexpected_image_size_gives_a_warning(make: Make) -> None:
    def message(*overrides: str) -> str:
        training = make(*overrides)
        return "; ".join(check.message for check in static_checks.check_size(training.config, training.store))

    assert not message() and not message("data.image_size=[64, 64]")
    assert "images of 64x64, and data.image_size is 128x128; prepare it with --image-size 128 128" in message(
        "data.image_size=[128, 128]"
    )
    larger = message("model.decoder.init_size=32")
    assert "meant for 128x128 (model.decoder.init_size = 32, 2 stages)" in larger and "--image-size 128 128" in larger
    training = make("model.decoder.init_size=8")
    assert any(check.name == "size" and check.outcome == "warning" for check in training.check())


def test_sound_training_lists_the_checks(make: Make) -> None:
    training = make()
    checks = training.check()
    assert {"data", "shapes", "disk", "step", "memory"} <= {check.name for check in checks if check.outcome == "ok"}
    lines = preflight.format_checks(checks).splitlines()
    assert len(lines) == len(checks) and all(line.startswith(("ok ", "warning ")) for line in lines)
    assert not training.run.exists()


def test_preflight_uses_the_longest_unroll(make: Make) -> None:
    training = make()
    training.check(training.batch(5))
    assert [tuple(batch.images.shape[:2]) for batch in training.seen] == [(2, 6)]
    assert training.seen[0].images[:, :5].equal(training.batch(5).images)


@pytest.mark.parametrize(
    ("unroll", "longest"), [("[]", 6), ("[{start: 0.5, steps: 1}]", 6), ("[{start: 0, steps: 1}]", 5)]
)
def test_the_longest_clip_follows_the_unroll(make: Make, unroll: str, longest: int) -> None:
    assert preflight.longest_clip(make(f"training.unroll={unroll}").config, 12) == longest


def random_numbers() -> list[float]:
    return [float(torch.rand(1)), random.random(), float(np.random.rand())]


def test_preflight_leaves_no_trace(make: Make) -> None:
    training = make()
    training.model.register_buffer("seen", torch.zeros(1))
    held = torch.ones_like(next(training.model.parameters()))
    next(training.model.parameters()).grad = held
    training.model.eval()
    before = {name: value.clone() for name, value in training.model.state_dict().items()}
    torch.manual_seed(7)
    random.seed(7)
    np.random.seed(7)
    expected = random_numbers()
    torch.manual_seed(7)
    random.seed(7)
    np.random.seed(7)

    def step(batch: Batch) -> Result:
        assert training.model.training
        training.model.get_buffer("seen").add_(1)
        random_numbers()
        return training.step(batch)

    training.check(step=step)
    assert random_numbers() == expected
    after = training.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    first, *others = training.model.parameters()
    assert first.grad is held and torch.equal(held, torch.ones_like(held)) and all(p.grad is None for p in others)
    assert not training.model.training and not any(module.training for module in training.model.modules())
    assert not any(optimizer.state for optimizer in training.optimizers)


def test_training_is_bit_identical_with_and_without_preflight(make: Make) -> None:
    ends = []
    for looked in (False, True):
        training = make()
        training.model.train()
        torch.manual_seed(1)
        if looked:
            training.check()
        for _ in range(3):
            training.step(training.batch()).loss.backward()
            for optimizer in training.optimizers:
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
        ends.append(training.model.state_dict())
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_failed_preflight_leaves_no_trace(make: Make) -> None:
    training = make()

    def fail(batch: Batch) -> Result:
        torch.rand(1)
        raise RuntimeError("a bug")

    torch.manual_seed(3)
    state = torch.get_rng_state()
    with pytest.raises(RuntimeError, match="a bug"):
        training.check(step=fail)
    assert torch.equal(torch.get_rng_state(), state) and all(p.grad is None for p in training.model.parameters())


def test_nan_actions_name_the_drive(make: Make) -> None:
    training = make()
    batch = training.batch(6)
    batch.actions[1, 2, 0] = float("nan")
    with pytest.raises(UserError) as error:
        training.check(batch)
    assert f"not finite, drive '{batch.clips[1].drive}'" in one_sentence(error)


def test_non_finite_loss_names_term_and_clip(make: Make) -> None:
    training = make()

    def broken(batch: Batch) -> Result:
        result = training.step(batch)
        return Result(result.loss * float("nan"), {**result.parts, "pred_loss": torch.tensor([0.1, float("nan")])})

    batch = training.batch()
    with pytest.raises(UserError) as error:
        training.check(batch, broken)
    assert f"loss is nan (pred_loss for the clip at row {batch.clips[1].start} (drive" in one_sentence(error)


def test_non_finite_gradient_names_the_weight(make: Make) -> None:
    training = make()
    name, weight = list(training.model.named_parameters())[3]

    def broken(batch: Batch) -> Result:
        result = training.step(batch)
        return result._replace(loss=result.loss + (weight * 0).abs().sqrt().sum())

    with pytest.raises(UserError) as error:
        training.check(step=broken)
    assert f"gradient of '{name}' is not finite" in one_sentence(error)


def test_empty_split_and_missing_table_are_found(make: Make, road_store: Path, tmp_path: Path) -> None:
    training = make()
    entries = [entry for entry in training.store.metadata["drives"] if entry["split"] == "train"]
    training.store.drives = Drives.read(entries)
    with pytest.raises(UserError, match=r"the split 'val' of .* has no drives"):
        training.check()
    training = make()
    batch = training.batch()
    shutil.copytree(road_store, tmp_path / "copy")
    training.store = Store.open(tmp_path / "copy")
    for file in (tmp_path / "copy" / "frames.lance" / "data").iterdir():
        file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(UserError, match="damaged"):
        training.check(batch)


def test_shape_mismatch_names_the_key(make: Make) -> None:
    training = make("model.action_dim=3")
    with pytest.raises(UserError) as error:
        training.check()
    assert "model.action_dim" in one_sentence(error)
    training = make()
    training.config = training.config.model_copy(
        update={"model": training.config.model.model_copy(update={"image_size": (32, 64)})}
    )
    with pytest.raises(UserError) as error:
        training.check()
    assert "model.image_size = [32, 64]" in one_sentence(error)


def plant_disk(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(total=10 * free, free=free, used=0))


def test_insufficient_disk_space_for_checkpoints_names_the_key(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    training = make("logging.keep_checkpoints=3", "optimizer.type=adamw", "training.ema_decay=0.99")
    one = 4 * sum(p.numel() * 4 for p in training.model.parameters())
    plant_disk(monkeypatch, 5 * one - 1)
    with pytest.raises(UserError) as error:
        training.check()
    text = one_sentence(error)
    assert "lower logging.keep_checkpoints (now 3)" in text and str(training.run) in text
    held = training.run / "checkpoints" / "step-00000002"
    held.mkdir(parents=True)
    (held / "model.safetensors").write_bytes(bytes(1000))
    assert training.check()[2].outcome == "warning"


def test_sufficient_disk_space_gives_no_warning(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    training = make()
    plant_disk(monkeypatch, GIB)
    assert training.check()[2] == static_checks.Check("disk", "ok", training.check()[2].message)


@pytest.mark.parametrize(
    ("built", "driver", "usable", "message"),
    [
        (None, None, False, "is a CPU build"),
        ("13.0", 12080, False, "built for CUDA 13.0, but the GPU's driver supports 12.8"),
        ("12.8", 12040, True, None),
        ("12.8", 13000, True, None),
        ("12.8", 0, False, "nvidia-smi"),
    ],
)
def test_driver_advice(built: str | None, driver: int | None, usable: bool, message: str | None) -> None:
    advice = static_checks.driver_advice(built, driver, usable)
    assert advice is None if message is None else message in str(advice)


def warned(checks: Iterator[static_checks.Check]) -> str:
    found = list(checks)
    assert all(check.outcome == "warning" and "\n" not in check.message for check in found)
    return " | ".join(check.message for check in found)


def settings(make: Make, *overrides: str) -> Config:
    return make(*overrides).config


def test_settings_that_require_a_longer_training(make: Make) -> None:
    config = settings(make, "logging.eval_interval=1000", "scheduler.warmup_steps=12")
    output = warned(static_checks.check_plan(config, 12, 10.0))
    assert "scheduler.warmup_steps = 12" in output and "logging.eval_interval = 1000: more than" in output
    assert "log_interval" not in output
    assert not warned(static_checks.check_plan(config, 1000, 10.0))
    config = settings(make, "data.curriculum={phases: 3, epochs_per_phase: 2}")
    assert "data.curriculum" in warned(static_checks.check_plan(config, 59, 10.0))
    assert not warned(static_checks.check_plan(config, 60, 10.0))


def test_warnings_about_small_data(make: Make) -> None:
    config = settings(make)
    sound = {"train": 1000, "val": 50}
    apart = {"train": ["a"], "val": ["b"]}
    assert not warned(static_checks.check_data(config, sound, apart, 1))
    assert "'a' is in 'train' and in 'val'" in warned(
        static_checks.check_data(config, sound, {**apart, "val": ["a"]}, 1)
    )
    assert "'val' has only 2 clips" in warned(static_checks.check_data(config, {**sound, "val": 2}, apart, 1))
    assert "'train' has only 30 clips" in warned(static_checks.check_data(config, {**sound, "train": 30}, apart, 1))
    assert "has 2000 clips" in warned(static_checks.check_data(config, sound, apart, 500))


def test_warnings_about_machine_utilization(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    config = settings(make, "training.use_amp=false")
    assert not warned(static_checks.check_machine(config, CPU, 2))
    output = warned(static_checks.check_machine(config, CUDA, 16))
    assert all(key in output for key in ("data.num_workers = 0", "data.pin_memory = false", "training.use_amp = false"))
    config = settings(make, "data.num_workers=4", "data.pin_memory=true")
    assert not warned(static_checks.check_machine(config, CUDA, 4))
    assert "4 worker processes share 2" in warned(static_checks.check_machine(config, CUDA, 2))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert "16 worker processes share 8" in warned(static_checks.check_machine(config, CUDA, 8))


def test_shared_memory_too_small_for_the_workers(make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = settings(make, "data.num_workers=4")
    plant_disk(monkeypatch, 64 * 2**20 // 10)
    output = warned(static_checks.check_shared_memory(config, 32 * 2**20, tmp_path))
    assert "data.num_workers = 4" in output and "--shm-size" in output
    assert not warned(static_checks.check_shared_memory(config, 2**20, tmp_path))
    assert not warned(static_checks.check_shared_memory(settings(make), 2**40, tmp_path))


def test_resumed_training_gets_no_warnings_about_its_plan(make: Make) -> None:
    training = make("scheduler.warmup_steps=99")
    arguments = (
        training.config, *training.clips(), training.run, training.model, training.optimizers, training.batch(),
        training.step, 12, 10.0, CPU,
    )  # fmt: skip
    assert "schedule" in {check.name for check in preflight.preflight(*arguments, resumed=False)}
    assert "schedule" not in {check.name for check in preflight.preflight(*arguments, resumed=True)}


def test_every_process_makes_one_pass_for_split_batches(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    training = make("training.batch_size=5")
    monkeypatch.setattr(preflight, "clips_per_pass", lambda batch: 2)
    training.check()
    assert [len(batch.images) for batch in training.seen] == [2]
