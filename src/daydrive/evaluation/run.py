"""An evaluation from beginning to end: checks, rollouts, figures, files."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch

from daydrive import __version__
from daydrive.data.store.store import Store
from daydrive.distributed import DistributedContext, joined
from daydrive.envs.road.camera import check_image_size
from daydrive.errors import UserError
from daydrive.evaluation.choosing import choose_clips, evenly
from daydrive.evaluation.compare import compare, read_other, save_figures
from daydrive.evaluation.distribution import FILTERS, Features, clips_elsewhere, find_features
from daydrive.evaluation.extras import Extras, measure_extras
from daydrive.evaluation.floors import mean_picture
from daydrive.evaluation.horizon import Dream, over_clips
from daydrive.evaluation.intervals import bootstrap
from daydrive.evaluation.keeping import cached_bytes, read_cached, worst
from daydrive.evaluation.lpips import find_lpips
from daydrive.evaluation.manifest import manifest
from daydrive.evaluation.measuring import Progress, Task, measure, measured_files
from daydrive.evaluation.modelcard import Training, training_of
from daydrive.evaluation.output import check_writable, evaluation_workspace, finite, partial
from daydrive.evaluation.predictions import bytes_needed
from daydrive.evaluation.results import write_images, write_predictions, write_reports
from daydrive.evaluation.slices import slices
from daydrive.evaluation.subject import find_subject
from daydrive.evaluation.usable import usable
from daydrive.perceptual import Distance
from daydrive.workspace import filling

SHOWN_CLIPS = 3
"""Clips in the strip and the film."""

PATIENCE = timedelta(days=7)
"""For how long a process waits for the others, whose clips may take them longer."""


def evaluate(
    checkpoint: Path,
    data_root: Path,
    split: str,
    output: Path,
    *,
    adapter: str | None = None,
    horizon: int = 50,
    clips: int = 64,
    predictions: int = 64,
    batch_size: int = 8,
    device: torch.device | str = "cpu",
    seed: int = 0,
    with_counterfactual: bool = False,
    with_card: bool = False,
    with_long: bool = False,
    lpips: str | None = None,
    lpips_weights: Path | None = None,
    fid_weights: Path | None = None,
    fvd_weights: Path | None = None,
    compare_with: Sequence[Path] = (),
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Evaluates a checkpoint on a store's split and fills the folder `output`; returns what `evaluation.json` holds.

    checkpoint: a run folder, a checkpoint folder or its model file; what another model's adapter (`FILE.py:NAME`, see
    `load_adapter`) is given. data_root: a prepared store.
    horizon: steps to dream, fewer where no two clips are that long. predictions: clips whose pictures are written.
    with_counterfactual: also in the road world.
    with_card: also the action report card. with_long: also dreams of 200 and 1000 steps. lpips, lpips_weights: see
    `find_lpips`. compare_with: folders of other evaluations.
    The processes of torchrun share the clips: rank 0 writes, the others return nothing. What is measured outlives an
    interruption, see `workspace`.
    UserError for what doesn't fit together, before anything is computed or written.
    """
    with joined(torch.device(device), timeout=PATIENCE) as dist:
        check_writable(output)
        features = find_features(fid_weights, fvd_weights, dist.device)
        store = Store.open(data_root)
        distance, lpips_of = find_lpips(lpips, lpips_weights, store.image_size)
        subject = find_subject(checkpoint, adapter, store, dist.device)
        return evaluate_dream(
            subject.dream,
            store,
            split,
            output,
            context=subject.context,
            frame_skip=subject.frame_skip,
            horizon=horizon,
            clips=clips,
            predictions=predictions,
            batch_size=batch_size,
            seed=seed,
            with_counterfactual=with_counterfactual,
            with_card=with_card,
            with_long=with_long,
            lpips=distance,
            lpips_of=lpips_of,
            features=features,
            compare_with=compare_with,
            progress=progress,
            weights=subject.weights,
            about=subject.about,
            training=training_of(subject.weights),
            dist=dist,
        )


