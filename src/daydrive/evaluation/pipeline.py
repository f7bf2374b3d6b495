"""An evaluation from beginning to end: checks, rollouts, metrics, files."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import torch

from daydrive import __version__
from daydrive.data.store.store import Store
from daydrive.distributed import DistributedContext, process_group
from daydrive.envs.road.camera import check_image_size
from daydrive.evaluation.accumulator import MetricAccumulator
from daydrive.evaluation.clip_selection import choose_clips, evenly
from daydrive.evaluation.compare import compare, read_other, save_frame_metrics
from daydrive.evaluation.config import EvaluateConfig
from daydrive.evaluation.frechet import FILTERS, Features, clips_elsewhere, find_features
from daydrive.evaluation.manifest import manifest
from daydrive.evaluation.metrics.baselines import mean_image
from daydrive.evaluation.metrics.frame_metrics import over_clips
from daydrive.evaluation.metrics.intervals import bootstrap
from daydrive.evaluation.metrics.lpips import find_lpips
from daydrive.evaluation.metrics.slices import slices
from daydrive.evaluation.metrics.usable import usable
from daydrive.evaluation.model_loading import EvaluatedModel, find_model
from daydrive.evaluation.optional_suites import run_optional_suites
from daydrive.evaluation.output import check_writable, evaluation_workspace, finite, partial
from daydrive.evaluation.rollout_cache import bytes_cached, read_cached, worst
from daydrive.evaluation.runner import Progress, Task, measure, measured_files
from daydrive.perceptual import Distance
from daydrive.report.artifacts import bytes_needed, write_images, write_predictions, write_reports
from daydrive.report.model_card import training_of
from daydrive.types import Clip
from daydrive.workspace import staged_folder

SHOWN_CLIPS = 3
"""Clips in the strip and the video."""

PATIENCE = timedelta(days=7)
"""For how long a process waits for the others, whose clips may take them longer."""


class Networks(NamedTuple):
    """Pretrained networks that metrics need. lpips_name: the network, or why LPIPS is not measured."""

    features: Sequence[Features] = FILTERS
    lpips: Distance | None = None
    lpips_name: str = "not asked for"


class _Plan(NamedTuple):
    """What is decided before anything is measured. hz: of the steps. horizon: in steps. notes: on what differs from
    what was asked for. shown, with_images: numbers of clips. other_split: of the reference clips. manifest: see there.
    """

    task: Task
    horizon: int
    hz: float
    notes: list[str]
    shown: list[int]
    with_images: list[int]
    other_split: str | None
    manifest: dict[str, Any]


def evaluate(
    checkpoint: Path | str,
    data_root: Path | str,
    output: Path | str,
    config: EvaluateConfig | None = None,
    *,
    adapter: str | None = None,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Evaluates a checkpoint on a store and fills the folder `output`; returns what `evaluation.json` holds.

    checkpoint: a run folder, a checkpoint folder or its model file; what another model's adapter (`FILE.py:NAME`, see
    `load_adapter`) is given. data_root: a prepared store. config: what is measured, by default `EvaluateConfig()`.
    The processes of torchrun share the clips: rank 0 writes, the others return nothing. What is measured outlives an
    interruption, see `workspace`.
    UserError for what doesn't fit together, before anything is computed or written.
    """
    config, output = config or EvaluateConfig(), Path(output)
    with process_group(torch.device(device), timeout=PATIENCE) as dist:
        check_writable(output)
        features = find_features(config.fid_weights, config.fvd_weights, dist.device)
        store = Store.open(data_root)
        networks = Networks(features, *find_lpips(config.lpips, config.lpips_weights, store.image_size))
        model = find_model(Path(checkpoint), adapter, store, dist.device, config.seed)
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
    """The same for anything that predicts frames: other people's models, oracles, cheats.

    There is a model card where `model.weights` is the file of a daydrive checkpoint. team: of processes that share the
    clips. Memory for frames does not grow with the number of clips.
    """
    config, networks = config or EvaluateConfig(), networks or Networks()
    dist = dist or DistributedContext.single(torch.device("cpu"))
    plan = _plan(model, store, output, config, networks)
    task = plan.task
    others = {
        str(folder): read_other(folder, plan.manifest, (len(task.clips), plan.horizon))
        for folder in config.compare_with
    }
    training = training_of(model.weights)
    unchanged: dict[str, Any] = {
        "manifest": plan.manifest,
        "about": model.about,
        "device": dist.device.type,
        "batches": len(task.batches),
        "lpips": networks.lpips_name,
        "features": [each.name for each in networks.features],
        "cached": sorted(task.cached),
    }
    resumable = unchanged if model.weights else None
    working = evaluation_workspace(output, resumable) if dist.is_main else nullcontext(partial(output))
    with working as work:
        dist.barrier()
        measure(model.dream, task, work, dist, progress)
        dist.barrier()
        if not dist.is_main:
            return {}
        measured = task.nothing().read(measured_files(work))
        evaluation = _evaluation(model, store, config, networks, plan, measured, others)
        shown = [read_cached(work, i, task.clips[i]) for i in plan.shown]
        failed = [read_cached(work, i, task.clips[i]) for i in worst(measured.margins)]
        with staged_folder(output, work) as folder:
            save_frame_metrics(folder, measured.metrics)
            rollouts = (read_cached(work, i, task.clips[i]) for i in plan.with_images)
            write_predictions(folder, rollouts, len(plan.with_images), plan.horizon, store)
            evaluation |= run_optional_suites(config, model, store, folder, shown)
            evaluation = finite(evaluation)
            write_images(folder, evaluation, store, shown, failed)
            write_reports(folder, evaluation, store, training)
    return evaluation


