"""Baselines, intervals, usable seconds and comparisons, checked against values computed by hand."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from daydrive.data.sampling.clips import read_images
from daydrive.data.store.store import Store
from daydrive.errors import UserError
from daydrive.evaluation.metrics.baselines import constant_flow, mean_image
from daydrive.evaluation.metrics.intervals import bootstrap, interval
from daydrive.evaluation.metrics.lpips import find_lpips
from daydrive.evaluation.metrics.usable import MODEL_FREE_BASELINES, mean_usable_steps, usable_steps
from daydrive.metrics import psnr
from daydrive.perceptual import BACKBONES, LPIPS
from daydrive.report.sentences import usable_sentence
from daydrive.report.text import report_markdown
from daydrive.types import to_signed
from helpers.planted_predictions import (
    CONTEXT,
    HORIZON,
    SIZE,
    copier,
    evaluated,
    metric_values,
    scene,
    scene_store,
    steerer,
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return scene_store(tmp_path_factory.mktemp("scene"))


def test_constant_flow_extrapolates_uniform_motion() -> None:
    seen = torch.stack([scene(2 * t) for t in range(3)])
    moved = constant_flow(seen, 6)
    assert moved.shape == (6, 3, *SIZE) and moved.dtype == torch.uint8
    middle = slice(12, -16)
    for step in range(6):
        real = scene(2 * (3 + step))[..., middle]
        margin = psnr(moved[step][..., middle], real, 255.0) - psnr(seen[-1][..., middle], real, 255.0)
        assert margin > 6, f"{margin:.1f} dB at step {step + 1}"
    assert torch.equal(constant_flow(seen[-1:], 2), seen[-1].expand(2, -1, -1, -1))


def test_mean_image_is_computed_from_training_drives(store: Store) -> None:
    rows = np.concatenate([drive.start + np.arange(drive.frames) for drive in store.split("train")])
    by_hand = read_images(store, rows)[0].astype(np.float64).mean(0).round()
    assert np.array_equal(mean_image(store, "val").movedim(0, -1).numpy(), by_hand)


def test_intervals_are_computed_over_drives() -> None:
    """A hundred clips of four drives have the interval of the four drives' means."""
    rng = np.random.default_rng(0)
    means = rng.normal(0, 1, 4)
    drives = np.repeat(list("abcd"), 100)
    draws = bootstrap(drives.tolist())
    assert draws is not None
    low, high = interval(draws.means(np.repeat(means, 100) + rng.normal(0, 0.01, 400)))
    alone = bootstrap(list("abcd"))
    assert alone is not None
    assert np.allclose((low, high), interval(alone.means(means)), atol=0.01)
    assert high - low > 0.5 and low < means.mean() < high
    assert bootstrap(["a"] * 9) is None
    again = bootstrap(drives.tolist())
    assert again is not None and np.array_equal(draws.counts, again.counts)


def test_intervals_have_nominal_coverage() -> None:
    rng = np.random.default_rng(1)
    hits = 0
    for trial in range(200):
        drawn = bootstrap([str(i) for i in range(30)], draws=400, seed=trial)
        assert drawn is not None
        low, high = interval(drawn.means(rng.normal(0, 1, 30)))
        hits += bool(low <= 0 <= high)
    assert 0.88 <= hits / 200 <= 0.99


def test_usable_steps_end_at_the_best_baseline() -> None:
    baselines = np.array([[20.0, 20, 20, 20], [10.0, 10, 10, 24]])
    assert usable_steps(np.array([30.0, 26, 22, 18]), baselines) == pytest.approx(3 + 2 / 8)
    assert usable_steps(np.array([20.0, 30, 30, 30]), baselines) == 0
    assert usable_steps(np.array([30.0, 30, 30, 30]), baselines) == 4
    several = usable_steps(np.array([[30.0, 30, 19, 30], [30.0, 30, 30, 30]]), np.stack([baselines, baselines], axis=1))
    assert several == pytest.approx([2 + 10 / 11, 4])


