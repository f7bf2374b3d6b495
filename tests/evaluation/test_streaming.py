"""Many clips: metrics independent of batch size, order and device, constant memory, resuming without repeated work."""

from __future__ import annotations

import gc
import itertools
import json
import os
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from daydrive.benchmarks.model.metrics_speed import measures_ratio
from daydrive.checkpoint import load
from daydrive.data.sampling.clips import fixed_clips, read_actions, read_clips
from daydrive.data.store.store import Store
from daydrive.errors import UserError
from daydrive.evaluation import runner
from daydrive.evaluation.clip_selection import evenly
from daydrive.evaluation.compare import METRICS
from daydrive.evaluation.metrics.baselines import mean_image
from daydrive.evaluation.metrics.frame_metrics import (
    FIXED_BATCH_SIZE,
    RolloutFunction,
    frame_metrics,
    other_clips,
    predict_clips,
)
from daydrive.evaluation.model_loading import make_rollout_fn
from daydrive.evaluation.rollout_cache import WORST, RolloutCache, read_cached, worst
from daydrive.types import Clip, Rollout
from daydrive.workspace import partial, results_workspace
from helpers.planted_predictions import CONTEXT, HORIZON, SIZE, copier, evaluated, scene_store, steerer


@pytest.fixture(autouse=True)
def same_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps the manifest constant if the code is edited while the tests run."""
    monkeypatch.setattr("daydrive.evaluation.manifest.code_state", dict)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return scene_store(tmp_path_factory.mktemp("scene"))


def saved(folder: Path) -> dict[str, Any]:
    with np.load(folder / METRICS) as data:
        return {name: data[name] for name in data.files}


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Bit for bit."""
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def metrics_of(rollout_fn: RolloutFunction, store: Store, order: list[int], count: int) -> dict[int, dict[str, Any]]:
    """Metrics of clips of the split `val`, measured in the given order."""
    clips = fixed_clips(store, "val", 4 + 5, count)
    average = mean_image(store, "val")
    rollouts = predict_clips(rollout_fn, store, clips, other_clips(clips, 0), 4, order)
    return {
        i: {name: values.numpy() for name, values in frame_metrics(rollout, average, None).items()}
        for i, rollout in zip(order, rollouts, strict=True)
    }


def test_metrics_do_not_depend_on_batch_size_and_order(trained: Path, road_store: Path) -> None:
    rollout_fn, store = make_rollout_fn(load(trained).model), Store.open(road_store)
    count = 11
    whole = metrics_of(rollout_fn, store, list(range(count)), count)
    for size in (1, 3, FIXED_BATCH_SIZE):
        parts = (list(range(i, min(i + size, count))) for i in range(0, count, size))
        pieces = {i: metrics for part in parts for i, metrics in metrics_of(rollout_fn, store, part, count).items()}
        assert all(same(pieces[i], whole[i]) for i in range(count)), size
    order = random.Random(0).sample(range(count), count)
    shuffled = metrics_of(rollout_fn, store, order, count)
    assert all(same(shuffled[i], whole[i]) for i in range(count))


