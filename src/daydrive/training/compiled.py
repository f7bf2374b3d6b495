"""torch.compile for the units of the model that are called again and again in a rollout.

Not the whole of `forward`: its loop grows with the unroll, and every length would be compiled anew.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from daydrive.models import WorldModel


def compile_parts(model: WorldModel, warmup: Callable[[], None]) -> str:
    """Compile the model's units, run `try_out` once, and say in a sentence how long that took; or why it did not work,
    and undo it.

    Shapes are taken as fixed: guessing which of them change would make a run depend on what it has seen before.
    """
    began = time.perf_counter()
    calls = [(unit.module, method) for unit in model.parallel_units() for method in unit.methods]
    for module, method in calls:
        setattr(module, method, torch.compile(getattr(module, method), dynamic=False))
    try:
        warmup()
    except Exception as error:  # a compiler fails in many ways, and training without it is always possible
        for module, method in calls:
            delattr(module, method)
        torch.compiler.reset()
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        return f"torch.compile does not work here ({reason}); training goes on without it"
    return f"torch.compile took {time.perf_counter() - began:.0f} s"
