"""Fréchet distances of planted rollouts of the road world: order, baselines, sums and report."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from daydrive.data.sampling.clips import read_images
from daydrive.data.store.store import Store
from daydrive.evaluation.distribution import (
    FILTERS,
    DistributionAccumulator,
    Features,
    choose_reference_clips,
)
from daydrive.report import rows
from daydrive.report.tables import html_table
from daydrive.report.text import distribution_markdown
from daydrive.types import Clip, Rollout
from helpers.planted_predictions import evaluated, scene_store, steerer

STEPS = 7
ImageFunction = Callable[[Tensor], Tensor]


@pytest.fixture(scope="module")
def clips(road_store: Path) -> Tensor:
    """uint8 (24, 8, 3, H, W): three clips of each of eight drives; the two halves are of different drives."""
    store = Store.open(road_store)
    drives = [*store.drives[::2], *store.drives[1::2]]
    frames = [torch.from_numpy(read_images(store, d.start + np.arange(24))[0]).movedim(-1, 1) for d in drives]
    return torch.stack(frames).unflatten(1, (3, 8)).flatten(0, 1)


def rollout(images: Tensor, predicted: Tensor) -> Rollout:
    nothing = torch.zeros(len(images) - 1, 4)
    return Rollout(Clip("d", 0, len(images), 1), images[:1], images[1:], predicted, predicted, predicted, nothing)


def accumulate(
    clips: Tensor, rollout_fn: ImageFunction, numbers: Sequence[int] = range(12), others: bool = True
) -> DistributionAccumulator:
    """The first half of the clips is predicted, the second half is of other drives."""
    accumulator = DistributionAccumulator(STEPS)
    for number in numbers:
        accumulator.add(number, rollout(clips[number], rollout_fn(clips[number])))
        if others:
            accumulator.add_reference(number, clips[12 + number][0], clips[12 + number][1:])
    return accumulator


def oracle(images: Tensor) -> Tensor:
    return images[1:]


def blurred(sigma: float) -> ImageFunction:
    def rollout_fn(images: Tensor) -> Tensor:
        images = images[1:].movedim(1, -1).numpy()
        return torch.from_numpy(np.stack([cv2.GaussianBlur(p, (0, 0), sigma) for p in images])).movedim(-1, 1)

    return rollout_fn


def noisy(images: Tensor) -> Tensor:
    noise = torch.randn(images[1:].shape, generator=torch.Generator().manual_seed(0)) * 20
    return (images[1:] + noise).clamp(0, 255).to(torch.uint8)


def frozen(images: Tensor) -> Tensor:
    return images[:1].expand(STEPS, -1, -1, -1)


@pytest.fixture(scope="module")
def measured(clips: Tensor) -> dict[str, Any]:
    models = {
        "real": oracle,
        "slightly": blurred(0.6),
        "blurred": blurred(1.2),
        "strongly": blurred(3.0),
        "noisy": noisy,
        "frozen": frozen,
    }
    return {name: accumulate(clips, rollout_fn).metrics() for name, rollout_fn in models.items()}


def of(measured: dict[str, Any], model: str, key: str, name: str = "dream") -> float:
    return measured[model][key][name]


@pytest.mark.parametrize("key", ["filters", "change_filters"])
def test_distance_grows_with_degradation(measured: dict[str, Any], key: str) -> None:
    assert of(measured, "real", key) == pytest.approx(0, abs=1e-6)
    order = [of(measured, model, key) for model in ("real", "slightly", "blurred", "strongly")]
    assert order == sorted(order) and order[1] > 0
    assert of(measured, "noisy", key) > of(measured, "blurred", key)
    unpaired = [
        of(measured, model, key, "dream_to_other_drives") for model in ("real", "slightly", "blurred", "strongly")
    ]
    assert unpaired == sorted(unpaired)


def test_baseline_is_real_frames_of_other_drives(measured: dict[str, Any]) -> None:
    for key in ("filters", "change_filters"):
        baselines = {of(measured, model, key, "other_drives") for model in measured}
        assert len(baselines) == 1, "whatever the model"
        (baseline,) = baselines
        assert of(measured, "real", key, "dream_to_other_drives") == pytest.approx(baseline, abs=1e-3)


def test_change_features_detect_a_frozen_rollout(measured: dict[str, Any]) -> None:
    frozen_changes, baseline = (of(measured, "frozen", "change_filters", name) for name in ("dream", "other_drives"))
    assert frozen_changes > 3 * baseline
    for key in ("filters", "change_filters"):
        assert of(measured, "frozen", key) == of(measured, "frozen", key, "copy_last")
        assert of(measured, "real", key, "copy_last") == of(measured, "frozen", key)


def test_bias_grows_with_fewer_samples(measured: dict[str, Any]) -> None:
    for key in ("filters", "change_filters"):
        entry = measured["real"][key]
        assert [size["samples"] for size in entry["sizes"]] == [21.0, 42.0, 84.0]
        baselines = [size["other_drives"] for size in entry["sizes"]]
        assert baselines == sorted(baselines, reverse=True)
        assert entry["extrapolated"]["other_drives"] < baselines[-1]
        assert entry["extrapolated"]["dream"] == pytest.approx(0, abs=1e-6)
        assert (entry["samples"], entry["dimensions"]) == (84.0, 135)


def test_extrapolation_removes_most_of_the_bias() -> None:
    """Two samples of the same noise have distance 0 in the limit, and a bias for few samples."""
    pixels = Features("fid", "pixels", 48, 0.25, True, False, lambda before, frames: frames.flatten(1).float())
    accumulator = DistributionAccumulator(STEPS, [pixels])
    random = torch.Generator().manual_seed(0)
    for number in range(64):
        images, predicted_images = torch.randint(0, 256, (2, STEPS + 1, 3, 4, 4), dtype=torch.uint8, generator=random)
        accumulator.add(number, rollout(images, predicted_images[1:]))
    entry = accumulator.metrics()["fid"]
    few, more, all_of_them = (size["dream"] for size in entry["sizes"])
    assert few > 1.7 * more > 1.7 * 1.7 * all_of_them
    assert abs(entry["extrapolated"]["dream"]) < 0.2 * all_of_them
    assert "bands" not in entry


def test_metrics_do_not_depend_on_order_and_partition(clips: Tensor) -> None:
    whole = accumulate(clips, blurred(1.0)).metrics()
    assert accumulate(clips, blurred(1.0), [*range(11, -1, -1)]).metrics() == whole
    together = DistributionAccumulator(STEPS)
    for part in ([3, 0, 7], [1], [], [2, *range(4, 7), *range(8, 12)]):
        together.restore(accumulate(clips, blurred(1.0), part).arrays())
    assert together.metrics() == whole


def test_ranges_of_steps(clips: Tensor) -> None:
    assert DistributionAccumulator(3).bands == ((0, 3),) and DistributionAccumulator(10).bands == ((0, 10),)
    assert DistributionAccumulator(60).bands == ((0, 10), (10, 25), (25, 50), (50, 60))
    accumulator = DistributionAccumulator(14)
    for number, clip in enumerate(clips[:4]):
        images = torch.cat((clip, clip[:7]))
        predicted = torch.cat((images[1:11], torch.zeros_like(images[11:])))
        accumulator.add(number, rollout(images, predicted))
    near, far = accumulator.metrics()["filters"]["bands"]
    assert (near["first"], near["last"], far["first"], far["last"]) == (1, 10, 11, 14)
    assert near["dream"] == pytest.approx(0, abs=1e-6) and far["dream"] > 10
    assert (near["samples"], far["samples"]) == (40.0, 16.0)


def test_too_few_samples_are_not_measured(clips: Tensor) -> None:
    lone = accumulate(clips, oracle, [0, 1], others=False).metrics()
    entry = lone["filters"]
    assert entry["dream"] == pytest.approx(0, abs=1e-6) and entry["other_drives"] is None
    assert [size["dream"] is None for size in entry["sizes"]] == [True, False, False]
    assert entry["extrapolated"]["dream"] is None
    assert lone["fid"] == "not measured: it needs the published weights, --fid-weights FILE"
    nothing = Features("fvd", "an empty one", 3, 0.5, False, False, lambda before, frames: torch.empty(0, 3))
    accumulator = DistributionAccumulator(STEPS, [*FILTERS, nothing])
    accumulator.add(0, rollout(clips[0], clips[0][1:]))
    assert "16 steps" in accumulator.metrics()["fvd"]


def test_clips_of_other_drives(tmp_path: Path) -> None:
    store = scene_store(tmp_path)
    name, clips = choose_reference_clips(store, "val", 6, 5, 1)
    assert name == "train" and len(clips) == 5 and all(clip.drive.startswith("train/") for clip in clips)
    assert choose_reference_clips(store, "train", 6, 5, 1)[0] == "val"
    assert choose_reference_clips(store, "train", 6, 5, 4)[0] == "val"
    assert choose_reference_clips(store, "val", 15, 5, 1) == (None, [])
    name, clips = choose_reference_clips(store, "val", 7, 500, 2)
    assert name == "train" and {clip.frame_skip for clip in clips} == {2} and len(clips) < 500
    fid = Features("fid", "w.pth, sha256 0", 3, 0.5, True, False, lambda before, frames: frames.float().mean((-1, -2)))
    evaluation = evaluated(steerer, store, tmp_path / "out", features=[*FILTERS, fid])
    distribution = json.loads((tmp_path / "out" / "evaluation.json").read_text())["distribution"]
    assert distribution == evaluation["distribution"]
    assert (distribution["other_split"], distribution["other_clips"]) == ("train", 10)
    assert distribution["filters"]["features"] == "daydrive-filters-1"
    assert distribution["filters"]["samples"] == distribution["fid"]["samples"] == 12 * 6
    assert isinstance(distribution["fvd"], str)
    assert distribution["change_filters"]["dream"] < distribution["change_filters"]["copy_last"]
    report = (tmp_path / "out" / "report.md").read_text()
    assert distribution_markdown(distribution).strip() in report
    assert "| FID | 72 |" in report and "FID: w.pth, sha256 0" in report
    page = (tmp_path / "out" / "report.html").read_text()
    assert html_table(rows.frechet_sizes(distribution), "Fréchet distances by number of samples") in page
    assert html_table(rows.frechet_bands(distribution), "Fréchet distances by band of steps") in page


def test_report_does_not_call_filter_distances_fid(measured: dict[str, Any]) -> None:
    message = distribution_markdown({"other_split": "train", "other_clips": 12, **measured["blurred"]})
    assert "FID: not measured: it needs the published weights, --fid-weights FILE." in message
    assert "12 clips of 'train'" in message and "daydrive-filters-1" in message
    table = rows.frechet_sizes({**measured["blurred"]})
    assert [row[:2] for row in table.rows[:4]] == [["filters, frames", n] for n in ("21", "42", "84", "∞")]
    assert not any("FID" in row[0] for row in table.rows)
    assert f"{measured['blurred']['filters']['dream']:.2f}" == table.rows[2][2]
