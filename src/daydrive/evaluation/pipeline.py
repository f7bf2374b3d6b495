"""Runs an evaluation from start to end: checks, rollouts, metrics, output files."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import torch

from daydrive.data.store.store import Store
from daydrive.distributed import DistributedContext, process_group
from daydrive.envs.road.camera import check_image_size
from daydrive.evaluation.accumulator import MetricAccumulator
from daydrive.evaluation.clip_selection import choose_clips, evenly
from daydrive.evaluation.compare import compare, read_evaluation, save_frame_metrics
from daydrive.evaluation.config import EvaluateConfig
from daydrive.evaluation.controllability import (
    TrainingIndex,
    measure_horizons,
    measure_long_rollouts,
    road_moments,
    score_controllability,
)
from daydrive.evaluation.controllability.counterfactual import counterfactual
from daydrive.evaluation.controllability.training_index import as_json
from daydrive.evaluation.decisions import read_decisions
from daydrive.evaluation.distribution import FILTERS, Features, choose_reference_clips, find_features
from daydrive.evaluation.human import read_choices
from daydrive.evaluation.manifest import manifest
from daydrive.evaluation.metrics.baselines import mean_image
from daydrive.evaluation.metrics.frame_metrics import step_metrics
from daydrive.evaluation.metrics.intervals import bootstrap
from daydrive.evaluation.metrics.lpips import find_lpips
from daydrive.evaluation.metrics.realistic import realistic
from daydrive.evaluation.metrics.slices import slices
from daydrive.evaluation.metrics.spectrum import spectrum_metrics
from daydrive.evaluation.metrics.usable import usable
from daydrive.evaluation.model_loading import EvaluatedModel, find_model
from daydrive.evaluation.output import check_writable, finite
from daydrive.evaluation.rollout_cache import bytes_cached, read_cached, worst
from daydrive.evaluation.runner import Progress, Task, measure, measured_files
from daydrive.evaluation.sampled_futures import CLIPS as SAMPLED
from daydrive.evaluation.sampled_futures import measure_samples
from daydrive.evaluation.trajectories import CLIPS as TRAJECTORIES
from daydrive.evaluation.trajectories import measure_trajectories
from daydrive.local_processes import count_processes, local_processes
from daydrive.losses import Distance
from daydrive.report import plots
from daydrive.report.artifacts import bytes_needed, write_images, write_predictions, write_reports
from daydrive.report.model_card import training_of
from daydrive.types import Clip, Rollout
from daydrive.version import __version__
from daydrive.workspace import partial, results_workspace, staged_folder


def run_optional_suites(
    config: EvaluateConfig,
    model: EvaluatedModel,
    store: Store,
    dist: DistributedContext,
    folder: Path | None,
    shown: Sequence[Rollout],
) -> dict[str, Any]:
    """Runs the suites that `config` asks for, with the processes of `dist`; returns their entries for
    `evaluation.json`.

    folder: of the images, None in the processes that write none. shown: rollouts for which the nearest training clips
    are searched.
    """
    results: dict[str, Any] = {}
    rollout_fn, context, skip, seed = model.rollout_fn, model.context, model.frame_skip, config.seed
    hz = store.clip_hz(skip)
    index = TrainingIndex(store) if config.controllability or config.long else None
    if config.counterfactual:
        results["counterfactual"] = counterfactual(
            rollout_fn, store.image_size, context, frame_skip=skip, output=folder, seed=seed, dist=dist
        )
    if config.controllability:
        moments = road_moments(store.image_size, context, skip, seed=seed, dist=dist) if store.source == "road" else ()
        scores = score_controllability(
            rollout_fn, store, config.split, context=context, frame_skip=skip, seed=seed, moments=moments, index=index,
            dist=dist,
        )  # fmt: skip
        nearest = [match for match in (index.match_rollout(rollout) for rollout in shown) if match] if index else []
        results["controllability"] = {**scores, "nearest_training_clips": [as_json(match) for match in nearest]}
        if nearest and folder is not None:
            rows = [
                plots.NearestClip(m.rollout.predicted, m.predicted.frames, m.rollout.real, m.predicted.psnr)
                for m in nearest
            ]
            plots.nearest_sheet(folder / "memory.png", rows, hz, store.pixel_aspect)
    if config.long:
        results["long_dreams"], snapshots = measure_long_rollouts(
            rollout_fn, store, config.split, context, frame_skip=skip, dist=dist
        )
        results["long_dreams"]["quality"] = measure_horizons(
            rollout_fn, store, config.split, context, frame_skip=skip, index=index, dist=dist
        )
        if folder is not None:
            plots.long_sheet(folder / "long.png", snapshots, hz, store.pixel_aspect)
    if config.samples:
        count = min(config.clips, SAMPLED)
        clips, _ = choose_clips(store, config.split, context, config.horizon, count, skip, seed)
        sampled = measure_samples(model.sample_fn, store, clips, context, config.samples, seed=seed, dist=dist)
        results["samples"] = sampled.results
        if sampled.shown and folder is not None:
            plots.samples_sheet(folder / "samples.png", sampled.shown, sampled.steps, hz, store.pixel_aspect)
    return results


SHOWN_CLIPS = 3
"""Number of clips in the strip of frames and in the video."""

TIMEOUT = timedelta(days=7)
"""How long a process waits for the others, whose clips may take longer."""


class Networks(NamedTuple):
    """The feature extractors and networks of the metrics. lpips_name: the LPIPS network, or why it is not measured."""

    features: Sequence[Features] = FILTERS
    lpips: Distance | None = None
    lpips_name: str = "not asked for"


class _Plan(NamedTuple):
    """Everything that is determined before the first rollout.

    steps: predicted steps per clip. hz: steps per second. notes: deviations from the requested settings. shown,
    with_images: indices of clips. reference_split: the split of the reference clips. manifest: see `manifest`.
    """

    task: Task
    steps: int
    hz: float
    notes: list[str]
    shown: list[int]
    with_images: list[int]
    reference_split: str | None
    manifest: dict[str, Any]


def evaluate(
    checkpoint: Path | str,
    data_root: Path | str,
    output: Path | str,
    config: EvaluateConfig | None = None,
    *,
    adapter: str | None = None,
    device: torch.device | str = "cpu",
    processes: str = "1",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Evaluates a checkpoint on a store and writes the folder `output`; returns the contents of `evaluation.json`.

    checkpoint: a run folder, a checkpoint folder or its model file; with `adapter` (`FILE.py:NAME`, see `load_adapter`)
    the path passed to the adapter. data_root: a prepared store. config: by default `EvaluateConfig()`.
    Processes started by torchrun share the work: rank 0 writes the output, the others return an empty dictionary.
    processes: how many of this machine share it, see `count_processes`. An interrupted evaluation can be resumed, see
    `results_workspace`.
    Raises UserError for incompatible arguments before anything is computed or written.
    """
    config, device = config or EvaluateConfig(), torch.device(device)
    arguments = (Path(checkpoint), Path(data_root), Path(output), config, adapter, device)
    with local_processes(count_processes(processes, device), _evaluate, *arguments):
        return _evaluate(*arguments, progress=progress)


