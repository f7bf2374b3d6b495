"""Rollouts from one moment with five steering commands; in the road world beside the simulated futures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from daydrive.checkpoint import load
from daydrive.data.sampling.clips import read_clips
from daydrive.data.store.store import Store
from daydrive.envs.road.env import HZ
from daydrive.evaluation.controllability.branches import predict_branches, road_branches, rollout_branches, steered_to
from daydrive.evaluation.metrics.frame_metrics import RolloutFunction
from daydrive.evaluation.model_loading import find_model, make_rollout_fn
from daydrive.types import Clip, Image
from daydrive.viz.colormaps import steering_wheel, tile_height
from daydrive.viz.images import contact_sheet, to_images, widen
from daydrive.viz.views.clips import ClipQuery, find_clips, moment_name, shown_steps

STEERINGS = {"hard left": -1.0, "left": -0.5, "straight": 0.0, "right": 0.5, "hard right": 1.0}
"""Steering as a fraction of full lock, held for all steps; pedals and gear stay as they were."""
CHANGES = tuple(steered_to(steering) for steering in STEERINGS.values())

FIRST_WORLD = 3_000_003
"""Seed of world 0; training data uses small seeds."""


class SteeringSweep(NamedTuple):
    """Futures of one moment in K columns, one per steering command (`names`).

    seen: uint8 (C, 3, H, W). steering: (K, N). futures: rows by label, uint8 (K, N, 3, H, W); in the road world
    `predicted` and `real`, for a recorded drive one row without a label, whose first column is the recording.
    """

    moment: str
    title: str
    names: list[str]
    seen: Tensor
    steering: Tensor
    futures: dict[str, Tensor]

    @property
    def steps(self) -> int:
        return self.steering.shape[1]


class SweepView(NamedTuple):
    """A sweep with the rate of its steps in Hz and the width / height of its pixels."""

    sweep: SteeringSweep
    hz: float
    pixel_aspect: float


def of_world(checkpoint: Path, world: int, steps: int, device: torch.device) -> SweepView:
    """A checkpoint's sweep in the road world, at the model's image size."""
    loaded = load(checkpoint, device)
    skip, size = loaded.frame_skip, loaded.image_size
    assert size is not None, "training sets it from the store"
    sweep = sweep_world(make_rollout_fn(loaded.model), size, loaded.context_frames, skip, steps, world)
    return SweepView(sweep, HZ / skip, 1.0)


def of_drive(
    checkpoint: Path, adapter: str | None, data_root: Path, query: ClipQuery, device: torch.device
) -> SweepView:
    """Any model's sweep at a moment of a recorded drive."""
    store = Store.open(data_root)
    model = find_model(checkpoint, adapter, store, device)
    (clip,) = find_clips(store, query, model.context, model.frame_skip)
    sweep = sweep_drive(model.rollout_fn, store, clip, model.context)
    return SweepView(sweep, store.clip_hz(model.frame_skip), store.pixel_aspect)


def sweep_world(
    predict: RolloutFunction, image_size: tuple[int, int], context: int, frame_skip: int, steps: int, world: int = 0
) -> SteeringSweep:
    """A moment at speed in the road world; `world` selects the road. Raises UserError for an unsupported image size."""
    seeds = [FIRST_WORLD + world]
    (branches,) = road_branches(image_size, context, seeds, CHANGES, frame_skip=frame_skip, steps=steps)
    rollout = rollout_branches(predict, branches)
    right = int((rollout.nearest().diagonal() == 1).sum())
    moment, count = f"road world {world}", len(STEERINGS)
    title = f"{moment}, five steering commands; {right} of {count} predictions end nearest to their own real future"
    futures = {"predicted": rollout.predicted, "real": branches.real}
    steering = branches.actions[:, context - 1 :, 0]
    return SteeringSweep(moment, title, list(STEERINGS), branches.seen, steering, futures)


def sweep_drive(predict: RolloutFunction, store: Store, clip: Clip, context: int) -> SteeringSweep:
    """A moment of a recorded drive."""
    batch = read_clips(store, [clip])
    seen, real, recorded = batch.images[0, :context], batch.images[0, context:], batch.actions[0]
    command = recorded[context - 1].numpy()
    commands = torch.from_numpy(np.stack([change(command) for change in CHANGES]))
    past = recorded[: context - 1].expand(len(commands), -1, -1)
    actions = torch.cat([past, commands[:, None].expand(-1, len(real), -1)], dim=1)
    predicted = predict_branches(predict, seen, actions)
    moment = moment_name(store, clip, context)
    steering = torch.cat([recorded[None], actions])[:, context - 1 :, 0]
    futures = {"": torch.cat([real[None], predicted])}
    title = f"{moment}, predicted with five steering commands"
    return SteeringSweep(moment, title, ["recorded", *STEERINGS], seen, steering, futures)


def sheet(sweep: SteeringSweep, hz: float, pixel_aspect: float = 1.0) -> Image:
    """One column per steering command: the wheel, and below it the futures at a few steps."""
    rows, labels = [_wheels(sweep, 1, pixel_aspect)], ["steering"]
    for t in shown_steps(sweep.steps, 4)[-3:]:
        for name, frames in sweep.futures.items():
            rows.append(widen(to_images(frames[:, t - 1]), pixel_aspect))
            labels.append(f"{name}  +{t}  {t / hz:.2f} s")
    return contact_sheet(rows, labels, sweep.names, title=sweep.title, height=tile_height(rows[0][0], 128))


def video(sweep: SteeringSweep, hz: float, pixel_aspect: float = 1.0) -> Iterator[Image]:
    """The same step by step, after the context frames."""
    seen = widen(to_images(sweep.seen), pixel_aspect)
    for t in range(1 - len(seen), sweep.steps + 1):
        wheels = _wheels(sweep, max(t, 1), pixel_aspect)
        if t > 0:
            rows = [widen(to_images(frames[:, t - 1]), pixel_aspect) for frames in sweep.futures.values()]
        else:
            rows = [[seen[t + len(seen) - 1]] * len(sweep.names) for _ in sweep.futures]
        state = f"+{t}  {t / hz:.2f} s" if t > 0 else "context"
        labels, title = ["steering", *sweep.futures], f"{sweep.moment}   {state}"
        yield contact_sheet([wheels, *rows], labels, sweep.names, title=title, height=tile_height(wheels[0], 128))


def _wheels(sweep: SteeringSweep, step: int, pixel_aspect: float) -> list[Image]:
    (like,) = widen(to_images(sweep.seen[-1:]), pixel_aspect)
    return [steering_wheel(steering, like) for steering in sweep.steering[:, step - 1].tolist()]
