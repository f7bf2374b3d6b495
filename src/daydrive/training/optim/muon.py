"""Muon: orthogonalized momentum (Jordan et al. 2024), scaled to AdamW's step size (Liu et al. 2025).

torch.optim.Muon takes matrices only. Here convolutions are treated as matrices (out, in · kh · kw), and all weights
of one shape are orthogonalized in one batched product.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from daydrive.devices import has_bfloat16
from daydrive.tensors import is_dtensor

NEWTON_SCHULZ = (
    (4.0848, -6.8946, 2.9270),
    (3.9505, -6.3029, 2.6377),
    (3.7418, -5.5913, 2.3037),
    (2.8769, -3.1427, 1.2046),
    (2.8366, -3.0525, 1.2012),
)
"""Coefficients of five quintic iterations that bring singular values close to one (You 2024)."""

ADAMW_SCALE = 0.2
"""Root mean square of a typical AdamW update, so that both use the same learning rate and weight decay."""


def orthogonalize(matrices: Tensor) -> Tensor:
    """(N, rows, columns) → the same matrices with singular values close to one, by Newton-Schulz iterations.

    Wide matrices iterate on their small Gram matrix, in float32 because it squares the condition number, and are
    multiplied once at the end. Others iterate directly, in bfloat16 where the device supports it.
    """
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    x = (
        _iterate_on_gram(x)
        if x.shape[-1] >= 2 * x.shape[-2]
        else _iterate_directly(x.bfloat16() if has_bfloat16(x.device) else x)
    )
    return x.mT if tall else x


def _iterate_directly(x: Tensor) -> Tensor:
    for a, b, c in NEWTON_SCHULZ:
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x


def _iterate_on_gram(x: Tensor) -> Tensor:
    gram = x @ x.mT
    one = torch.eye(gram.shape[-1], dtype=x.dtype, device=x.device)
    product = one.expand_as(gram)
    for a, b, c in NEWTON_SCHULZ:
        factor = torch.baddbmm(b * gram, gram, gram, alpha=c) + a * one
        product = factor @ product
        gram = factor @ gram @ factor
    return product @ x


class Muon(torch.optim.Optimizer):
    """Optimizer for weights of two or more dimensions, except those of a network's first and last layers; Nesterov
    momentum."""

    def __init__(
        self, params: Iterable[dict[str, Any]], lr: float, weight_decay: float, momentum: float = 0.95
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        assert closure is None
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            gradients = [p.grad for p in parameters]
            for p in parameters:
                if "momentum" not in self.state[p]:
                    self.state[p]["momentum"] = torch.zeros_like(p)
            momenta = [self.state[p]["momentum"] for p in parameters]
            torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
            updates = torch._foreach_lerp(gradients, momenta, group["momentum"])
            by_shape: dict[tuple[int, int], list[int]] = {}
            for i, p in enumerate(parameters):
                by_shape.setdefault((p.shape[0], p.numel() // p.shape[0]), []).append(i)
            torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
            for shape, indices in by_shape.items():
                matrices = torch.stack([_full_tensor(updates[i]).reshape(shape) for i in indices])
                size = group["lr"] * ADAMW_SCALE * max(shape) ** 0.5
                for i, update in zip(indices, orthogonalize(matrices), strict=True):
                    p = parameters[i]
                    p.add_(_sharded_like(p, update.view(p.shape)), alpha=-size)


def _full_tensor(tensor: Tensor) -> Tensor:
    """The full tensor of a DTensor: only a complete matrix can be orthogonalized."""
    return tensor.full_tensor() if is_dtensor(tensor) else tensor


def _sharded_like(p: Tensor, tensor: Tensor) -> Tensor:
    """Shard `tensor`, which every process holds completely, as `p` is sharded."""
    if not is_dtensor(p):
        return tensor
    from torch.distributed.tensor import DTensor, Replicate

    replicated = DTensor.from_local(tensor, p.device_mesh, [Replicate()], run_check=False)
    return replicated.redistribute(p.device_mesh, p.placements)
