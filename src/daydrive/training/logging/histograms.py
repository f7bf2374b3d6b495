"""How weights and gradients are spread, at a cost that doesn't grow with the model's tensors."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

SAMPLES = 4096
"""Values drawn from a tensor that has more."""

BINS = 64

_WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
_GOLDEN = (5**0.5 - 1) / 2


class Histogram(NamedTuple):
    """counts: int64 (bins,); edges: float64 (bins + 1,), growing; total, squares: sums of the values, and squared."""

    counts: npt.NDArray[np.int64]
    edges: npt.NDArray[np.float64]
    total: float
    squares: float


def parameter_histograms(model: nn.Module) -> dict[str, Histogram]:
    """`weights/…` of every parameter and `gradients/…` where there is one, dots as slashes.

    Wrappers (DDP, FSDP, torch.compile) don't show in the names. Of a sharded parameter, this process's shard counts; of
    a tensor with more than SAMPLES values, a fixed draw of them. Values that are not finite are left out. All values
    come to the CPU in one transfer.
    """
    drawn: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        place = "/".join(part for part in name.split(".") if part not in _WRAPPERS)
        drawn[f"weights/{place}"] = _draw(parameter)
        if parameter.grad is not None:
            drawn[f"gradients/{place}"] = _draw(parameter.grad)
    if not drawn:
        return {}
    ends = np.cumsum([len(values) for values in drawn.values()])
    pieces = np.split(torch.cat(list(drawn.values())).cpu().numpy(), ends[:-1])
    finite = {name: piece[np.isfinite(piece)] for name, piece in zip(drawn, pieces, strict=True)}
    return {name: histogram(values) for name, values in finite.items() if len(values)}


def histogram(values: npt.NDArray[np.float32]) -> Histogram:
    """values: (n,), finite, at least one."""
    values = values.astype(np.float64)
    counts, edges = np.histogram(values, BINS)
    return Histogram(counts.astype(np.int64), edges.astype(np.float64), float(values.sum()), float(values @ values))


def _draw(tensor: Tensor) -> Tensor:
    """float32 (n,), n <= SAMPLES. Places follow the golden ratio: even, and in step with no dimension of the tensor."""
    tensor = tensor.detach()
    local: Tensor = tensor.to_local() if hasattr(tensor, "to_local") else tensor  # a DTensor's
    flat = local.reshape(-1)
    if len(flat) > SAMPLES:
        shares = torch.arange(SAMPLES, dtype=torch.float64, device=flat.device).mul_(_GOLDEN).frac_()
        flat = flat[shares.mul_(len(flat)).long().clamp_(max=len(flat) - 1)]
    return flat.float()
