"""Histograms of weights and gradients, at a cost that does not grow with the size of the model's tensors."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

SAMPLES = 4096
"""Number of values sampled from a larger tensor."""

BINS = 64

_WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
_GOLDEN = (5**0.5 - 1) / 2


class Histogram(NamedTuple):
    """counts: int64 (bins,). edges: float64 (bins + 1,), increasing. total, squares: sums of the values and of their
    squares."""

    counts: npt.NDArray[np.int64]
    edges: npt.NDArray[np.float64]
    total: float
    squares: float


def parameter_histograms(model: nn.Module) -> dict[str, Histogram]:
    """`weights/…` of every parameter and `gradients/…` of those with a gradient; dots in names become slashes.

    Names of wrappers (DDP, FSDP, torch.compile) are left out. Of a sharded parameter, this process's shard is used;
    of a tensor with more than SAMPLES values, a fixed sample; values that are not finite are left out. All values are
    copied to the CPU in one transfer.
    """
    samples: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        path = "/".join(part for part in name.split(".") if part not in _WRAPPERS)
        samples[f"weights/{path}"] = _sample(parameter)
        if parameter.grad is not None:
            samples[f"gradients/{path}"] = _sample(parameter.grad)
    if not samples:
        return {}
    ends = np.cumsum([len(values) for values in samples.values()])
    arrays = np.split(torch.cat(list(samples.values())).cpu().numpy(), ends[:-1])
    finite = {name: array[np.isfinite(array)] for name, array in zip(samples, arrays, strict=True)}
    return {name: histogram(values) for name, values in finite.items() if len(values)}


def histogram(values: npt.NDArray[np.float32]) -> Histogram:
    """values: (n,), finite, not empty."""
    values = values.astype(np.float64)
    counts, edges = np.histogram(values, BINS)
    return Histogram(counts.astype(np.int64), edges.astype(np.float64), float(values.sum()), float(values @ values))


def _sample(tensor: Tensor) -> Tensor:
    """float32 (n,), n <= SAMPLES. Positions follow the golden ratio: evenly spread, and not aligned with any
    dimension."""
    tensor = tensor.detach()
    local: Tensor = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    flat = local.reshape(-1)
    if len(flat) > SAMPLES:
        fractions = torch.arange(SAMPLES, dtype=torch.float64, device=flat.device).mul_(_GOLDEN).frac_()
        flat = flat[fractions.mul_(len(flat)).long().clamp_(max=len(flat) - 1)]
    return flat.float()