def test_usable_seconds_of_a_copying_and_of_a_steering_model(store: Store, tmp_path: Path) -> None:
    copied = evaluated(copier, store, tmp_path / "copier")
    assert copied["usable_seconds"] == 0 and copied["usable_to_the_end"] == 0
    assert copied["usable_seconds_interval"] == [0, 0]
    steered = evaluated(steerer, store, tmp_path / "steerer")
    low, high = steered["usable_seconds_interval"]
    assert 0.1 < low < steered["usable_seconds"] < high <= HORIZON / 10
    with np.load(tmp_path / "steerer/frame_metrics.npz") as data:
        guesses = np.stack([data[name] for name in MODEL_FREE_BASELINES]).max(0)
        better = (data["psnr"] > guesses).cumprod(axis=1).sum(axis=1)
    assert abs(steered["usable_seconds"] * 10 - better.mean()) < 1
    assert steered["usable_to_the_end"] == round((better == HORIZON).mean(), 4)
    assert usable_sentence(steered).startswith(f"Usable seconds: {steered['usable_seconds']:.2f} [")
    assert metric_values(steered, "zero_actions_psnr") == pytest.approx(metric_values(steered, "copy_last_psnr"))
    assert all(abs(ratio - 1) < 0.05 for ratio in metric_values(steered, "flicker"))
    assert all(ratio < 0.02 for ratio in metric_values(copied, "flicker"))


def test_usable_seconds_are_zero_if_actions_are_ignored() -> None:
    shape = (5, 4)
    metrics = {name: np.full(shape, 10.0) for name in MODEL_FREE_BASELINES} | {"psnr": np.full(shape, 30.0)}
    ignoring = {"shuffled_actions_psnr": np.full(shape, 30.0), "zero_actions_psnr": np.full(shape, 30.0)}
    assert mean_usable_steps({**metrics, **ignoring}) == 0
    assert mean_usable_steps({**metrics, **{name: values - 1 for name, values in ignoring.items()}}) == 4


def test_metrics_by_kind_of_clip(store: Store, tmp_path: Path) -> None:
    evaluation = evaluated(steerer, store, tmp_path)
    by = {name: [s for s in evaluation["slices"] if s["by"] == name] for name in ("drive", "steering")}
    assert [s["value"] for s in by["drive"]] == evaluation["held"]
    for slices in by.values():
        assert sum(s["clips"] for s in slices) == 12
        mean = sum(s["clips"] * s["psnr"] for s in slices) / 12
        assert mean == pytest.approx(np.mean(metric_values(evaluation, "psnr")), abs=1e-3)
    page = (tmp_path / "report.html").read_text()
    assert all(f"steering: {s['value']}" in page for s in by["steering"])
    assert "http://" not in page and "https://" not in page and page.count("data:video/mp4;base64,") == 1


def test_report_contains_baselines_with_intervals(store: Store, tmp_path: Path) -> None:
    evaluation = evaluated(steerer, store, tmp_path, about={"name": "steerer"})
    report = (tmp_path / "report.md").read_text()
    assert report == report_markdown(evaluation) and report.startswith("# steerer\n\nUsable seconds: 0.")
    last = evaluation["horizons"][-1]
    for name in ("constant_flow_psnr", "mean_image_psnr", "zero_actions_psnr"):
        low, high = last[f"{name}_interval"]
        assert low <= last[name] <= high and f"{last[name]:.2f} [{low:.2f}, {high:.2f}]" in report
    assert "LPIPS: not" in report and "held-out drives: val/val0, val/val1, val/val2" in report


def test_comparison_is_paired_by_clip(store: Store, tmp_path: Path) -> None:
    first = evaluated(copier, store, tmp_path / "copier", about={"name": "copier"})
    second = evaluated(steerer, store, tmp_path / "steerer", compare_with=[tmp_path / "copier"])
    (difference,) = second["compared"].values()
    assert difference["name"] == "copier"
    by_hand = np.array(metric_values(second, "psnr")) - np.array(metric_values(first, "psnr"))
    assert difference["psnr"] == pytest.approx(by_hand.tolist(), abs=1e-5)
    assert (
        all(low > 0 for low, _ in difference["psnr_interval"])
        and difference["usable_seconds"] == second["usable_seconds"] > 0
    )
    same = evaluated(copier, store, tmp_path / "again", compare_with=[tmp_path / "copier"])
    (none,) = same["compared"].values()
    assert not any(none["psnr"]) and none["psnr_interval"] == [[0, 0]] * HORIZON
    assert "## Comparison with copier" in (tmp_path / "again/report.md").read_text()


def edit(folder: Path, **lines: Any) -> None:
    file = folder / "evaluation.json"
    evaluation = json.loads(file.read_text())
    evaluation["manifest"] |= lines
    file.write_text(json.dumps(evaluation))


