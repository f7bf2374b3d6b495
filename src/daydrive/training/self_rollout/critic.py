"""The critic: is a short window of frames real, given where in the image it looks and what the driver did?

A window is three consecutive frames (N, 3, 3, H, W) in [-1, 1] with the two actions (N, 2, action_dim) between them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WINDOW = 3
"""Frames of a window: positions, velocities and accelerations."""

GRID = 32
"""Shorter side of the finest feature maps."""

WIDTHS = (32, 64, 96)
SHIFTS = [(0, x) for x in range(-4, 5)] + [(y, 0) for y in (-1, 1, 2, 3)]
"""Rows and columns by which consecutive frames are shifted against each other, in pixels of the grid."""

MISMATCH_SCALE = 4.0
STEERING_SCALE = 4.0
"""Steering is mostly small; scaled, it has about the spread of the pedals."""

Features = Callable[[Tensor], Sequence[Tensor]]
"""Feature maps (N, C, h, w) of windows."""


class Critic(nn.Module):
    """Logits at several scales, higher for real windows, from pixels and from features of the model that is trained.

    Position embeddings tell sky from road.
    """

    def __init__(self, image_size: tuple[int, int], features: nn.Module | None) -> None:
        """features: maps windows to feature maps, see `Features`; it is copied and frozen. None: pixels only."""
        super().__init__()
        self.pixels = WindowNetwork(image_size)
        self.fine, self.coarse = nn.Conv2d(WIDTHS[1], 1, 1), nn.Conv2d(WIDTHS[2], 1, 1)
        self.features = None if features is None else copy.deepcopy(features).eval().requires_grad_(False)
        self.heads = nn.ModuleList()
        if self.features is not None:
            with torch.no_grad():
                device = next(self.features.parameters()).device
                maps = self.features(torch.zeros(1, WINDOW, 3, *image_size, device=device))
            self.heads = nn.ModuleList(FeatureHead(m.shape[1], (m.shape[2], m.shape[3])) for m in maps)

    def trained_parameters(self) -> list[nn.Parameter]:
        return [parameter for name, parameter in self.named_parameters() if not name.startswith("features.")]

    def forward(self, windows: Tensor, actions: Tensor) -> list[Tensor]:
        """Logits (N, K), one tensor per scale."""
        command = commands(actions)
        fine, coarse = self.pixels(windows, command)
        logits = [self.fine(fine).flatten(1), self.coarse(coarse).flatten(1)]
        if self.features is not None:
            logits += [head(m, command) for head, m in zip(self.heads, self.features(windows), strict=True)]
        return logits


class ActionReader(nn.Module):
    """Reads the driver's commands from a window (inverse dynamics), from how well each frame matches the previous one,
    shifted."""

    def __init__(self, image_size: tuple[int, int]) -> None:
        super().__init__()
        self.shrink = max(1, min(image_size) // GRID)
        fine = [-(-side // self.shrink // 2) for side in image_size]
        coarse = [-(-side // 2) for side in fine]
        self.in_proj = nn.Conv2d((WINDOW - 1) * len(SHIFTS), WIDTHS[0], 3, stride=2, padding=1)
        self.position = nn.Parameter(torch.zeros(WIDTHS[0], *fine))
        self.mix = nn.Conv2d(WIDTHS[0], WIDTHS[1], 3, stride=2, padding=1)
        self.out_proj = nn.Linear(WIDTHS[1] * coarse[0] * coarse[1], 4)

    def forward(self, windows: Tensor) -> Tensor:
        """(N, 4), an estimate of `commands`."""
        grey = F.avg_pool2d(windows.mean(2), self.shrink)
        matches = torch.cat([_mismatch(grey[:, t - 1], grey[:, t]) for t in range(WINDOW - 1, 0, -1)], dim=1)
        x = F.leaky_relu(self.in_proj(MISMATCH_SCALE * matches) + self.position, 0.2)
        read: Tensor = self.out_proj(F.leaky_relu(self.mix(x), 0.2).flatten(1))
        return read


class WindowNetwork(nn.Module):
    """Convolutions over the newest frame and its differences to the earlier ones. grids: sizes of the two outputs."""

    def __init__(self, image_size: tuple[int, int]) -> None:
        super().__init__()
        self.shrink = max(1, min(image_size) // GRID)
        height, width = (side // self.shrink for side in image_size)
        self.grids = ((height // 2, width // 2), (height // 4, width // 4))
        self.in_proj = nn.Conv2d(3 * WINDOW * self.shrink**2 + 2, WIDTHS[0], 3, padding=1)
        self.down_fine = nn.Conv2d(WIDTHS[0], WIDTHS[1], 4, stride=2, padding=1)
        self.mix_fine = nn.Conv2d(WIDTHS[1], WIDTHS[1], 3, padding=1)
        self.down_coarse = nn.Conv2d(WIDTHS[1], WIDTHS[2], 4, stride=2, padding=1)
        self.mix_coarse = nn.Conv2d(WIDTHS[2], WIDTHS[2], 3, padding=1)
        self.pos_fine = nn.Parameter(torch.zeros(WIDTHS[1], *self.grids[0]))
        self.pos_coarse = nn.Parameter(torch.zeros(WIDTHS[2], *self.grids[1]))
        self.embed = nn.ModuleList(nn.Linear(4, width) for width in (WIDTHS[0], WIDTHS[2]))
        y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
        self.register_buffer("position", torch.stack([y, x]), persistent=False)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, windows: Tensor, command: Tensor) -> tuple[Tensor, Tensor]:
        """Features of (N, 3, 3, H, W) at both scales. command: (N, 4), of `commands`."""
        newest, change, before = windows[:, 2], windows[:, 2] - windows[:, 1], windows[:, 1] - windows[:, 0]
        x = F.pixel_unshuffle(torch.cat([newest, 2 * change, 2 * before], dim=1), self.shrink)
        position: Tensor = self.position  # type: ignore[assignment]
        x = torch.cat([x, position.expand(len(x), -1, -1, -1)], dim=1).contiguous(memory_format=torch.channels_last)
        x = self.in_proj(x) + self.embed[0](command)[:, :, None, None]
        x = F.leaky_relu(self.down_fine(F.leaky_relu(x, 0.2)) + self.pos_fine, 0.2)
        fine = x + F.leaky_relu(self.mix_fine(x), 0.2)
        y = self.down_coarse(fine) + self.pos_coarse + self.embed[1](command)[:, :, None, None]
        y = F.leaky_relu(y, 0.2)
        return fine, y + F.leaky_relu(self.mix_coarse(y), 0.2)


class FeatureHead(nn.Module):
    """Logits from one feature map."""

    def __init__(self, channels: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, channels, affine=False)
        self.in_proj = nn.Conv2d(channels, WIDTHS[1], 1)
        self.embed = nn.Linear(4, WIDTHS[1])
        self.position = nn.Parameter(torch.zeros(WIDTHS[1], *grid))
        self.mix = nn.Conv2d(WIDTHS[1], WIDTHS[1], 3, padding=1)
        self.out_proj = nn.Conv2d(WIDTHS[1], 1, 1)

    def forward(self, features: Tensor, command: Tensor) -> Tensor:
        x = self.in_proj(self.norm(features)) + self.position + self.embed(command)[:, :, None, None]
        logits: Tensor = self.out_proj(F.leaky_relu(self.mix(F.leaky_relu(x, 0.2)), 0.2))
        return logits.flatten(1)


def _mismatch(before: Tensor, after: Tensor) -> Tensor:
    """Absolute differences of grey images (N, H, W) at each of the shifts, (N, len(SHIFTS), H, W)."""
    reach, (height, width) = max(map(max, SHIFTS)), before.shape[-2:]
    padded = F.pad(before, (reach,) * 4, mode="replicate")
    shifted = [padded[:, reach - y :, reach - x :][:, :height, :width] for y, x in SHIFTS]
    return (torch.stack(shifted, dim=1) - after[:, None]).abs()


def commands(actions: Tensor) -> Tensor:
    """Actions (N, 2, 4) of a window → (N, 4): steering and throttle minus brake, of the newer action before the
    older, scaled to a similar spread."""
    steering, pedals = STEERING_SCALE * actions[..., 0], actions[..., 1] - actions[..., 2]
    return torch.stack([steering[:, 1], pedals[:, 1], steering[:, 0], pedals[:, 0]], dim=1)


def mismatched(actions: Tensor) -> Tensor:
    """The actions (N, 2, 4) in another order: strong left goes to strong right, and so on."""
    order = actions[:, 1, 0].argsort()
    wrong = actions.clone()
    wrong[order] = actions[order.flip(0)]
    return wrong
