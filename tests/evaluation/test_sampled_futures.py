"""Sampled futures with planted samplers of known spread, and of models that do not sample."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image as Pillow
from torch import Tensor

from daydrive.data.sampling.clips import fixed_clips, read_clips
from daydrive.data.store.store import Store
from daydrive.distributed import DistributedContext
from daydrive.evaluation import EvaluateConfig, evaluate
from daydrive.evaluation.model_loading import find_model
from daydrive.evaluation.sampled_futures import SampleFunction, measure_samples, shown_steps
from daydrive.report.rows import samples as sample_rows
from helpers.checkpoints import write_checkpoint
from helpers.planted_predictions import CONTEXT, HORIZON, evaluated, oracle, past, scene_store, steerer

ERROR = 8.0
"""Standard deviation of the error that all samples of a clip have in common, in grey levels."""
CLIPS = 12


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return scene_store(tmp_path_factory.mktemp("scene"))


def sampler(store: Store, spread: float, calls: list[Any] | None = None) -> SampleFunction:
    """The true future, wrong by a common error, with noise of standard deviation `spread` in each sample."""
    true = oracle(store, "val")

    def noise(seed: int, like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=torch.Generator().manual_seed(seed))

    def predict(context: Tensor, actions: Tensor, seeds: Sequence[int] | None) -> Tensor:
        if calls is not None:
            calls.append((len(context), seeds))
        frames = []
        for k, real in enumerate(true(context, actions).float()):
            centre = real + ERROR * noise(zlib.crc32(past(actions[k])), real)
            frames.append(centre if seeds is None else centre + spread * noise(seeds[k], real))
        return torch.stack(frames).round().clamp(0, 255).to(torch.uint8)

    return predict


@pytest.fixture(scope="module")
def calibrated(store: Store, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    output = tmp_path_factory.mktemp("calibrated") / "out"
    return evaluated(steerer, store, output, samples=4, sample_fn=sampler(store, ERROR)), output


def test_samples_as_different_as_they_are_wrong_are_calibrated(calibrated: tuple[dict[str, Any], Path]) -> None:
    found = calibrated[0]["samples"]
    assert (found["count"], found["clips"], len(found["horizons"])) == (4, CLIPS, HORIZON)
    for entry in found["horizons"]:
        assert entry["spread_error_ratio"] == pytest.approx(1.0, abs=0.03)
        assert entry["crps"] == pytest.approx(ERROR / torch.pi**0.5, rel=0.05)
        assert entry["deterministic_error"] == pytest.approx(ERROR * (2 / torch.pi) ** 0.5, rel=0.05)
        assert entry["best_psnr"] > entry["single_psnr"] and entry["best_psnr_interval"][0] <= entry["best_psnr"]
        assert entry["single_psnr"] + 1 < entry["mean_image_psnr"] < entry["deterministic_psnr"]


def test_samples_with_half_of_the_spread_are_too_sure(store: Store, tmp_path: Path) -> None:
    result = evaluated(steerer, store, tmp_path / "out", samples=4, sample_fn=sampler(store, ERROR / 2))
    expected = (5 / 4 * (ERROR / 2) ** 2 / (ERROR**2 + (ERROR / 2) ** 2 / 4)) ** 0.5
    for entry in result["samples"]["horizons"]:
        assert entry["spread_error_ratio"] == pytest.approx(expected, abs=0.02)
    assert "too sure" in (tmp_path / "out/report.md").read_text()


def test_report_shows_the_samples(calibrated: tuple[dict[str, Any], Path]) -> None:
    evaluation, output = calibrated
    markdown, page = ((output / name).read_text() for name in ("report.md", "report.html"))
    rows = sample_rows(evaluation["samples"])
    assert [row[0] for row in rows.rows] == ["+1", "+5", "+6"]
    for cell in (*rows.heads, *rows.rows[-1]):
        assert cell in markdown and cell in page
    assert "## Sampled futures" in markdown and "calibrated" in markdown and 'id="sampled-futures"' in page
    with Pillow.open(output / "samples.png") as sheet:
        assert sheet.width > 6 * 48 and sheet.height > 3 * 32


@pytest.mark.parametrize(
    ("sample_fn", "sentence"),
    [
        (lambda context, actions, seeds: steerer(context, actions), "the model does not sample: its 3 rollouts"),
        (None, "cannot be given seeds"),
    ],
)
def test_models_without_samples_get_a_sentence(
    store: Store, tmp_path: Path, sample_fn: SampleFunction | None, sentence: str
) -> None:
    found = evaluated(steerer, store, tmp_path / "out", samples=3, sample_fn=sample_fn)["samples"]
    assert sentence in found and not (tmp_path / "out/samples.png").exists()
    for name in ("report.md", "report.html"):
        assert f"Sampled futures: {found}." in (tmp_path / "out" / name).read_text()
    assert "samples" not in evaluated(steerer, store, tmp_path / "without", sample_fn=sample_fn)


def test_every_clip_and_sample_has_its_own_seed(store: Store) -> None:
    clips = fixed_clips(store, "val", CONTEXT + HORIZON, 10)
    used = {}
    for count in (2, 4):
        calls: list[Any] = []
        measure_samples(sampler(store, ERROR, calls), store, clips, CONTEXT, count, seed=3)
        assert {size for size, _ in calls} == {8} and len(calls) == 2 * (1 + count)
        seeds = [given for _, given in calls]
        assert [given is None for given in seeds] == [True, *[False] * count] * 2
        used[count] = [seeds[1 : 1 + count], [given[:2] for given in seeds[2 + count :]]]
        every = [seed for batch in used[count] for given in batch for seed in given]
        assert len(set(every)) == len(every) == 10 * count
    assert [batch[:2] for batch in used[4]] == used[2]


def test_shown_steps_fit_the_horizon() -> None:
    assert [shown_steps(horizon) for horizon in (6, 30, 50, 200)] == [[6], [10, 30], [10, 50], [10, 50]]


class GatheredError(Exception):
    """Carries the results of a process."""


class Other(DistributedContext):
    """The second of two processes."""

    def gather(self, results: list[Any]) -> list[Any]:
        raise GatheredError(results)


def test_two_processes_share_the_clips(store: Store) -> None:
    clips = fixed_clips(store, "val", CONTEXT + HORIZON, CLIPS)
    device = torch.device("cpu")

    def measure(dist: DistributedContext | None = None) -> Any:
        return measure_samples(sampler(store, ERROR), store, clips, CONTEXT, 2, dist=dist)

    with pytest.raises(GatheredError) as other:
        measure(Other(1, 2, device))

    class First(DistributedContext):
        def gather(self, results: list[Any]) -> list[Any]:
            return [*results, *other.value.args[0]]

    alone, together = measure(), measure(First(0, 2, device))
    assert alone.results == together.results and len(alone.shown) == len(together.shown) == 3
    for one, two in zip(alone.shown, together.shown, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def test_clips_of_a_batch_get_their_own_random_numbers_unless_deterministic(road_store: Path, tmp_path: Path) -> None:
    run, store = write_checkpoint(tmp_path / "run", "rssm", (64, 64)), Store.open(road_store)
    for seed, same in ((0, False), (None, True)):
        model = find_model(run, None, store, torch.device("cpu"), seed)
        (clip,) = fixed_clips(store, "val", model.context + HORIZON, 1)
        read = read_clips(store, [clip, clip])
        context = read.images[:, : model.context]
        first, second = (model.clip_fn or model.rollout_fn)(context, read.actions)
        assert torch.equal(first, second) == same
        first, second = model.rollout_fn(context, read.actions)
        assert torch.equal(first, second) and model.about["deterministic"] == same


def test_deterministic_rollouts_do_not_depend_on_the_seed(road_store: Path, tmp_path: Path) -> None:
    run = write_checkpoint(tmp_path / "run", "rssm", (64, 64))
    found = []
    for seed in (0, 1):
        config = EvaluateConfig(split="val", horizon=HORIZON, clips=4, seed=seed, deterministic=True)
        found.append(evaluate(run, road_store, tmp_path / f"{seed}", config))
    assert [h["psnr"] for h in found[0]["horizons"]] == [h["psnr"] for h in found[1]["horizons"]]
    assert found[0]["deterministic"] and "most likely frames" in (tmp_path / "0/report.md").read_text()


@pytest.mark.slow
def test_checkpoint_in_one_and_two_processes(road_store: Path, tmp_path: Path) -> None:
    run = write_checkpoint(tmp_path / "run", "rssm", (64, 64))
    config = EvaluateConfig(split="val", horizon=5, clips=12, samples=2)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        results = [evaluate(run, road_store, tmp_path / n, config, processes=n)["samples"] for n in ("1", "2")]
    finally:
        torch.set_num_threads(threads)
    assert results[0] == results[1] and results[0]["clips"] == 12
    assert (tmp_path / "1/samples.png").read_bytes() == (tmp_path / "2/samples.png").read_bytes()
