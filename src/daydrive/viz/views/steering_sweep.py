"""One moment, five steerings: what the model makes of each, and in the road world what really would have come."""

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
from daydrive.viz.colormaps import tile_height, wheel
from daydrive.viz.images import contact_sheet, to_images, widen
from daydrive.viz.views.clips import ClipQuery, find_clips, moment_name, shown_steps

STEERINGS = {"hard left": -1.0, "left": -0.5, "straight": 0.0, "right": 0.5, "hard right": 1.0}
"""Of full lock, held all the way; the pedals and the gear stay as they were at the moment."""
CHANGES = tuple(steered_to(steering) for steering in STEERINGS.values())

FIRST_WORLD = 3_000_003
"""Seed of world 0: training data is made from small seeds."""


class SteeringSweep(NamedTuple):
    """What comes after a moment, in K columns `names` by what is done with the wheel.

    seen: uint8 (C, 3, H, W). steering: (K, N). futures: by the name of a row uint8 (K, N, 3, H, W); in the road world
    `dream` and `real`, at a drive's moment one row without a name, whose first column is what was recorded.
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


def of_world(checkpoint: Path, world: int, horizon: int, device: torch.device) -> SweepView:
    """A checkpoint's sweep in the road world, in images of its own size."""
    loaded = load(checkpoint, device)
    skip, size = loaded.frame_skip, loaded.image_size
    assert size is not None, "a training takes it from its store"
    sweep = sweep_world(make_rollout_fn(loaded.model), size, loaded.context_frames, skip, horizon, world)
    return SweepView(sweep, HZ / skip, 1.0)


def of_drive(
    checkpoint: Path, adapter: str | None, data_root: Path, query: ClipQuery, device: torch.device
) -> SweepView:
    """Any model's sweep at a moment of a store."""
    store = Store.open(data_root)
    model = find_model(checkpoint, adapter, store, device)
    (clip,) = find_clips(store, query, model.context, model.frame_skip)
    sweep = sweep_drive(model.rollout_fn, store, clip, model.context)
    return SweepView(sweep, store.clip_hz(model.frame_skip), store.pixel_aspect)


def sweep_world(
    dream: RolloutFunction, image_size: tuple[int, int], context: int, frame_skip: int, horizon: int, world: int = 0
) -> SteeringSweep:
    """A moment at speed in the road world; `world` chooses another road. UserError for a size it isn't drawn in."""
    seeds = [FIRST_WORLD + world]
    (branches,) = road_branches(image_size, context, seeds, CHANGES, frame_skip=frame_skip, steps=horizon)
    rollout = rollout_branches(dream, branches)
    right = int((rollout.nearest().diagonal() == 1).sum())
    moment, count = f"road world {world}", len(STEERINGS)
    title = f"{moment}, steered five ways; {right} of {count} dreams end nearest to what their own wheel led to"
    futures = {"dream": rollout.predicted, "real": branches.real}
    steering = branches.actions[:, context - 1 :, 0]
    return SteeringSweep(moment, title, list(STEERINGS), branches.seen, steering, futures)


def sweep_drive(dream: RolloutFunction, store: Store, clip: Clip, context: int) -> SteeringSweep:
    """A moment of a recorded drive."""
    batch = read_clips(store, [clip])
    seen, real, recorded = batch.images[0, :context], batch.images[0, context:], batch.actions[0]
    command = recorded[context - 1].numpy()
    ways = torch.from_numpy(np.stack([change(command) for change in CHANGES]))
    past = recorded[: context - 1].expand(len(ways), -1, -1)
    actions = torch.cat([past, ways[:, None].expand(-1, len(real), -1)], dim=1)
    predicted = predict_branches(dream, seen, actions)
    moment = moment_name(store, clip, context)
    steering = torch.cat([recorded[None], actions])[:, context - 1 :, 0]
    futures = {"": torch.cat([real[None], predicted])}
    title = f"{moment}, predicted with five steerings"
    return SteeringSweep(moment, title, ["recorded", *STEERINGS], seen, steering, futures)


def sheet(sweep: SteeringSweep, hz: float, pixel_aspect: float = 1.0) -> Image:
    """Columns by the wheel; below it what comes at a few steps."""
    rows, labels = [_wheels(sweep, 1, pixel_aspect)], ["the wheel"]
    for t in shown_steps(sweep.steps, 4)[-3:]:
        for name, frames in sweep.futures.items():
            rows.append(widen(to_images(frames[:, t - 1]), pixel_aspect))
            labels.append(f"{name}  +{t}  {t / hz:.2f} s")
    return contact_sheet(rows, labels, sweep.names, title=sweep.title, height=tile_height(rows[0][0], 128))


def video(sweep: SteeringSweep, hz: float, pixel_aspect: float = 1.0) -> Iterator[Image]:
    """The same in time, after what was seen before the moment."""
    seen = widen(to_images(sweep.seen), pixel_aspect)
    for t in range(1 - len(seen), sweep.steps + 1):
        wheels = _wheels(sweep, max(t, 1), pixel_aspect)
        if t > 0:
            rows = [widen(to_images(frames[:, t - 1]), pixel_aspect) for frames in sweep.futures.values()]
        else:
            rows = [[seen[t + len(seen) - 1]] * len(sweep.names) for _ in sweep.futures]
        state = f"+{t}  {t / hz:.2f} s" if t > 0 else "as it was before"
        labels, title = ["the wheel", *sweep.futures], f"{sweep.moment}   {state}"
        yield contact_sheet([wheels, *rows], labels, sweep.names, title=title, height=tile_height(wheels[0], 128))


def _wheels(sweep: SteeringSweep, step: int, pixel_aspect: float) -> list[Image]:
    (like,) = widen(to_images(sweep.seen[-1:]), pixel_aspect)
    return [wheel(steering, like) for steering in sweep.steering[:, step - 1].tolist()]
