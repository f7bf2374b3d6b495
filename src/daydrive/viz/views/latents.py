"""What the model holds of a moment: the encoder's latents of real and of predicted frames, and the dynamics' memory.

A latent has many channels; shown are the three principal components of the real frames' latents over the clip, and
those of the predicted frames are laid out along the same ones: equal shades mean that the encoder sees the same. Of the
memory there is the first component of its last layer, along an axis of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from daydrive.errors import UserError
from daydrive.models import HasLatents
from daydrive.models.rollout import device_of, rollout_states
from daydrive.types import Image, to_signed, to_uint8
from daydrive.viz.colormaps import VALUES, blocks, coloured, scale, stacked, tile_height
from daydrive.viz.images import Images, contact_sheet, enlarge, to_images, widen
from daydrive.viz.views.clips import Inside, shown_steps, step_names

COMPONENTS = 3

Maps = npt.NDArray[np.float32]
"""(N, K, h, w): by step and component, over the latent grid, in units of the component's spread."""


class Latents(NamedTuple):
    """N steps. real, predicted: uint8 (N, H, W, 3). of_real, of_dream: their latents along three axes; memory: along
    one. explained: the share of the variance that each of these four has of its own."""

    real: Images
    predicted: Images
    of_real: Maps
    of_dream: Maps
    memory: Maps
    explained: list[float]


class Axes(NamedTuple):
    """mean: (D,); axes: (K, D), each as long as its spread; explained: (K,), shares of the variance."""

    mean: Tensor
    axes: Tensor
    explained: list[float]

    def along(self, features: Tensor) -> Maps:
        """(N, D, h, w) → (N, K, h, w), in spreads."""
        lengths = self.axes.square().sum(1).clamp(min=1e-12)
        found = (features.movedim(1, -1) - self.mean) @ (self.axes / lengths[:, None]).T
        return np.asarray(found.movedim(-1, 1).numpy(), dtype=np.float32)


def latents(inside: Inside) -> Latents:
    """The clip predicted, and what the model held at every step."""
    model, seen, real, actions = inside.model, inside.seen, inside.real, inside.actions
    if not isinstance(model, HasLatents):
        raise UserError(f"{inside.kind} has no grid of latents to show; rollout, fan, error and sheet are of any model")
    device = device_of(model)
    context = to_signed(seen[None].to(device))
    steps = list(rollout_states(model, context, actions[None].to(device)))
    predicted = torch.stack([frame for _, frame in steps], dim=1)
    with torch.no_grad():
        of_real, of_dream = (
            model.encode(torch.cat([context, frames], dim=1))[0, len(seen) :].float().cpu()
            for frames in (to_signed(real[None].to(device)), predicted)
        )
    memory = torch.stack([model.memory_grid(state)[0].float().cpu() for state, _ in steps])
    space, own = principal(of_real, COMPONENTS), principal(memory, 1)
    return Latents(
        to_images(real), to_images(to_uint8(predicted[0])),
        space.along(of_real), space.along(of_dream), own.along(memory), space.explained + own.explained,
    )  # fmt: skip


def principal(features: Tensor, count: int) -> Axes:
    """Of (N, D, h, w); the largest entry of an axis is positive. With fewer channels than `count` the rest is zero."""
    places = features.movedim(1, -1).flatten(0, -2).double()
    mean = places.mean(0)
    values, vectors = torch.linalg.eigh((places - mean).T @ (places - mean) / len(places))
    values, axes = values.clamp(min=0).flip(0), vectors.T.flip(0)
    axes = axes * axes.gather(1, axes.abs().argmax(1, keepdim=True)).sign() * values.sqrt()[:, None]
    shares = values / values.sum().clamp(min=1e-30)
    missing = max(0, count - len(axes))
    axes, shares = torch.cat([axes, axes.new_zeros(missing, len(mean))]), torch.cat([shares, shares.new_zeros(missing)])
    return Axes(mean.float(), axes[:count].float(), shares[:count].tolist())


def sheet(shown: Latents, name: str, hz: float, pixel_aspect: float = 1.0) -> Image:
    """A pair of rows each for the images and the components, columns are steps."""
    steps = shown_steps(len(shown.real))
    height = tile_height(widen(shown.real[:1], pixel_aspect)[0], 88)
    columns = [_tiles(shown, t - 1, pixel_aspect, height) for t in steps]
    rows = [[column[label] for column in columns] for label in columns[0]]
    title = f"{name}: what the encoder makes of real and of predicted frames"
    drawn = contact_sheet(rows, list(columns[0]), step_names(steps, hz), title=title, height=height, group=2)
    return stacked([drawn, _legend()])


def video(shown: Latents, name: str, hz: float, pixel_aspect: float = 1.0) -> Iterator[Image]:
    """The same step by step, real above predicted."""
    height = tile_height(widen(shown.real[:1], pixel_aspect)[0], 144)
    *shares, of_memory = shown.explained
    heads = ["image", *(f"{i + 1} ({share:.0%})" for i, share in enumerate(shares)), f"memory ({of_memory:.0%})"]
    legend = _legend()
    for t in range(len(shown.real)):
        *tiles, memory = _tiles(shown, t, pixel_aspect, height).values()
        title = f"{name}  +{t + 1}  {(t + 1) / hz:.2f} s"
        rows = [tiles[::2], [*tiles[1::2], memory]]
        yield stacked([contact_sheet(rows, ["real", "predicted"], heads, title=title, height=height), legend])


def _tiles(shown: Latents, t: int, pixel_aspect: float, height: int) -> dict[str, Image]:
    """By what they show: real and predicted in turn, then the memory."""
    real, dream = (enlarge(widen(x[t : t + 1], pixel_aspect)[0], height) for x in (shown.real, shown.predicted))
    tiles = {"real": real, "dream": dream}
    for i, share in enumerate(shown.explained[:-1]):
        for what, maps in (("real", shown.of_real), ("dream", shown.of_dream)):
            tiles[f"component {i + 1} ({share:.0%}), {what}"] = blocks(coloured(maps[t, i], -2, 2, VALUES), real)
    tiles[f"memory ({shown.explained[-1]:.0%})"] = blocks(coloured(shown.memory[t, 0], -2, 2, VALUES), real)
    return tiles


def _legend() -> Image:
    return scale(VALUES, "−2", "+2", "spreads along a principal component (with its share of the variance)")
