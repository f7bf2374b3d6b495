"""An evaluation from beginning to end: checks, rollouts, figures, files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from daydrive import __version__
from daydrive.checkpoint import LoadedModel, load
from daydrive.data.clips import read_clips
from daydrive.data.loader import fixed_clips
from daydrive.data.store import Store
from daydrive.errors import UserError
from daydrive.evaluation import figures as plots
from daydrive.evaluation.card import report_card, road_forks
from daydrive.evaluation.compare import compare, read_other, save_figures
from daydrive.evaluation.controllability import counterfactual
from daydrive.evaluation.floors import mean_picture
from daydrive.evaluation.horizon import (
    Dream,
    Measured,
    Rollout,
    Worst,
    frame_figures,
    other_clips,
    over_clips,
    rollouts,
)
from daydrive.evaluation.intervals import bootstrap
from daydrive.evaluation.lpips import find_lpips
from daydrive.evaluation.manifest import manifest
from daydrive.evaluation.output import check_writable, filling, finite
from daydrive.evaluation.page import report_html
from daydrive.evaluation.predictions import Predictions, bytes_needed
from daydrive.evaluation.report import report_markdown
from daydrive.evaluation.slices import Kind, kind_of, slices, speeds
from daydrive.evaluation.usable import usable
from daydrive.files import write_json, write_text
from daydrive.models import WorldModel
from daydrive.perceptual import Distance
from daydrive.pictures import write_video
from daydrive.rollout import rollout_uint8
from daydrive.sim.camera import check_image_size
from daydrive.types import ACTION_NAMES, Clip

SHOWN_CLIPS = 3
"""Clips in the strip and the film."""

PICTURES = {
    "A few clips": "strip.png",
    "The worst clips": "worst.png",
    "One moment, three commands": "counterfactual.png",
}
"""Of the report, by their captions."""

Progress = Callable[[int, int], None]
"""Told how many clips are done, of how many."""


def evaluate(
    checkpoint: Path,
    data_root: Path,
    split: str,
    output: Path,
    *,
    horizon: int = 50,
    clips: int = 64,
    batch_size: int = 8,
    device: torch.device | str = "cpu",
    seed: int = 0,
    with_counterfactual: bool = False,
    with_card: bool = False,
    lpips: str | None = None,
    lpips_weights: Path | None = None,
    compare_with: Sequence[Path] = (),
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Evaluates a checkpoint on a store's split and fills the folder `output`; returns what `evaluation.json` holds.

    checkpoint: a run folder, a checkpoint folder or its model file. data_root: a prepared store.
    horizon: steps to dream, fewer where no two clips are that long. with_counterfactual: also in the road world.
    with_card: also the action report card. lpips, lpips_weights: see `find_lpips`. compare_with: folders of other
    evaluations.
    UserError for what doesn't fit together, before anything is computed or written.
    """
    check_writable(output)
    distance, lpips_of = find_lpips(lpips, lpips_weights)
    loaded = load(checkpoint, device)
    store = Store.open(data_root)
    check_fit(loaded, store)
    return evaluate_dream(
        bind(loaded.model),
        store,
        split,
        output,
        context=loaded.config.training.context_frames,
        frame_skip=loaded.config.data.frame_skip,
        horizon=horizon,
        clips=clips,
        batch_size=batch_size,
        seed=seed,
        with_counterfactual=with_counterfactual,
        with_card=with_card,
        lpips=distance,
        lpips_of=lpips_of,
        compare_with=compare_with,
        progress=progress,
        weights=loaded.path / "model.safetensors",
        about={"checkpoint": str(loaded.path), "name": loaded.name, "training_step": loaded.step},
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
    batch_size: int = 8,
    seed: int = 0,
    with_counterfactual: bool = False,
    with_card: bool = False,
    lpips: Distance | None = None,
    lpips_of: str = "not asked for",
    compare_with: Sequence[Path] = (),
    progress: Progress | None = None,
    weights: Path | None = None,
    about: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The same for anything that dreams: other people's models, oracles, cheats. `about` says what it is, `weights` is
    the file that tells it from others.

    lpips, lpips_of: see `find_lpips`. Memory for pictures does not grow with `clips`.
    """
    least_values = (("horizon", horizon, 1), ("clips", clips, 2), ("batch-size", batch_size, 1), ("seed", seed, 0))
    for name, value, least in least_values:
        if value < least:
            raise UserError(f"--{name} has to be at least {least}, not {value}")
    if with_counterfactual:
        check_image_size(store.image_size)
    chosen, notes = choose_clips(store, split, context, horizon, clips, frame_skip, seed)
    steps = chosen[0].length - context
    check_writable(output, bytes_needed(len(chosen), steps, store.image_size))
    hz = store.hz / frame_skip
    made_from = manifest(store, split, chosen, context, seed, weights)
    others = {str(folder): read_other(folder, made_from) for folder in compare_with}
    measured = Measured(len(chosen), steps)
    draws = bootstrap([clip.drive for clip in chosen], seed=seed)
    average = mean_picture(store, split)
    shown: list[Rollout] = []
    worst = Worst(SHOWN_CLIPS)
    kinds: list[Kind] = []
    paces = speeds(store, chosen, context)
    to_show = {round(i * (len(chosen) - 1) / max(SHOWN_CLIPS - 1, 1)) for i in range(SHOWN_CLIPS)}
    with filling(output) as folder:
        with Predictions(folder / "predictions.npz", len(chosen), steps, store.image_size) as predictions:
            for rollout in rollouts(dream, lambda c: read_clips(store, c), chosen, context, batch_size, seed):
                if measured.count in to_show:
                    shown.append(rollout.alone())
                kinds.append(kind_of(rollout, paces[measured.count]))
                clip_figures = frame_figures(rollout, average, lpips)
                worst.see(rollout, float((clip_figures["psnr"] - clip_figures["copy_last_psnr"]).mean()))
                measured.add(clip_figures)
                predictions.put(rollout)
                if progress:
                    progress(measured.count, len(chosen))
        save_figures(folder, measured.figures)
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
            **usable(measured.figures, draws, hz),
            "lpips": lpips_of,
            "horizons": over_clips(measured.figures, draws),
            "slices": slices(measured.figures, kinds, hz),
            "manifest": made_from,
        }
        if others:
            evaluation["compared"] = {
                name: {"name": said.get("name"), **compare(measured.figures, figures, draws, hz)}
                for name, (said, figures) in others.items()
            }
        if with_counterfactual:
            evaluation["counterfactual"] = counterfactual(
                dream, store.image_size, context, frame_skip=frame_skip, output=folder, seed=seed
            )
        if with_card:
            again = road_forks(store.image_size, context, frame_skip, seed=seed) if store.source == "road" else ()
            evaluation["card"] = report_card(
                dream, store, split, context=context, frame_skip=frame_skip, seed=seed, moments=again
            )
        plots.horizon_curves(folder / "horizon.png", evaluation)
        plots.strip(folder / "strip.png", shown, hz, len(chosen), store.pixel_aspect)
        plots.strip(folder / "worst.png", worst.rollouts, hz, len(chosen), store.pixel_aspect, "with the least margin")
        write_video(folder / "rollouts.mp4", plots.film(shown, hz, store.pixel_aspect), hz)
        evaluation = finite(evaluation)
        pictures = {
            caption: (folder / name).read_bytes() for caption, name in PICTURES.items() if (folder / name).is_file()
        }
        write_text(folder / "report.html", report_html(evaluation, (folder / "rollouts.mp4").read_bytes(), pictures))
        write_text(folder / "report.md", report_markdown(evaluation))
        write_json(folder / "evaluation.json", evaluation)
    return evaluation


def bind(model: WorldModel) -> Dream:
    """A world model as a `Dream`."""
    return lambda context, actions: rollout_uint8(model, context, actions).cpu()


def check_fit(loaded: LoadedModel, store: Store) -> None:
    """UserError where the model was made for other pictures or actions than the store's."""
    size, actions = loaded.config.model.image_size, loaded.config.model.action_dim
    if size is not None and tuple(size) != store.image_size:
        raise UserError(
            f"the model {loaded.path} sees pictures of {size[0]}x{size[1]} and the store {store.path} has "
            f"{store.image_size[0]}x{store.image_size[1]}; prepare the store with --image-size {size[0]} {size[1]}"
        )
    if actions != len(ACTION_NAMES):
        raise UserError(
            f"the model {loaded.path} takes actions of {actions} numbers and the store {store.path} has "
            f"{len(ACTION_NAMES)} ({', '.join(ACTION_NAMES)})"
        )


def choose_clips(
    store: Store, split: str, context: int, horizon: int, count: int, frame_skip: int, seed: int
) -> tuple[list[Clip], list[str]]:
    """Clips of context + horizon frames spread evenly over a split, and notes on what differs from the wish."""
    drives = store.split(split)
    if not drives:
        there = ", ".join(sorted({drive.split for drive in store.drives}))
        raise UserError(f"the split '{split}' of {store.path} is empty; it has drives in: {there}")

    def available(steps: int) -> int:
        span = (context + steps - 1) * frame_skip + 1
        return sum(max(0, drive.frames - span + 1) for drive in drives)

    longest = max(drive.frames for drive in drives)
    steps = next((n for n in range(min(horizon, longest), 0, -1) if available(n) >= 2), 0)
    if steps == 0:
        raise UserError(
            f"the drives of split '{split}' of {store.path} are too short: {context} frames of context and 1 to dream, "
            f"{frame_skip} apart, don't fit twice; the longest has {longest} frames"
        )
    clips = fixed_clips(store, split, context + steps, count, frame_skip)
    notes = []
    if steps < horizon:
        notes.append(f"The horizon is {steps} steps, not {horizon}: the drives are not longer.")
    if len(clips) < count:
        notes.append(f"There are {len(clips)} clips, not {count}: the split has no more.")
    same = sum(clips[i].drive == clips[j].drive for i, j in enumerate(other_clips(clips, seed)))
    if same:
        notes.append(f"{same} of {len(clips)} clips borrow actions from their own drive.")
    return clips, notes
