"""A small net that sees two images and says how the car moved between them (inverse dynamics)."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, mse_loss

from daydrive.evaluation.controllability.flow import Array, Greys

STEPS = 500
BATCH = 48
RATE = 3e-3
_SIDE = (48, 64)
"""Pictures are brought to (H, W): enough to see a shift, little enough to learn in seconds."""


class InverseDynamics(nn.Module):
    """Two grey images (B, 2, 48, 64) in [-1, 1] → `outputs` numbers (B, outputs), the first of which turns its sign
    when the images are mirrored."""

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
        out: Tensor = self.head(self.body(torch.cat((pairs, difference), dim=1)))
        return out


def train_inverse(pairs: Greys, targets: Array, seed: int, steps: int = STEPS) -> InverseDynamics:
    """Learns targets (N, outputs), of about unit size, from grey pairs (N, 2, H, W). The same for the same seed.

    Half of each batch is mirrored, with the first target's sign turned: no road bends one way only.
    """
    rng = np.random.default_rng(seed)
    images, values = _small(pairs), torch.from_numpy(targets.astype(np.float32))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = InverseDynamics(targets.shape[1])
    optimizer = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps, pct_start=0.1)
    with torch.enable_grad():
        for _ in range(steps):
            chosen = torch.from_numpy(rng.integers(0, len(images), min(BATCH, len(images))))
            seen, wanted = images[chosen].clone(), values[chosen].clone()
            half = len(chosen) // 2
            seen[:half] = seen[:half].flip(-1)
            wanted[:half, 0] *= -1.0
            seen = seen * (0.8 + 0.4 * torch.from_numpy(rng.random((len(chosen), 1, 1, 1), dtype=np.float32)))
            optimizer.zero_grad()
            mse_loss(net(seen), wanted).backward()
            optimizer.step()
            schedule.step()
    return net.eval()


@torch.no_grad()
def infer(net: InverseDynamics, pairs: Greys) -> Array:
    """(..., 2, H, W) → (..., outputs). The turn is read in the images and in their mirror images, and averaged."""
    lead = pairs.shape[:-3]
    found = []
    for part in torch.split(_small(pairs.reshape(-1, *pairs.shape[-3:])), 256):
        straight, mirrored = net(part), net(part.flip(-1))
        mirrored[:, 0] *= -1.0
        found.append((straight + mirrored) / 2)
    numbers: npt.NDArray[np.float64] = torch.cat(found).double().numpy()
    return numbers.reshape(*lead, -1)


def _small(pairs: Greys) -> Tensor:
    images = torch.from_numpy(np.ascontiguousarray(pairs)).float().div_(127.5).sub_(1.0)
    return interpolate(images, _SIDE, mode="bilinear", align_corners=False, antialias=True)
