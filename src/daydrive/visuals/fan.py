"""One moment, five steerings: what the dream makes of each, and in the road world what really would have come."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from daydrive.checkpoint import load
from daydrive.data.sampling.clips import read_clips
from daydrive.data.store.store import Store
from daydrive.envs.road import Driver, RoadEnv
from daydrive.envs.road.env import HZ
from daydrive.evaluation.card import forks
from daydrive.evaluation.horizon import UINT8_RANGE, Dream
from daydrive.evaluation.subject import bind, find_subject
from daydrive.metrics import psnr
from daydrive.pictures import contact_sheet, to_images, widen
from daydrive.types import Clip, Image
from daydrive.visuals.clips import Wish, find_clips, moment_name, shown_steps
from daydrive.visuals.paint import tile_height, wheel

STEERINGS = {"hard left": -1.0, "left": -0.5, "straight": 0.0, "right": 0.5, "hard right": 1.0}
"""Of full lock, held all the way; the pedals and the gear stay as they were at the moment."""

FIRST_WORLD = 3_000_003
"""Seed of world 0: training data is made from small seeds."""


class Fan(NamedTuple):
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


class Seen(NamedTuple):
    """A fan with the rate of its steps in Hz and the width / height of its pixels."""

    fan: Fan
    hz: float
    pixel_aspect: float


def of_world(checkpoint: Path, world: int, horizon: int, device: torch.device) -> Seen:
    """A checkpoint's fan in the road world, in pictures of its own size."""
    loaded = load(checkpoint, device)
    config = loaded.config
    skip = config.data.frame_skip
    fan = world_fan(bind(loaded.model), loaded.model.image_size, config.training.context_frames, skip, horizon, world)
    return Seen(fan, HZ / skip, 1.0)


def of_drive(checkpoint: Path, adapter: str | None, data_root: Path, wish: Wish, device: torch.device) -> Seen:
    """Any model's fan at a moment of a store."""
    store = Store.open(data_root)
    subject = find_subject(checkpoint, adapter, store, device)
    (clip,) = find_clips(store, wish, subject.context, subject.frame_skip)
    fan = drive_fan(subject.dream, store, clip, subject.context)
    return Seen(fan, store.clip_hz(subject.frame_skip), store.pixel_aspect)


def steered(command: npt.NDArray[Any]) -> list[npt.NDArray[np.float32]]:
    """The driver's command with each of the `STEERINGS`."""
    return [np.array([steering, *command[1:]], dtype=np.float32) for steering in STEERINGS.values()]


def world_fan(
    dream: Dream, image_size: tuple[int, int], context: int, frame_skip: int, horizon: int, world: int = 0
) -> Fan:
    """A moment at speed in the road world; `world` chooses another road. UserError for a size it isn't drawn in."""
    env = RoadEnv(image_size)
    try:
        (fork,) = forks(
            env, lambda seed: Driver(seed).act, [FIRST_WORLD + world], context, frame_skip, steered, horizon
        )
    finally:
        env.close()
    dreamt = dream(fork.seen.expand(len(STEERINGS), *fork.seen.shape).contiguous(), fork.actions)
    moment, right = f"road world {world}", told_apart(dreamt, fork.real)
    title = f"{moment}, steered five ways; {right} of {len(dreamt)} dreams end nearest to what their own wheel led to"
    futures = {"dream": dreamt, "real": fork.real}
    return Fan(moment, title, list(STEERINGS), fork.seen, fork.actions[:, context - 1 :, 0], futures)


def drive_fan(dream: Dream, store: Store, clip: Clip, context: int) -> Fan:
    """A moment of a recorded drive."""
    batch = read_clips(store, [clip])
    seen, real, recorded = batch.images[0, :context], batch.images[0, context:], batch.actions[0]
    ways = torch.from_numpy(np.stack(steered(recorded[context - 1].numpy())))
    past = recorded[: context - 1].expand(len(ways), -1, -1)
    actions = torch.cat([past, ways[:, None].expand(-1, len(real), -1)], dim=1)
    dreamt = dream(seen.expand(len(ways), *seen.shape).contiguous(), actions)
    moment = moment_name(store, clip, context)
    steering = torch.cat([recorded[None], actions])[:, context - 1 :, 0]
    futures = {"": torch.cat([real[None], dreamt])}
    return Fan(moment, f"{moment}, dreamt with five steerings", ["recorded", *STEERINGS], seen, steering, futures)


def told_apart(dreamt: Tensor, real: Tensor) -> int:
    """How many of the dreams (K, N, 3, H, W) lie, at the last step, nearest to the real future of their own steering
    and of no other."""
    shape = (len(dreamt), *real[:, -1].shape)
    every = psnr(dreamt[:, -1, None].expand(shape), real[None, :, -1].expand(shape), UINT8_RANGE)
    best = every == every.amax(1, keepdim=True)
    return int((best.diagonal() & (best.sum(1) == 1)).sum())


def sheet(fan: Fan, hz: float, pixel_aspect: float = 1.0) -> Image:
    """Columns by the wheel; below it what comes at a few steps."""
    rows, labels = [_wheels(fan, 1, pixel_aspect)], ["the wheel"]
    for t in shown_steps(fan.steps, 4)[-3:]:
        for name, frames in fan.futures.items():
            rows.append(widen(to_images(frames[:, t - 1]), pixel_aspect))
            labels.append(f"{name}  +{t}  {t / hz:.2f} s")
    return contact_sheet(rows, labels, fan.names, title=fan.title, height=tile_height(rows[0][0], 128))


def film(fan: Fan, hz: float, pixel_aspect: float = 1.0) -> Iterator[Image]:
    """The same in time, after what was seen before the moment."""
    seen = widen(to_images(fan.seen), pixel_aspect)
    for t in range(1 - len(seen), fan.steps + 1):
        wheels = _wheels(fan, max(t, 1), pixel_aspect)
        if t > 0:
            rows = [widen(to_images(frames[:, t - 1]), pixel_aspect) for frames in fan.futures.values()]
        else:
            rows = [[seen[t + len(seen) - 1]] * len(fan.names) for _ in fan.futures]
        state = f"+{t}  {t / hz:.2f} s" if t > 0 else "as it was before"
        labels, title = ["the wheel", *fan.futures], f"{fan.moment}   {state}"
        yield contact_sheet([wheels, *rows], labels, fan.names, title=title, height=tile_height(wheels[0], 128))


def _wheels(fan: Fan, step: int, pixel_aspect: float) -> list[Image]:
    (like,) = widen(to_images(fan.seen[-1:]), pixel_aspect)
    return [wheel(steering, like) for steering in fan.steering[:, step - 1].tolist()]
