"""Parameter groups: which optimizer and learning rate each parameter gets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from daydrive.config import OptimizerConfig, SchedulerConfig
from daydrive.models import WorldModel
from daydrive.training.optim.muon import Muon
from daydrive.training.optim.schedule import learning_rate_factor


def build_optimizers(model: WorldModel, config: OptimizerConfig) -> list[torch.optim.Optimizer]:
    """Build AdamW, Adam or SGD for all parameters; or Muon for the matrices between first and last layers and AdamW for
    the rest.

    Each group carries its part of the model (`part`) and its peak learning rate (`peak_lr`). Norms and biases have no
    weight decay.
    """
    end_weights = model.end_weights()
    matrices: list[dict[str, Any]] = []
    others: list[dict[str, Any]] = []
    for part, named in model.param_groups().items():
        rate = getattr(config, f"{part}_lr", None) or config.lr
        weights = [(n, p) for n, p in named.items() if p.ndim >= 2]
        orthogonal = {n for n, p in weights if config.type == "muon" and n not in end_weights}
        muon = [p for n, p in weights if n in orthogonal]
        decayed = [p for n, p in weights if n not in orthogonal]
        plain = [p for p in named.values() if p.ndim < 2]
        for groups, parameters, decay in ((matrices, muon, True), (others, decayed, True), (others, plain, False)):
            if parameters:
                groups.append(
                    {
                        "params": parameters,
                        "lr": rate,
                        "peak_lr": rate,
                        "weight_decay": config.weight_decay if decay else 0.0,
                        "part": part,
                    }
                )
    if config.type == "sgd":
        return [torch.optim.SGD(others, lr=config.lr, momentum=config.momentum, fused=True)]
    if config.type == "adam":
        return [torch.optim.Adam(others, lr=config.lr, betas=config.betas, fused=True)]
    optimizers: list[torch.optim.Optimizer] = [torch.optim.AdamW(others, lr=config.lr, betas=config.betas, fused=True)]
    if matrices:
        optimizers.append(Muon(matrices, lr=config.lr, weight_decay=config.weight_decay, momentum=config.momentum))
    return optimizers


def set_learning_rates(
    optimizers: Sequence[torch.optim.Optimizer], step: int, total_steps: int, config: SchedulerConfig
) -> None:
    """Set the learning rate of each group: warmup to its own peak, then decay to `min_lr`."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            minimum = min(1.0, config.min_lr / group["peak_lr"])
            group["lr"] = group["peak_lr"] * learning_rate_factor(step, total_steps, config, minimum)


def learning_rates(optimizers: Sequence[torch.optim.Optimizer]) -> dict[str, float]:
    """The current learning rate of each part of the model."""
    return {g["part"]: g["lr"] for optimizer in optimizers for g in optimizer.param_groups}