def _evaluate(
    checkpoint: Path,
    data_root: Path,
    output: Path,
    config: EvaluateConfig,
    adapter: str | None,
    device: torch.device,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """The share of one process."""
    with process_group(device, timeout=TIMEOUT) as dist:
        check_writable(output)
        features = find_features(config.fid_weights, config.fvd_weights, dist.device)
        store = Store.open(data_root)
        networks = Networks(features, *find_lpips(config.lpips, config.lpips_weights, store.image_size))
        model = find_model(checkpoint, adapter, store, dist.device, None if config.deterministic else config.seed)
        return evaluate_model(model, store, output, config, networks=networks, dist=dist, progress=progress)


def evaluate_model(
    model: EvaluatedModel,
    store: Store,
    output: Path,
    config: EvaluateConfig | None = None,
    *,
    networks: Networks | None = None,
    dist: DistributedContext | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Like `evaluate`, for any rollout function.

    A model card is written if `model.weights` belongs to a daydrive checkpoint. dist: the processes that share the
    clips. The memory used for frames does not depend on the number of clips.
    """
    config, networks = config or EvaluateConfig(), networks or Networks()
    dist = dist or DistributedContext.single(torch.device("cpu"))
    plan = _plan(model, store, output, config, networks)
    task = plan.task
    others = {
        str(folder): read_evaluation(folder, plan.manifest, (len(task.clips), plan.steps))
        for folder in config.compare_with
    }
    choices = None if config.human is None else read_choices(config.human)
    decisions = read_decisions(config.decisions)
    training = training_of(model.weights)
    unchanged: dict[str, Any] = {
        "manifest": plan.manifest,
        "about": model.about,
        "device": dist.device.type,
        "batches": len(task.batches),
        "lpips": networks.lpips_name,
        "features": [features.name for features in networks.features],
        "cached": sorted(task.cached),
    }
    resumable = unchanged if model.weights else None
    working = results_workspace(output, resumable, "*.npz") if dist.is_main else nullcontext(partial(output))
    with working as work:
        dist.barrier()
        measure(model.clip_fn or model.rollout_fn, task, work, dist, progress)
        dist.barrier()
        if not dist.is_main:
            _trajectories(model, store, plan, work, dist)
            run_optional_suites(config, model, store, dist, None, ())
            return {}
        measured = task.empty_accumulator().read(measured_files(work))
        evaluation = _evaluation(model, store, config, networks, plan, measured, others)
        shown = [read_cached(work, i, task.clips[i]) for i in plan.shown]
        failed = [read_cached(work, i, task.clips[i]) for i in worst(measured.margins)]
        with staged_folder(output, work) as folder:
            save_frame_metrics(folder, measured.metrics)
            rollouts = (read_cached(work, i, task.clips[i]) for i in plan.with_images)
            write_predictions(folder, rollouts, len(plan.with_images), plan.steps, store)
            evaluation["trajectories"] = _trajectories(model, store, plan, work, dist)
            if choices is not None:
                evaluation["human"] = choices
            if decisions:
                evaluation["decisions"] = decisions
            evaluation |= run_optional_suites(config, model, store, dist, folder, shown)
            evaluation = finite(evaluation)
            write_images(folder, evaluation, store, shown, failed)
            write_reports(folder, evaluation, store, training)
    return evaluation


def _trajectories(
    model: EvaluatedModel, store: Store, plan: _Plan, work: Path, dist: DistributedContext
) -> dict[str, Any] | str:
    some = [plan.with_images[k] for k in evenly(TRAJECTORIES, len(plan.with_images))]
    clips = [plan.task.clips[i] for i in some]
    return measure_trajectories(store, clips, model.context, lambda k: read_cached(work, some[k], clips[k]), dist)


def _plan(model: EvaluatedModel, store: Store, output: Path, config: EvaluateConfig, networks: Networks) -> _Plan:
    """Raises UserError for incompatible arguments or too little disk space."""
    if config.counterfactual:
        check_image_size(store.image_size)
    context, skip = model.context, model.frame_skip
    clips, notes = choose_clips(store, config.split, context, config.horizon, config.clips, skip, config.seed)
    if model.about.get("deterministic"):
        notes.append("The rollouts are deterministic: no random numbers, the most likely frames.")
    steps = clips[0].length - context
    with_images, shown = evenly(config.predictions, len(clips)), evenly(SHOWN_CLIPS, len(clips))
    cached = {*with_images, *shown}
    size = bytes_needed(len(with_images), steps, store.image_size)
    check_writable(output, size + bytes_cached(len(cached), clips[0].length, steps, store.image_size))
    provenance = manifest(store, config.split, clips, context, config.seed, model.weights)
    reference_split, reference_clips = choose_reference_clips(store, config.split, context + steps, len(clips), skip)
    average = mean_image(store, config.split)
    task = Task(
        store, clips, reference_clips, context, config.seed, config.batch_size, average, networks.lpips,
        tuple(networks.features), cached,
    )  # fmt: skip
    return _Plan(task, steps, store.clip_hz(skip), notes, shown, with_images, reference_split, provenance)


def _evaluation(
    model: EvaluatedModel,
    store: Store,
    config: EvaluateConfig,
    networks: Networks,
    plan: _Plan,
    measured: MetricAccumulator,
    others: dict[str, Any],
) -> dict[str, Any]:
    """The entries of `evaluation.json` that come from the clips."""
    clips: Sequence[Clip] = plan.task.clips
    metrics, hz = measured.metrics, plan.hz
    draws = bootstrap([clip.drive for clip in clips], seed=config.seed)
    reference_clips = len(plan.task.reference_clips)
    bands, peaks = measured.spectrum.bands, measured.spectrum.peaks()
    evaluation: dict[str, Any] = {
        "daydrive": __version__,
        **model.about,
        "store": str(store.path),
        "store_fingerprint": store.fingerprint,
        "split": config.split,
        "image_size": list(store.image_size),
        "clips": len(clips),
        "context": model.context,
        "frame_skip": model.frame_skip,
        "hz": hz,
        "seed": config.seed,
        "held": sorted({clip.drive for clip in clips}),
        "notes": plan.notes,
        **usable(metrics, draws, hz),
        **realistic(metrics, bands, peaks, draws, hz),
        "lpips": networks.lpips_name,
        "distribution": {
            "other_split": plan.reference_split,
            "other_clips": reference_clips,
            **measured.distribution.metrics(),
        },
        "spectrum": spectrum_metrics(metrics["predicted_power"], metrics["real_power"], bands, peaks, draws),
        "horizons": step_metrics(metrics, draws),
        "slices": slices(metrics, measured.kinds, hz),
        "manifest": plan.manifest,
    }
    if others:
        evaluation["compared"] = {
            folder: {"name": other.get("name"), **compare(metrics, other_metrics, draws, hz)}
            for folder, (other, other_metrics) in others.items()
        }
    return evaluation
