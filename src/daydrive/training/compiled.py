"""torch.compile for the parts of the model that are called again and again in a dream."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from daydrive.models import WorldModel

PARTS = (("encoder", "forward"), ("dynamics", "forward"), ("decoder", "motion"), ("decoder", "paint"))
"""Not the whole of `forward`: its loop grows with the unroll, and every length would be compiled anew."""


def compile_parts(model: WorldModel, warmup: Callable[[], None]) -> str:
    """Compile, run `try_out` once, and say in a sentence how long that took; or why it did not work, and undo it.

    Shapes are taken as fixed: guessing which of them change would make a run depend on what it has seen before.
    """
    began = time.perf_counter()
    for part, verb in PARTS:
        module = getattr(model, part)
        setattr(module, verb, torch.compile(getattr(module, verb), dynamic=False))
    try:
        warmup()
    except Exception as error:  # a compiler fails in many ways, and training without it is always possible
        for part, verb in PARTS:
            delattr(getattr(model, part), verb)
        torch.compiler.reset()
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        return f"torch.compile does not work here ({reason}); training goes on without it"
    return f"torch.compile took {time.perf_counter() - began:.0f} s"