def evaluate_dream(
    dream: Dream,
    store: Store,
    split: str,
    output: Path,
    *,
    context: int,
    frame_skip: int = 1,
    horizon: int = 50,
    clips: int = 64,
    predictions: int = 64,
    batch_size: int = 8,
    seed: int = 0,
    with_counterfactual: bool = False,
    with_card: bool = False,
    with_long: bool = False,
    lpips: Distance | None = None,
    lpips_of: str = "not asked for",
    features: Sequence[Features] = FILTERS,
    compare_with: Sequence[Path] = (),
    progress: Progress | None = None,
    weights: Path | None = None,
    about: dict[str, Any] | None = None,
    training: Training | None = None,
    dist: DistributedContext | None = None,
) -> dict[str, Any]:
    """The same for anything that dreams: other people's models, oracles, cheats. `about` says what it is, `weights` is
    the file that tells it from others. training: of a daydrive model, for its model card; without it there is none.

    lpips, lpips_of: see `find_lpips`. features: for the Fréchet distances. team: of processes that share the clips.
    Memory for pictures does not grow with `clips`.
    """
    dist = dist or DistributedContext.single(torch.device("cpu"))
    least_values = {"horizon": (horizon, 1), "clips": (clips, 2), "predictions": (predictions, 1)}
    least_values |= {"batch-size": (batch_size, 1), "seed": (seed, 0)}
    for name, (value, least) in least_values.items():
        if value < least:
            raise UserError(f"--{name} has to be at least {least}, not {value}")
    if with_counterfactual:
        check_image_size(store.image_size)
    chosen, notes = choose_clips(store, split, context, horizon, clips, frame_skip, seed)
    steps = chosen[0].length - context
    pictured, showing = evenly(predictions, len(chosen)), evenly(SHOWN_CLIPS, len(chosen))
    kept = {*pictured, *showing}
    size = bytes_needed(len(pictured), steps, store.image_size)
    check_writable(output, size + cached_bytes(len(kept), chosen[0].length, steps, store.image_size))
    hz = store.clip_hz(frame_skip)
    made_from = manifest(store, split, chosen, context, seed, weights)
    others = {str(folder): read_other(folder, made_from, (len(chosen), steps)) for folder in compare_with}
    elsewhere, strangers = clips_elsewhere(store, split, context + steps, len(chosen), frame_skip)
    average = mean_picture(store, split)
    task = Task(store, chosen, strangers, context, seed, batch_size, average, lpips, tuple(features), kept)
    plan: dict[str, Any] = {
        "manifest": made_from,
        "about": about,
        "device": dist.device.type,
        "batches": len(task.batches),
    }
    plan |= {"lpips": lpips_of, "features": [each.name for each in features], "kept": sorted(kept)}
    working = evaluation_workspace(output, plan if weights else None) if dist.is_main else nullcontext(partial(output))
    with working as work:
        dist.barrier()
        measure(dream, task, work, dist, progress)
        dist.barrier()
        if not dist.is_main:
            return {}
        measured = task.nothing().read(measured_files(work))
        figures = measured.figures
        draws = bootstrap([clip.drive for clip in chosen], seed=seed)
        shown = [read_cached(work, i, chosen[i]) for i in showing]
        failed = [read_cached(work, i, chosen[i]) for i in worst(measured.margins)]
        evaluation: dict[str, Any] = {
            "daydrive": __version__,
            **(about or {}),
            "store": str(store.path),
            "store_fingerprint": store.fingerprint,
            "split": split,
            "image_size": list(store.image_size),
            "clips": len(chosen),
            "context": context,
            "frame_skip": frame_skip,
            "hz": hz,
            "seed": seed,
            "held": sorted({clip.drive for clip in chosen}),
            "notes": notes,
            **usable(figures, draws, hz),
            "lpips": lpips_of,
            "distribution": {"other_split": elsewhere, "other_clips": len(strangers), **measured.spread.figures()},
            "horizons": over_clips(figures, draws),
            "slices": slices(figures, measured.kinds, hz),
            "manifest": made_from,
        }
        if others:
            evaluation["compared"] = {
                name: {"name": said.get("name"), **compare(figures, theirs, draws, hz)}
                for name, (said, theirs) in others.items()
            }
        with filling(output, work) as folder:
            save_figures(folder, figures)
            rollouts = (read_cached(work, i, chosen[i]) for i in pictured)
            write_predictions(folder, rollouts, len(pictured), steps, store)
            wanted = Extras(with_counterfactual, with_card, with_long)
            evaluation |= measure_extras(
                wanted, dream, store, split, folder, shown, context=context, frame_skip=frame_skip, seed=seed
            )
            evaluation = finite(evaluation)
            write_images(folder, evaluation, store, shown, failed)
            write_reports(folder, evaluation, store, training)
    return evaluation
