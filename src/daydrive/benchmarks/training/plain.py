"""The baseline for training speed: the same model and settings in a straightforward training loop.

float32, contiguous memory format, the whole batch at once, and optimizers without fused or foreach kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from daydrive.config import Config, OptimizerConfig
from daydrive.models import WorldModel, build_world_model
from daydrive.perceptual import build_perceptual
from daydrive.training.optim.param_groups import build_optimizers
from daydrive.training.step import Objective, evaluate_batch
from daydrive.types import Batch


class PlainLoop:
    """A plain training loop that starts from the same weights as an `Engine` with the same settings."""

    def __init__(self, config: Config, device: torch.device) -> None:
        self._config = config
        torch.manual_seed(config.training.seed)
        model = build_world_model(config).to(device)
        self.model: WorldModel = model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        first = next(module for module in self.model.modules() if isinstance(module, nn.Conv2d))
        first.register_forward_pre_hook(_contiguous)
        self.model.enable_gradient_checkpointing(False)
        self.model.train()
        self._optimizers = plain_optimizers(self.model, config.optimizer)
        distance = build_perceptual(config.loss.perceptual, config.loss.perceptual_weights, device)
        self._objective = Objective(self.model, config.loss, distance)

    def step(self, batches: list[Batch]) -> float:
        """One optimizer update from all batches; returns the mean of their losses."""
        for optimizer in self._optimizers:
            optimizer.zero_grad()
        total = 0.0
        for batch in batches:
            result = evaluate_batch(self._objective, batch, nullcontext)
            loss = result.loss if batch.weights is not None else result.loss / len(batches)
            loss.backward()
            total += loss.item()
        nn.utils.clip_grad_norm_(self.model.parameters(), self._config.training.max_grad_norm)
        for optimizer in self._optimizers:
            optimizer.step()
        return total


def _contiguous(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(x.contiguous() for x in inputs)


def plain_optimizers(model: WorldModel, config: OptimizerConfig) -> list[Optimizer]:
    """The optimizers of training with the same parameter groups, updating tensor by tensor."""
    kinds: dict[type[Optimizer], Callable[..., Optimizer]] = {
        SGD: lambda groups: SGD(groups, lr=config.lr, momentum=config.momentum, foreach=False, fused=False),
        Adam: lambda groups: Adam(groups, lr=config.lr, betas=config.betas, foreach=False, fused=False),
        AdamW: lambda groups: AdamW(groups, lr=config.lr, betas=config.betas, foreach=False, fused=False),
    }
    optimizers = []
    for optimizer in build_optimizers(model, config):
        keys = ("params", "lr", "weight_decay")
        groups = [{key: group[key] for key in keys} for group in optimizer.param_groups]
        optimizers.append(kinds.get(type(optimizer), lambda groups: PlainMuon(groups, config.momentum))(groups))
    return optimizers


class PlainMuon(Optimizer):
    """Muon as published (Jordan et al. 2024): five Newton-Schulz iterations in bfloat16, a matrix at a time."""

    def __init__(self, params: Iterable[dict[str, Any]], momentum: float) -> None:
        super().__init__(params, {"momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                momentum = self.state[p].setdefault("momentum", torch.zeros_like(p))
                momentum.lerp_(p.grad, 1 - group["momentum"])
                update = p.grad.lerp(momentum, group["momentum"]).reshape(len(p), -1)
                p.mul_(1 - group["lr"] * group["weight_decay"])
                size = group["lr"] * 0.2 * max(update.shape) ** 0.5
                p.add_(newton_schulz(update).view(p.shape).to(p.dtype), alpha=-size)


def newton_schulz(matrix: Tensor) -> Tensor:
    x = matrix.bfloat16()
    x = x / (x.norm() + 1e-7)
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x.T if tall else x
