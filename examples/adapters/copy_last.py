"""A minimal adapter for evaluating an external model: it repeats the last context frame.

python scripts/evaluate.py --adapter examples/adapters/copy_last.py:load --checkpoint WEIGHTS --data-root STORE …
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from daydrive.evaluation.adapter import Context


class CopyLast:
    name = "copy_last"
    context = 1

    def reset(self, context: Context) -> None:
        self.last = context.images[:, -1]

    def step(self, action: Tensor) -> Tensor:
        return self.last


def load(checkpoint: Path, device: torch.device) -> CopyLast:
    """A real adapter loads weights from `checkpoint` onto `device` here."""
    return CopyLast()
