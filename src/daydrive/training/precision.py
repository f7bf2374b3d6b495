"""In which numbers a step computes: float32, or mixed with bfloat16 or float16 (Micikevicius et al. 2018)."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch
from torch import Tensor
from torch.amp.grad_scaler import GradScaler

from daydrive.config import TrainingConfig
from daydrive.devices import has_bfloat16


class Precision:
    """dtype: of the mixed part, None for none. float16 needs its loss scaled, and skips steps that overflow."""

    def __init__(self, config: TrainingConfig, device: torch.device) -> None:
        self.device = device
        self.dtype = mixed_dtype(config, device)
        self.skipped_steps = 0
        self.scaler = GradScaler(device.type, enabled=self.dtype == torch.float16)

    def autocast(self) -> AbstractContextManager[object]:
        return torch.autocast(self.device.type, self.dtype or torch.bfloat16, enabled=self.dtype is not None)

    def backward(self, loss: Tensor) -> None:
        self.scaler.scale(loss).backward()

    def unscale(self, optimizers: list[torch.optim.Optimizer]) -> None:
        if self.scaler.is_enabled():
            for optimizer in optimizers:
                self.scaler.unscale_(optimizer)

    def close_step(self, overflowed: bool) -> None:
        """Lower the scale after an overflow, raise it after many steps without one."""
        if self.scaler.is_enabled():
            self.skipped_steps += overflowed
            self.scaler.update()

    @property
    def may_overflow(self) -> bool:
        """Whether a gradient that is not finite may come from the loss scale alone, and a lower one may help."""
        return self.scaler.is_enabled() and self.scaler.get_scale() >= 1

    def metrics(self) -> dict[str, float]:
        """Nothing to tell but for float16."""
        if not self.scaler.is_enabled():
            return {}
        return {"train/skipped_steps": float(self.skipped_steps), "train/loss_scale": self.scaler.get_scale()}

    def state(self) -> dict[str, object]:
        return {"skipped_steps": self.skipped_steps, "scaler": self.scaler.state_dict()}

    def load(self, state: dict[str, object]) -> None:
        skipped, scaler = state["skipped_steps"], state["scaler"]
        assert isinstance(skipped, int) and isinstance(scaler, dict)
        self.skipped_steps = skipped
        if self.scaler.is_enabled() and scaler:
            self.scaler.load_state_dict(scaler)


def mixed_dtype(config: TrainingConfig, device: torch.device) -> torch.dtype | None:
    """bfloat16 where the device computes it, else float16 on a GPU, unless the settings say which.

    None, for float32 alone, without `use_amp`, and on a processor that has neither.
    """
    if not config.use_amp:
        return None
    if config.amp_dtype != "auto":
        return torch.bfloat16 if config.amp_dtype == "bfloat16" else torch.float16
    if has_bfloat16(device):
        return torch.bfloat16
    return torch.float16 if device.type == "cuda" else None
