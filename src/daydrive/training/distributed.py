"""Distributed training: process groups, FSDP and DDP."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.nn.parallel import DistributedDataParallel

from daydrive import distributed
from daydrive.config import TrainingConfig
from daydrive.distributed import DistributedContext
from daydrive.errors import UserError
from daydrive.models import WorldModel


def check_processes(config: TrainingConfig) -> tuple[int, str | None]:
    """The number of processes, and a warning where it is not what the settings ask for.

    Raises UserError where several processes were started but `training.distributed` is false.
    """
    world = distributed.launched_processes()
    if world > 1 and not config.distributed:
        raise UserError(
            f"{world} processes were started, but training.distributed is false, so each would train its own model; "
            f"set training.distributed=true or use configs/training/distributed.yaml"
        )
    if config.distributed and world == 1:
        return 1, "training in one process; 'torchrun --nproc_per_node=N scripts/train.py …' starts N of them"
    if config.distributed and config.backend == "nccl" and not torch.cuda.is_available():
        return world, "training.backend = nccl needs GPUs, and there are none; gloo is used instead"
    return world, None


@contextmanager
def training_processes(config: TrainingConfig, device: torch.device) -> Iterator[DistributedContext]:
    """The process group of a training, see `distributed.process_group`; all processes leave it together."""
    check_processes(config)
    with distributed.process_group(device, nccl=config.backend in ("nccl", "auto")) as dist:
        yield dist
        dist.barrier()


def shard_model(model: WorldModel, dist: DistributedContext) -> WorldModel:
    """FSDP2: parameters, gradients and optimizer state are sharded over the processes, unit by unit (Zhao et al.
    2023)."""
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view")  # outputs are not modified in place
    model = model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    mesh = init_device_mesh(dist.device.type, (dist.world_size,))
    for module, methods in model.parallel_units():
        fully_shard(module, mesh=mesh)
        for method in methods:
            if method != "forward":
                register_fsdp_forward_method(module, method)
    fully_shard(model, mesh=mesh)
    register_fsdp_forward_method(model, "loss")
    return model


def replicate_model(model: nn.Module, dist: DistributedContext) -> DistributedDataParallel:
    """DDP: every process holds the whole model and gradients are averaged (Li et al. 2020)."""
    warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)  # no successor before 2.13
    devices = [dist.device.index] if dist.device.type == "cuda" else None
    return DistributedDataParallel(model, device_ids=devices, gradient_as_bucket_view=True, broadcast_buffers=False)


def average_gradients(parameters: Iterable[nn.Parameter], dist: DistributedContext) -> None:
    """Average the gradients of a module that DDP does not wrap over all processes."""
    if dist.world_size == 1:
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    torch.distributed.all_reduce(flat)
    for gradient, part in zip(gradients, (flat / dist.world_size).split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))
