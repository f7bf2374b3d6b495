"""The encoder's latents of real and of predicted frames, and the recurrent state of the dynamics.

Latents are projected onto the three principal components of the real frames' latents over the clip; latents of the
predicted frames use the same axes, so equal shades mean equal latents. The recurrent state is shown by the first
principal component of its last layer.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from daydrive.models import HasLatents
from daydrive.types import Image, to_uint8
from daydrive.viz.colormaps import VALUES, apply_colormap, colour_scale, resize_nearest, stack_vertically, tile_height
from daydrive.viz.images import Images, contact_sheet, enlarge, to_images, widen
from daydrive.viz.views.clips import ModelClip, shown_steps, step_names

COMPONENTS = 3

Maps = npt.NDArray[np.float32]
"""(N, K, h, w): by step and component, over the latent grid, in standard deviations of the component."""


class Latents(NamedTuple):
    """N steps. real, predicted: uint8 (N, H, W, 3). of_real, of_predicted: their latents along three principal axes;
    memory: the recurrent state along one. explained: fraction of the variance along each of these four axes."""

    real: Images
    predicted: Images
    of_real: Maps
    of_predicted: Maps
    memory: Maps
    explained: list[float]


class Axes(NamedTuple):
    """Principal axes. mean: (D,); axes: (K, D), each scaled by its standard deviation; explained: (K,) fractions of the
    variance."""

    mean: Tensor
    axes: Tensor
    explained: list[float]

    def along(self, features: Tensor) -> Maps:
        """(N, D, h, w) → (N, K, h, w), in standard deviations."""
        lengths = self.axes.square().sum(1).clamp(min=1e-12)
        found = (features.movedim(1, -1) - self.mean) @ (self.axes / lengths[:, None]).T
        return np.asarray(found.movedim(-1, 1).numpy(), dtype=np.float32)


def latents(model_clip: ModelClip) -> Latents:
    """Predict the clip and collect latents and recurrent state at every step.

    Raises UserError for a model without a grid of latents.
    """
    model, seen, real = model_clip.model, model_clip.seen, model_clip.real
    if not isinstance(model, HasLatents):
        raise model_clip.cannot_show("no grid of latents to show")
    steps = list(model_clip.predicted_states())
    predicted = torch.stack([frame for _, frame in steps], dim=1)
    context = model_clip.signed(seen)
    with torch.no_grad():
        of_real, of_predicted = (
            model.encode(torch.cat([context, frames], dim=1))[0, len(seen) :].float().cpu()
            for frames in (model_clip.signed(real), predicted)
        )
    memory = torch.stack([model.memory_grid(state)[0].float().cpu() for state, _ in steps])
    latent_axes, memory_axis = principal_axes(of_real, COMPONENTS), principal_axes(memory, 1)
    return Latents(
        to_images(real), to_images(to_uint8(predicted[0])),
        latent_axes.along(of_real), latent_axes.along(of_predicted), memory_axis.along(memory),
        latent_axes.explained + memory_axis.explained,
    )  # fmt: skip


def principal_axes(features: Tensor, count: int) -> Axes:
    """Principal axes of (N, D, h, w), signed so that the largest entry is positive; zero-padded if D < count."""
    samples = features.movedim(1, -1).flatten(0, -2).double()
    mean = samples.mean(0)
    values, vectors = torch.linalg.eigh((samples - mean).T @ (samples - mean) / len(samples))
    values, axes = values.clamp(min=0).flip(0), vectors.T.flip(0)
    axes = axes * axes.gather(1, axes.abs().argmax(1, keepdim=True)).sign() * values.sqrt()[:, None]
    shares = values / values.sum().clamp(min=1e-30)
    missing = max(0, count - len(axes))
    axes, shares = torch.cat([axes, axes.new_zeros(missing, len(mean))]), torch.cat([shares, shares.new_zeros(missing)])
    return Axes(mean.float(), axes[:count].float(), shares[:count].tolist())


def sheet(shown: Latents, name: str, hz: float, pixel_aspect: float = 1.0) -> Image:
    """Two rows (real, predicted) for the images and for each component; columns are steps."""
    steps = shown_steps(len(shown.real))
    height = tile_height(widen(shown.real[:1], pixel_aspect)[0], 88)
    columns = [_tiles(shown, t - 1, pixel_aspect, height) for t in steps]
    rows = [[column[label] for column in columns] for label in columns[0]]
    title = f"{name}: latents of real and of predicted frames"
    drawn = contact_sheet(rows, list(columns[0]), step_names(steps, hz), title=title, height=height, group=2)
    return stack_vertically([drawn, _legend()])


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
        yield stack_vertically([contact_sheet(rows, ["real", "predicted"], heads, title=title, height=height), legend])


def _tiles(shown: Latents, t: int, pixel_aspect: float, height: int) -> dict[str, Image]:
    """Tiles by label: real and predicted in turn, then the recurrent state."""
    real, predicted = (enlarge(widen(x[t : t + 1], pixel_aspect)[0], height) for x in (shown.real, shown.predicted))
    tiles = {"real": real, "predicted": predicted}
    for i, share in enumerate(shown.explained[:-1]):
        for what, maps in (("real", shown.of_real), ("predicted", shown.of_predicted)):
            tiles[f"component {i + 1} ({share:.0%}), {what}"] = resize_nearest(
                apply_colormap(maps[t, i], -2, 2, VALUES), real
            )
    tiles[f"memory ({shown.explained[-1]:.0%})"] = resize_nearest(
        apply_colormap(shown.memory[t, 0], -2, 2, VALUES), real
    )
    return tiles


def _legend() -> Image:
    return colour_scale(VALUES, "−2", "+2", "standard deviations along a principal component (% of the variance)")
