"""Drivers in the predictions of a model: each decides on the images that its own actions led to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from daydrive.decisions.closed_loop import Driver, Observation, Task
from daydrive.envs.world_model.readout import FRAMES, Readout
from daydrive.envs.world_model.rollouts import Rollouts
from daydrive.errors import UserError
from daydrive.models import Predictor

CHEAT_STEERING, CHEAT_SECONDS = 0.15, 0.5
"""Standard deviation and correlation time of the actions of `IgnoresActions`."""


@torch.no_grad()
def drive_in_model(
    make_driver: Callable[[], Driver],
    model: Predictor,
    readout: Readout,
    starts: Sequence[Observation],
    tasks: Sequence[Task],
    steps: int,
    bfloat16: bool = False,
) -> npt.NDArray[np.float64]:
    """The lane offset (m) that is read from the frames after each step, (starts, steps).

    starts: with at least as many frames as the driver and the model need. Every start has its own driver; all of them
    are predicted in one batch. Drivers get no `info` and no `state`.
    """
    drivers = [make_driver() for _ in starts]
    frames = drivers[0].frames
    if not 1 <= frames <= len(starts[0].images):
        raise UserError(f"a driver that is ranked sees 1 to {len(starts[0].images)} images, not {frames}")
    rollouts = Rollouts(model, len(starts))
    images, actions = torch.stack([s.images for s in starts]), torch.stack([s.actions for s in starts])
    context, each = model.context_frames, range(len(starts))
    offsets = np.empty((len(starts), steps))
    with torch.autocast(rollouts.device.type, torch.bfloat16, enabled=bfloat16):
        rollouts.start(
            each, images[:, -context:], actions[:, actions.shape[1] - context + 1 :], [task.seed for task in tasks]
        )
    for driver, task in zip(drivers, tasks, strict=True):
        driver.reset(task)
    for step in range(steps):
        seen = [Observation(images[k, -frames:], actions[k, actions.shape[1] - frames + 1 :], {}, {}) for k in each]
        chosen = torch.from_numpy(np.stack([d.act(o) for d, o in zip(drivers, seen, strict=True)]))
        with torch.autocast(rollouts.device.type, torch.bfloat16, enabled=bfloat16):
            frame = rollouts.step(chosen.to(rollouts.device)).cpu()
        images = torch.cat([images[:, 1:], frame[:, None]], dim=1)
        actions = torch.cat([actions[:, 1:], chosen[:, None]], dim=1)
        offsets[:, step] = readout(images[:, -FRAMES:].to(rollouts.device))["lane_offset"].cpu().numpy()
    return offsets


class IgnoresActions(nn.Module):
    """A model that ignores the actions it is given and draws its own: a planted cheat, which must not order drivers."""

    def __init__(self, model: nn.Module, hz: float, seed: int) -> None:
        super().__init__()
        self.model, self.context_frames = model, int(model.context_frames)  # type: ignore[arg-type]
        self._retained = float(np.exp(-1 / (CHEAT_SECONDS * hz)))
        self._random = torch.Generator().manual_seed(seed)

    def init_state(
        self, images: Tensor, actions: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Any, Tensor]:
        """The model's state, and the steering drawn last, (B,)."""
        state = self.model.init_state(images, actions, generator)  # type: ignore[operator]
        return state, torch.zeros(len(images), device=images.device)

    def step(
        self, state: tuple[Any, Tensor], action: Tensor, generator: torch.Generator | None = None
    ) -> tuple[tuple[Any, Tensor], Tensor]:
        inner, steering = state
        new = torch.randn(len(steering), generator=self._random).to(steering.device)
        scale = CHEAT_STEERING * (1 - self._retained**2) ** 0.5
        steering = self._retained * steering + scale * new
        own = action.clone()
        own[:, 0] = steering
        inner, frame = self.model.step(inner, own, generator)  # type: ignore[operator]
        return (inner, steering), frame
