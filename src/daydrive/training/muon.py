"""Muon: momentum, made orthogonal (Jordan et al. 2024), scaled to AdamW's step size (Liu et al. 2025).

torch.optim.Muon takes matrices only; here convolutions count as matrices (out, in · kh · kw), and all weights of one shape
are made orthogonal in one batched product.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

NEWTON_SCHULZ = (
    (4.0848, -6.8946, 2.9270),
    (3.9505, -6.3029, 2.6377),
    (3.7418, -5.5913, 2.3037),
    (2.8769, -3.1427, 1.2046),
    (2.8366, -3.0525, 1.2012),
)
"""Coefficients of five quintic iterations that bring singular values to about one (You 2024)."""

ADAMW_SCALE = 0.2
"""Root mean square of a usual AdamW update, so that both take the same learning rate and weight decay."""


def orthogonalise(matrices: Tensor) -> Tensor:
    """(N, rows, columns) → the same with singular values near one, in bfloat16, by Newton-Schulz iterations."""
    x = matrices.bfloat16()
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for a, b, c in NEWTON_SCHULZ:
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """For weights of two or more dimensions between a network's first and last layers; Nesterov momentum."""

    def __init__(self, params: Iterable[dict[str, Any]], lr: float, weight_decay: float, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        assert closure is None
        for group in self.param_groups:
            by_shape: dict[tuple[int, int], list[tuple[Tensor, Tensor]]] = {}
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if "momentum" not in state:
                    state["momentum"] = torch.zeros_like(parameter)
                state["momentum"].lerp_(parameter.grad, 1 - group["momentum"])
                update = parameter.grad.lerp(state["momentum"], group["momentum"])
                shape = (parameter.shape[0], parameter.numel() // parameter.shape[0])
                by_shape.setdefault(shape, []).append((parameter, update.reshape(shape)))
            for shape, pairs in by_shape.items():
                updates = orthogonalise(torch.stack([update for _, update in pairs]))
                size = group["lr"] * ADAMW_SCALE * max(shape) ** 0.5
                for (parameter, _), update in zip(pairs, updates, strict=True):
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    parameter.add_(update.reshape(parameter.shape).to(parameter.dtype), alpha=-size)
