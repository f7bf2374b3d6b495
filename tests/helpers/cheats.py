"""Road drives whose simulator state is known at every frame, and rollout functions for them that obey or cheat."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

from daydrive.data.prepare.prepare import prepare
from daydrive.data.sampling.clips import read_images
from daydrive.data.sources.road import drive_seed
from daydrive.data.store.store import Store
from daydrive.envs.road import Driver, RoadEnv
from daydrive.evaluation.controllability import BranchSet, road_moments
from daydrive.evaluation.metrics.frame_metrics import RolloutFunction

PIXELS = 2.4
"""Shift of distant objects per step at full steering, in columns of an image of width 64."""

MOVING = 5
"""Steps after which a rollout freezes."""


class _Blind(RoadEnv):
    """Drives without rendering, to recover the states of a drive that is already rendered."""

    def observe(self) -> np.ndarray:
        return np.zeros((1, 1, 3), np.uint8)


class World:
    """A store of road drives, a few branch sets, and the simulator state at each of their frames."""

    def __init__(self, folder: Path, *, drives: int, frames: int, branches: int, context: int, seed: int = 0) -> None:
        self.context = context
        path = prepare(
            "road", None, folder / f"road{seed}", (64, 64), drives=drives, frames=frames, seed=seed, workers=1
        )
        self.store = Store.open(path)
        self.branches: list[BranchSet] = list(road_moments((64, 64), context, count=branches, seed=seed))
        self._env = RoadEnv((64, 64))
        self._driven: dict[bytes, Tensor] = {}
        self.images = torch.from_numpy(read_images(self.store, np.arange(self.store.rows))[0]).movedim(-1, 1)
        self._rows: dict[bytes, int] = {}
        self._states: dict[bytes, Any] = {}
        for drive in self.store.drives:
            rows = range(drive.start, drive.start + drive.frames)
            number = drive_seed(seed, int(drive.name.removeprefix("road_")))
            for row, state in zip(rows, _states(number, drive.frames), strict=True):
                self._rows[_key(self.images[row])] = row
                self._states[_key(self.images[row])] = state
        self._straight = {_key(each.seen[-1]): each.real[0] for each in self.branches}
        self._states |= {_key(each.seen[-1]): each.state for each in self.branches}

    def simulator(self, wheel: float = 1.0, late: int = 0) -> RolloutFunction:
        """The simulator itself, with the steering multiplied by `wheel` and the commands delayed by `late` steps."""

        def rollout(context: Tensor, actions: Tensor) -> Tensor:
            first = context.shape[1] - 1
            given = actions[:, first - late : actions.shape[1] - late] * actions.new_tensor([wheel, 1, 1, 1])
            return torch.stack([self._drive(seen[-1], ahead) for seen, ahead in zip(context, given, strict=True)])

        return rollout

    def gridded(self, context: Tensor, actions: Tensor) -> Tensor:
        """The simulator, blurred, with a sharp grid that makes up for the lost gradient."""
        frames = self.simulator()(context, actions)
        kernel = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
        levels = frames.float().flatten(0, 2)[:, None]
        for shape in ((5, 1), (1, 5)):
            sides = (shape[1] // 2,) * 2 + (shape[0] // 2,) * 2
            levels = conv2d(pad(levels, sides, mode="replicate"), kernel.view(1, 1, *shape))
        lines = torch.zeros(levels.shape[-2:])
        lines[::4] = lines[:, ::4] = 8.0
        return (levels[:, 0].view(frames.shape) + lines - lines.mean()).clamp(0, 255).round().to(torch.uint8)

    def frozen(self, context: Tensor, actions: Tensor) -> Tensor:
        """The simulator for `MOVING` steps, and its last sharp image from then on."""
        frames = self.simulator()(context, actions)
        frames[:, MOVING:] = frames[:, MOVING - 1 : MOVING]
        return frames

    def recorded(self, context: Tensor, actions: Tensor) -> Tensor:
        """The recorded future, independent of the actions."""
        steps = actions.shape[1] - context.shape[1] + 1
        return torch.stack([self._future(seen[-1], steps) for seen in context])

    def replayed(self, context: Tensor, actions: Tensor) -> Tensor:
        """The training drive from the frame on that is most similar to the last context frame."""
        steps = actions.shape[1] - context.shape[1] + 1
        spans = [(d.start, d.start + d.frames - steps) for d in self.store.split("train")]
        rows = torch.cat([torch.arange(low, high) for low, high in spans])
        trained = self.images[rows].flatten(1).float()
        found = [int(rows[(trained - seen[-1].flatten().float()).square().sum(1).argmin()]) for seen in context]
        return torch.stack([self.images[row + 1 : row + 1 + steps] for row in found])

    def _drive(self, image: Tensor, actions: Tensor) -> Tensor:
        name = _key(image) + actions.contiguous().numpy().tobytes()
        if name not in self._driven:
            self._env.set_state(self._states[_key(image)])
            frames = np.stack([self._env.step(action)[0] for action in actions.numpy()])
            self._driven[name] = torch.from_numpy(frames).movedim(-1, 1).contiguous()
        return self._driven[name]

    def _future(self, image: Tensor, steps: int) -> Tensor:
        if _key(image) in self._straight:
            return self._straight[_key(image)]
        row = self._rows[_key(image)]
        return self.images[row + 1 : row + 1 + steps]


def turned(context: Tensor, actions: Tensor) -> Tensor:
    """The last context frame, shifted by the steering: a turn on the spot without approach."""
    first, width = context.shape[1] - 1, context.shape[-1]
    shifts = (actions[:, first:, 0].cumsum(1) * PIXELS * width / 64).round().long()
    columns = (torch.arange(width) + shifts[..., None]).clamp(0, width - 1)
    return torch.stack(
        [torch.stack([seen[-1][..., indices] for indices in clip]) for seen, clip in zip(context, columns, strict=True)]
    )


def _states(seed: int, frames: int) -> list[Any]:
    env, driver = _Blind((64, 64)), Driver(seed)
    _, info = env.reset(seed=seed)
    found = []
    for _ in range(frames):
        found.append(env.get_state())
        info = env.step(driver.act(info))[-1]
    return found


def _key(image: Tensor) -> bytes:
    return image.contiguous().numpy().tobytes()
