"""A small inverse dynamics network that predicts the car's motion from two images."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, mse_loss

from daydrive.evaluation.controllability.flow import Array, GreyImages

STEPS = 500
BATCH = 48
LEARNING_RATE = 3e-3
_SIDE = (48, 64)
"""Input size (H, W): large enough to see a shift, small enough to train in seconds."""


class InverseDynamics(nn.Module):
    """Two grey images (B, 2, 48, 64) in [-1, 1] → (B, outputs). The first output changes its sign when the images are
    mirrored."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        widths = (3, 16, 24, 32, 48)
        layers: list[nn.Module] = []
        for k, (before, after) in enumerate(pairwise(widths)):
            layers += [nn.Conv2d(before, after, 5 if k == 0 else 3, stride=2, padding=2 if k == 0 else 1)]
            layers += [nn.GroupNorm(4, after), nn.SiLU()]
        self.body = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(48 * 3 * 4, 64), nn.SiLU(), nn.Linear(64, outputs))

    def forward(self, pairs: Tensor) -> Tensor:
        difference = (pairs[:, 1:] - pairs[:, :1]) * 2.0
        output: Tensor = self.head(self.body(torch.cat((pairs, difference), dim=1)))
        return output


def train_inverse(pairs: GreyImages, targets: Array, seed: int, steps: int = STEPS) -> InverseDynamics:
    """Trains the network on grey pairs uint8 (N, 2, H, W) and normalized targets (N, outputs); deterministic for a
    seed.

    Half of each batch is mirrored, with the sign of the first target inverted, so that left and right turns are
    balanced.
    """
    rng = np.random.default_rng(seed)
    images, values = _small(pairs), torch.from_numpy(targets.astype(np.float32))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = InverseDynamics(targets.shape[1])
    optimizer = torch.optim.AdamW(net.parameters(), lr=LEARNING_RATE, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps, pct_start=0.1)
    with torch.enable_grad():
        for _ in range(steps):
            chosen = torch.from_numpy(rng.integers(0, len(images), min(BATCH, len(images))))
            batch, target = images[chosen].clone(), values[chosen].clone()
            half = len(chosen) // 2
            batch[:half] = batch[:half].flip(-1)
            target[:half, 0] *= -1.0
            batch = batch * (0.8 + 0.4 * torch.from_numpy(rng.random((len(chosen), 1, 1, 1), dtype=np.float32)))
            optimizer.zero_grad()
            mse_loss(net(batch), target).backward()
            optimizer.step()
            schedule.step()
    return net.eval()


@torch.no_grad()
def infer(net: InverseDynamics, pairs: GreyImages) -> Array:
    """Grey pairs (..., 2, H, W) → (..., outputs), averaged over the images and their mirror images."""
    lead = pairs.shape[:-3]
    outputs = []
    for part in torch.split(_small(pairs.reshape(-1, *pairs.shape[-3:])), 256):
        straight, mirrored = net(part), net(part.flip(-1))
        mirrored[:, 0] *= -1.0
        outputs.append((straight + mirrored) / 2)
    values: npt.NDArray[np.float64] = torch.cat(outputs).double().numpy()
    return values.reshape(*lead, -1)


def _small(pairs: GreyImages) -> Tensor:
    images = torch.from_numpy(np.ascontiguousarray(pairs)).float().div_(127.5).sub_(1.0)
    return interpolate(images, _SIDE, mode="bilinear", align_corners=False, antialias=True)