def test_model_is_called_with_a_fixed_batch_size(scene: Store, tmp_path: Path) -> None:
    """A rollout function that adds the batch size to its images, to detect a variable batch size."""

    def counting(context: Tensor, actions: Tensor) -> Tensor:
        return copier(context, actions) // 2 + len(context)

    results = [evaluated(counting, scene, tmp_path / str(size), batch_size=size) for size in (3, 100)]
    assert results[0] == results[1]
    assert same(saved(tmp_path / "3"), saved(tmp_path / "100"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_devices_agree_within_rounding(trained: Path, road_store: Path) -> None:
    store, order = Store.open(road_store), list(range(8))
    here, there = (
        metrics_of(make_rollout_fn(load(trained, device).model), store, order, 8) for device in ("cpu", "cuda")
    )
    for i in order:
        assert np.abs(here[i]["psnr"] - there[i]["psnr"]).max() < 0.01
        assert np.abs(here[i]["ssim"] - there[i]["ssim"]).max() < 1e-3
        assert np.array_equal(here[i]["copy_last_psnr"], there[i]["copy_last_psnr"])


@pytest.mark.slow
def test_image_memory_is_constant(scene: Store, tmp_path: Path) -> None:
    alive: list[int] = []

    def watched(context: Tensor, actions: Tensor) -> Tensor:
        gc.collect()
        alive.append(sum(x.nbytes for x in gc.get_objects() if type(x) is Tensor and x.dtype == torch.uint8))
        return steerer(context, actions)

    evaluated(watched, scene, tmp_path / "out", clips=40, batch_size=8)
    calls = len(alive) // 5
    assert calls == 3 and max(alive[calls * 2 :]) <= max(alive[: calls * 2])


def test_predictions_are_of_evenly_spaced_clips(scene: Store, tmp_path: Path) -> None:
    evaluated(steerer, scene, tmp_path / "all")
    evaluated(steerer, scene, tmp_path / "few", predictions=4)
    with np.load(tmp_path / "all/predictions.npz") as every, np.load(tmp_path / "few/predictions.npz") as few:
        assert all(np.array_equal(few[name], every[name][evenly(4, 12)]) for name in few.files)
    assert same(saved(tmp_path / "all"), saved(tmp_path / "few"))
    assert evenly(4, 12) == [0, 4, 7, 11] and evenly(3, 2) == [0, 1] and evenly(1, 5) == [0]
    with pytest.raises(UserError, match="--predictions has to be at least 1, not 0"):
        evaluated(steerer, scene, tmp_path / "none", predictions=0)


class Interrupted:
    """A steerer that is interrupted at a given call. calls: the number of calls so far."""

    def __init__(self, at: int | None = None) -> None:
        self.at, self.calls = at, 0

    def __call__(self, context: Tensor, actions: Tensor) -> Tensor:
        self.calls += 1
        if self.calls == self.at:
            raise KeyboardInterrupt
        return steerer(context, actions)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    (tmp_path / "weights").write_bytes(b"these")
    return tmp_path / "weights"


def test_interrupted_evaluation_resumes(scene: Store, tmp_path: Path, weights: Path) -> None:
    whole = evaluated(steerer, scene, tmp_path / "whole", weights=weights, clips=30)
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        evaluated(Interrupted(at=8), scene, out, weights=weights, clips=30)
    assert partial(out).is_dir() and not out.exists()
    rest = Interrupted()
    reported: list[tuple[int, int]] = []
    again = evaluated(rest, scene, out, weights=weights, clips=30, progress=lambda *done: reported.append(done))
    assert rest.calls == 6, "two batches of four were measured before"
    assert reported[0] == (17, 30) and reported[-1] == (30, 30)
    assert again == whole and same(saved(out), saved(tmp_path / "whole"))
    for name in ("strip.png", "worst.png", "rollouts.mp4"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    with np.load(out / "predictions.npz") as ours, np.load(tmp_path / "whole/predictions.npz") as theirs:
        assert all(np.array_equal(ours[name], theirs[name]) for name in ours.files)
    assert not partial(out).exists()


def test_kill_loses_only_unsaved_results(
    scene: Store, tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy of the folder at one moment stands for the state after a kill."""
    out, left = tmp_path / "out", tmp_path / "left"
    monkeypatch.setattr(runner, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(runner, "SAVE_SHARE", 1e9)
    rollout_fn = Interrupted()

    def watched(context: Tensor, actions: Tensor) -> Tensor:
        if rollout_fn.calls == 8:
            shutil.copytree(partial(out), left)
        return rollout_fn(context, actions)

    whole = evaluated(watched, scene, out, weights=weights, clips=30)
    left.rename(partial(out))
    (partial(out) / ".half.npz.1.tmp").write_bytes(b"half")
    rest = Interrupted()
    assert evaluated(rest, scene, out, weights=weights, clips=30) == whole
    assert rest.calls == 6 and not partial(out).exists()


@pytest.mark.parametrize("change", ["weights", "clips", "neither is known"])
def test_results_of_other_inputs_are_not_reused(scene: Store, tmp_path: Path, weights: Path, change: str) -> None:
    out = tmp_path / "out"
    known = weights if change != "neither is known" else None
    with pytest.raises(KeyboardInterrupt):
        evaluated(Interrupted(at=5), scene, out, weights=known)
    assert partial(out).exists() == (known is not None)
    if change == "weights":
        weights.write_bytes(b"others")
    rollout_fn = Interrupted()
    evaluated(rollout_fn, scene, out, weights=known, clips=11 if change == "clips" else 12)
    assert rollout_fn.calls == 6, "two batches, three rollouts each"


def test_user_error_leaves_no_files(scene: Store, tmp_path: Path, weights: Path) -> None:
    rollout_fn = Interrupted()

    def refusing(context: Tensor, actions: Tensor) -> Tensor:
        if rollout_fn.calls == 3:
            raise UserError("this image is damaged")
        return rollout_fn(context, actions)

    with pytest.raises(UserError, match="damaged"):
        evaluated(refusing, scene, tmp_path / "deep/out", weights=weights)
    assert [path.name for path in tmp_path.iterdir()] == ["weights"]


def test_output_folder_is_locked(scene: Store, tmp_path: Path) -> None:
    with (
        results_workspace(tmp_path / "out", None, "*.npz"),
        pytest.raises(UserError, match=rf"process {os.getpid()} on .* is writing to"),
    ):
        evaluated(copier, scene, tmp_path / "out")
    evaluated(copier, scene, tmp_path / "out")


def test_worst_clips_are_cached(tmp_path: Path) -> None:
    frames = torch.zeros(1, 3, *SIZE, dtype=torch.uint8)
    rollout = Rollout(Clip("a", 0, 2, 1), *[frames] * 5, torch.zeros(1, 4))
    for seed in range(5):
        folder = tmp_path / str(seed)
        folder.mkdir()
        margins = dict(enumerate(np.random.default_rng(seed).normal(size=40).round(1).tolist()))
        caches = [RolloutCache(folder, {0, 39}, {}) for _ in range(2)]
        for start, cache in zip(range(0, 20, 4), itertools.cycle(caches), strict=False):
            _see(cache, range(start, start + 4), rollout, margins)
        later = RolloutCache(folder, {0, 39}, {number: margins[number] for number in range(20)})
        for start in range(20, 40, 4):
            _see(later, range(start, start + 4), rollout, margins)
        for number in {*worst(margins), 0, 39}:
            assert torch.equal(read_cached(folder, number, rollout.clip).real, frames)
        assert len(list(folder.iterdir())) <= 2 + 3 * WORST


def _see(cache: RolloutCache, numbers: range, rollout: Rollout, margins: dict[int, float]) -> None:
    cache.add(numbers, [rollout] * len(numbers), [margins[number] for number in numbers])


def test_actions_read_without_images_match_the_clips(scene: Store) -> None:
    for skip in (1, 2):
        clips = fixed_clips(scene, "val", CONTEXT + HORIZON, 5, skip)
        assert torch.equal(read_actions(scene, clips), read_clips(scene, clips).actions)


def test_ratio_to_torchmetrics() -> None:
    found = measures_ratio(quick=True)
    assert found.ratios["measures"] > 0 and not found.not_measured
    assert json.loads(json.dumps(found.raw))["measures"]["steps"] == 50
