"""The plan of a training, observed before its first update."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from daydrive.config import Config
from daydrive.data.sampling import loader
from daydrive.training import context, trainer
from daydrive.training.context import TrainingContext, TrainOptions
from daydrive.training.distributed import DistributedContext
from daydrive.training.engine import Engine
from daydrive.training.step import StepResult
from daydrive.types import Batch

CPU = torch.device("cpu")


@dataclass
class Plan:
    """context: all parts of the training.

    read: arguments of torch's DataLoader, as on a machine with a GPU. batches: of the first step, as passed to the
    model. compiled: whether compilation was requested.
    """

    context: TrainingContext
    read: dict[str, Any] = field(default_factory=dict)
    batches: list[Batch] = field(default_factory=list)
    compiled: bool = False

    def clips(self, count: int) -> list[int]:
        """The first ones in the order of the training."""
        numbers: list[int] = self.context.order.clips(0, count).tolist()
        return numbers


class StoppedError(Exception):
    pass


def planned(config: Config) -> Plan:
    assert config.data.root is not None
    with tempfile.TemporaryDirectory() as folder:
        run, dist, options = Path(folder), DistributedContext.single(CPU), TrainOptions()
        plan = Plan(context.build_context(config, config.data.root, run, dist, options))

        def data_loader(dataset: Any, **arguments: Any) -> DataLoader[Any]:
            plan.read = arguments
            here = {"num_workers": 0, "pin_memory": False, "persistent_workers": False}
            return DataLoader(dataset, **{**arguments, **here, "worker_init_fn": None, "multiprocessing_context": None})

        def accumulate(engine: Engine, batch: Batch, last: bool) -> Iterator[StepResult]:
            plan.batches.append(batch)
            return iter(())

        def compile_units(*_: object) -> str:
            plan.compiled = True
            return "compiled"

        def stop(engine: Engine) -> float:
            raise StoppedError

        def prefetcher(
            training: TrainingContext, make: Callable[[TrainingContext], Any] = TrainingContext.prefetcher
        ) -> Any:
            with pytest.MonkeyPatch.context() as gpu:
                gpu.setattr(torch.cuda, "is_available", lambda: True)
                return make(training)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(trainer, "build_context", lambda *_: plan.context)
            patch.setattr(TrainingContext, "prefetcher", prefetcher)
            patch.setattr(loader, "DataLoader", data_loader)
            patch.setattr(context, "preflight", lambda *_: [])
            patch.setattr(context, "compile_units", compile_units)
            patch.setattr(Engine, "accumulate", accumulate)
            patch.setattr(Engine, "clip_gradients", stop)
            with pytest.raises(StoppedError):
                trainer.train(config, config.data.root, run, dist, options)
    return plan


def plan(look: Callable[[Plan], object]) -> Callable[[Config], object]:
    """An observation of the plan of a config."""
    return lambda config: look(planned(config))
