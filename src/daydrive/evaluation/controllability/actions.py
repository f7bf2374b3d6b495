"""The same clip driven otherwise: which actions a dream is given instead of the true ones."""

from __future__ import annotations

import torch
from torch import Tensor

VARIANTS = {
    "true": "as they were driven",
    "wrong": "those of another clip",
    "mirrored": "steering to the other side",
    "zeroed": "wheel straight, pedals free",
    "delayed": "one step late",
    "early": "one step early",
}


def variants(actions: Tensor, borrowed: Tensor, context: int) -> dict[str, Tensor]:
    """float32 (B, C-1+N, 4) by the names of `VARIANTS`; what lies between the `context` frames stays as it was.

    borrowed: actions of other clips, of the same shape. The early ones repeat the last action at the end.
    """
    first = context - 1
    ahead = actions[:, first:]
    before = actions[:, first - 1 : -1] if first else torch.cat((ahead[:, :1], ahead[:, :-1]), dim=1)
    free = ahead.clone()
    free[..., :3] = 0.0
    futures = {
        "true": ahead,
        "wrong": borrowed[:, first:],
        "mirrored": ahead * ahead.new_tensor([-1.0, 1.0, 1.0, 1.0]),
        "zeroed": free,
        "delayed": before,
        "early": torch.cat((ahead[:, 1:], ahead[:, -1:]), dim=1),
    }
    return {name: torch.cat((actions[:, :first], future), dim=1) for name, future in futures.items()}