def test_comparison_with_an_evaluation_of_an_older_format(store: Store, tmp_path: Path) -> None:
    evaluated(copier, store, tmp_path / "copier")
    with np.load(tmp_path / "copier/frame_metrics.npz") as data:
        former = {name.replace("mean_image_psnr", "mean_picture_psnr"): data[name] for name in data.files}
    (tmp_path / "copier/frame_metrics.npz").unlink()
    np.savez(tmp_path / "copier/figures.npz", **former)
    same = evaluated(copier, store, tmp_path / "again", compare_with=[tmp_path / "copier"])
    (none,) = same["compared"].values()
    assert not any(none["psnr"]) and none["usable_seconds"] == 0


def test_incomparable_evaluations_are_rejected_with_the_entry(store: Store, tmp_path: Path) -> None:
    evaluated(copier, store, tmp_path / "copier")
    elsewhere = tmp_path / "other"

    def refused(sentence: str, **options: Any) -> None:
        with pytest.raises(UserError, match=sentence):
            evaluated(steerer, store, tmp_path / "out", compare_with=[elsewhere], **options)
        assert not (tmp_path / "out").exists()
        shutil.rmtree(elsewhere, ignore_errors=True)

    refused("the evaluation .*other/evaluation.json cannot be read")
    for line, value in (("image_size", [64, 64]), ("store", "another"), ("clips", "12, sha256 0"), ("hz", 20.0)):
        shutil.copytree(tmp_path / "copier", elsewhere)
        edit(elsewhere, **{line: value})
        refused(f"not comparable, its {line} is")
    shutil.copytree(tmp_path / "copier", elsewhere)
    refused("its horizon is 6, not 4", horizon=4)
    shutil.copytree(tmp_path / "copier", elsewhere)
    (elsewhere / "frame_metrics.npz").write_bytes(b"PK")
    refused("frame_metrics.npz cannot be read")
    shutil.copytree(tmp_path / "copier", elsewhere)
    (elsewhere / "evaluation.json").write_text("{}")
    refused("has no manifest; evaluate that checkpoint again")


def test_lpips_is_measured_if_its_weights_are_available(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "cache"))
    distance, why = find_lpips(None, None)
    assert distance is None and "daydrive fetch-weights alexnet" in why
    for network, weights in (("vgg16", None), (None, tmp_path / "nowhere")):
        with pytest.raises(UserError, match="needs weights, and there is no"):
            find_lpips(network, weights)
    with pytest.raises(UserError, match="did you mean 'vgg16'"):
        find_lpips("vgg", None)
    torch.manual_seed(0)
    file = tmp_path / "weights.safetensors"
    network = LPIPS(BACKBONES["alexnet"])
    for weight in network.calibration:
        torch.nn.init.uniform_(weight)
    save_file(network.state_dict(), file)
    distance, name = find_lpips(None, file)
    evaluation = evaluated(steerer, store, tmp_path / "out", clips=2, horizon=2, lpips=distance, lpips_name=name)
    assert evaluation["lpips"] == "alexnet"
    with np.load(tmp_path / "out/predictions.npz") as data:
        predicted, real = (to_signed(torch.from_numpy(data[name]).movedim(-1, 2)) for name in ("predicted", "real"))
        copied = to_signed(torch.from_numpy(data["last"]).movedim(-1, 1))[:, None]
    assert distance is not None
    for step, entry in enumerate(evaluation["horizons"]):
        now = real[:, step : step + 1]
        assert entry["lpips"] == pytest.approx(float(distance(predicted[:, step : step + 1], now).mean()), abs=1e-5)
        assert entry["copy_last_lpips"] == pytest.approx(float(distance(copied, now).mean()), abs=1e-5)
    assert evaluation["horizons"][-1]["copy_last_lpips"] > 0
    assert "Network: alexnet" in (tmp_path / "out/report.md").read_text()


def test_zero_actions_do_not_change_the_context(store: Store, tmp_path: Path) -> None:
    given: list[Tensor] = []

    def spy(context: Tensor, actions: Tensor) -> Tensor:
        given.append(actions)
        return copier(context, actions)

    evaluated(spy, store, tmp_path, clips=8)
    own, _, idle = given
    assert torch.equal(own[:, : CONTEXT - 1], idle[:, : CONTEXT - 1])
    assert not idle[:, CONTEXT - 1 :, :3].any()