def _plan(model: EvaluatedModel, store: Store, output: Path, config: EvaluateConfig, networks: Networks) -> _Plan:
    """UserError for what doesn't fit together, or doesn't fit onto the disk."""
    if config.counterfactual:
        check_image_size(store.image_size)
    context, skip = model.context, model.frame_skip
    clips, notes = choose_clips(store, config.split, context, config.horizon, config.clips, skip, config.seed)
    horizon = clips[0].length - context
    with_images, shown = evenly(config.predictions, len(clips)), evenly(SHOWN_CLIPS, len(clips))
    cached = {*with_images, *shown}
    size = bytes_needed(len(with_images), horizon, store.image_size)
    check_writable(output, size + bytes_cached(len(cached), clips[0].length, horizon, store.image_size))
    made_from = manifest(store, config.split, clips, context, config.seed, model.weights)
    other_split, reference_clips = clips_elsewhere(store, config.split, context + horizon, len(clips), skip)
    average = mean_image(store, config.split)
    task = Task(
        store, clips, reference_clips, context, config.seed, config.batch_size, average, networks.lpips,
        tuple(networks.features), cached,
    )  # fmt: skip
    return _Plan(task, horizon, store.clip_hz(skip), notes, shown, with_images, other_split, made_from)


def _evaluation(
    model: EvaluatedModel,
    store: Store,
    config: EvaluateConfig,
    networks: Networks,
    plan: _Plan,
    measured: MetricAccumulator,
    others: dict[str, Any],
) -> dict[str, Any]:
    """What `evaluation.json` says of the clips."""
    clips: Sequence[Clip] = plan.task.clips
    metrics, hz = measured.metrics, plan.hz
    draws = bootstrap([clip.drive for clip in clips], seed=config.seed)
    reference_clips = len(plan.task.reference_clips)
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
        "lpips": networks.lpips_name,
        "distribution": {
            "other_split": plan.other_split,
            "other_clips": reference_clips,
            **measured.frechet.metrics(),
        },
        "horizons": over_clips(metrics, draws),
        "slices": slices(metrics, measured.kinds, hz),
        "manifest": plan.manifest,
    }
    if others:
        evaluation["compared"] = {
            folder: {"name": about.get("name"), **compare(metrics, theirs, draws, hz)}
            for folder, (about, theirs) in others.items()
        }
    return evaluation
