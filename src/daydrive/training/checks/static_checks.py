"""What is worth a second look before a training: settings and a machine that work, but hardly as they were meant."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import torch

from daydrive.config import Config
from daydrive.data.quality.doctor.cache import kept
from daydrive.data.quality.doctor.examine import examine_quickly
from daydrive.data.store.store import Store
from daydrive.errors import UserError
from daydrive.gpu import driver_cuda_version
from daydrive.training.checks.memory import local_processes, size_text

FEW_CLIPS = 500
FEW_VALIDATION_CLIPS = 8
SHARED_MEMORY = Path("/dev/shm")
BATCHES_AHEAD = 2
"""That each worker process of a loader holds ready."""


class Check(NamedTuple):
    """name: what was looked at; said: what was found, in one line."""

    name: str
    outcome: Literal["ok", "warning"]
    said: str


def report(checks: Sequence[Check]) -> str:
    """One line each: outcome, name, what was found."""
    width = max((len(check.name) for check in checks), default=0)
    return "\n".join(f"{check.outcome:<7}  {check.name:<{width}}  {check.said}" for check in checks)


def check_size(config: Config, store: Store) -> Iterator[Check]:
    """A store of another size than the settings were meant for; the shorter side counts."""
    height, width = store.image_size
    meant = config.model.native_image_size
    said = f"the store {store.path} has pictures of {height}x{width}"
    remedy = "prepare it with --image-size {} {}"
    if config.data.image_size not in (None, store.image_size):
        wanted = config.data.image_size or meant
        yield _warning(
            "size", f"{said}, and data.image_size is {wanted[0]}x{wanted[1]}; {remedy.format(*wanted)}"
        )  # fmt: skip
    if min(height, width) != min(meant):
        yield _warning(
            "size", f"{said}, and the model is meant for {meant[0]}x{meant[1]} ({config.model.size_settings}); "
            f"{remedy.format(*meant)}, or train a model of its size"
        )  # fmt: skip


def check_plan(config: Config, total_steps: int, steps_per_epoch: float) -> Iterator[Check]:
    """Settings that the training is too short for."""
    logging, scheduler, curriculum = config.logging, config.scheduler, config.data.curriculum
    steps = f"the {total_steps} steps of this training"
    if scheduler.warmup_steps >= total_steps:
        yield _warning(
            "schedule", f"scheduler.warmup_steps = {scheduler.warmup_steps} is not over within {steps}: the learning "
            f"rate never gets to optimizer.lr; {max(1, total_steps // 20)} would do"
        )  # fmt: skip
    late = [
        f"logging.{name} = {getattr(logging, name)}"
        for name in ("log_interval", "eval_interval", "save_interval")
        if getattr(logging, name) > total_steps
    ]
    if late:
        yield _warning("logging", f"{' and '.join(late)}: more than {steps}, so that happens at its end only")
    if curriculum and curriculum.phases * curriculum.epochs_per_phase * steps_per_epoch > total_steps:
        yield _warning(
            "curriculum", f"data.curriculum takes {curriculum.phases} x {curriculum.epochs_per_phase} epochs, and "
            f"{steps} are {total_steps / steps_per_epoch:.1f}: the hardest clips come late or never"
        )  # fmt: skip


def check_data(
    config: Config, clips: Mapping[str, int], drives: Mapping[str, Sequence[str]], world: int
) -> Iterator[Check]:
    """clips, drives: number of clips and names of drives of the splits 'train' and 'val'; world: processes."""
    both = sorted(set(drives["train"]) & set(drives["val"]))
    if both:
        yield _warning("validation", f"the drive '{both[0]}' is in 'train' and in 'val': val/* will look too good")
    if clips["val"] < FEW_VALIDATION_CLIPS:
        yield _warning("validation", f"the split 'val' has {clips['val']} clips only: val/* will be rough")
    if clips["train"] < FEW_CLIPS:
        yield _warning("data", f"the split 'train' has {clips['train']} clips only: the model will learn them by heart")
    training = config.training
    an_update = training.batch_size * training.gradient_accumulation * world
    if an_update > clips["train"]:
        yield _warning(
            "batch", f"an update takes {an_update} clips (training.batch_size {training.batch_size} x "
            f"training.gradient_accumulation {training.gradient_accumulation}{f' x {world} processes' * (world > 1)}), "
            f"more than the {clips['train']} that there are"
        )  # fmt: skip


def check_faults(store: Store, allowed: bool) -> Iterator[Check]:
    """What the doctor found in the store, or what its numbers alone show where it wasn't asked; UserError for what is
    fatal, unless that is allowed."""
    for member in store.members:
        asked = kept(member)
        found = examine_quickly(member) if asked is None else asked
        fatal = [finding for finding in found if finding.severity == "fatal"]
        told = f"`daydrive data doctor {member.path}`"
        if fatal and not allowed:
            more = f" and {len(fatal) - 1} more" if len(fatal) > 1 else ""
            raise UserError(
                f"the store {member.path} has a fatal fault: {fatal[0].says}{more}; {told} tells all and how to "
                f"mend it, and --allow-faults trains anyway"
            )
        graver = [finding for finding in found if finding.severity != "note"]
        if graver:
            yield _warning("faults", f"{graver[0].code}: {graver[0].says}; {told} tells {len(graver)} of such")
        else:
            seen = f"none in a sample of numbers; {told} sees more" if asked is None else "the doctor found none"
            yield Check("faults", "ok", f"{member.path}: {seen}")


def check_machine(config: Config, device: torch.device, processors: int) -> Iterator[Check]:
    """Settings that leave the machine idle or ask for more than it has."""
    data = config.data
    on_gpu = device.type == "cuda"
    workers = data.num_workers * local_processes()
    if on_gpu and data.num_workers == 0:
        yield _warning("loading", f"data.num_workers = 0: the GPU waits while clips are read; try {min(4, processors)}")
    if workers > processors:
        yield _warning("loading", f"data.num_workers: {workers} worker processes share {processors} processors")
    if on_gpu and not data.pin_memory:
        yield _warning("loading", "data.pin_memory = false: copies to the GPU wait for each other; try true")
    if on_gpu and not config.training.use_amp:
        yield _warning("precision", "training.use_amp = false: mixed precision takes less memory and time on a GPU")
    if importlib.util.find_spec("tensorboard") is None:
        yield _warning("tensorboard", "the package tensorboard is not installed: run 'pip install tensorboard'")


def check_shared_memory(config: Config, batch_bytes: int, folder: Path = SHARED_MEMORY) -> Iterator[Check]:
    """Batches come from worker processes through shared memory, which is small in many containers."""
    workers = config.data.num_workers * local_processes()
    if not workers or not folder.is_dir():
        return
    there, wanted = shutil.disk_usage(folder).total, (BATCHES_AHEAD * workers + 1) * batch_bytes
    if wanted > there:
        yield _warning(
            "loading", f"{folder} holds {size_text(there)}, and data.num_workers = {config.data.num_workers} may fill "
            f"{size_text(wanted)} of it: lower that, or start the container with a larger --shm-size"
        )  # fmt: skip


def check_gpu(device: torch.device) -> Iterator[Check]:
    """A GPU that is there and can't be used, or not as it should."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    present = Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None
    said = None
    if present and not hidden and torch.version.hip is None:
        said = driver_advice(torch.version.cuda, driver_cuda_version(), torch.cuda.is_available())
    if said:
        yield _warning("driver", said)
    elif device.type == "cuda":
        yield Check("driver", "ok", f"{torch.cuda.get_device_name(device)}, CUDA {torch.version.cuda}")


def driver_advice(built: str | None, driver: int | None, usable: bool) -> str | None:
    """What is wrong between PyTorch and the driver of an NVIDIA GPU, if anything.

    built: the CUDA version that PyTorch was built for, '12.8', None for processors only. driver: the newest CUDA
    version that the driver knows, 12080, None where unknown. usable: PyTorch sees the GPU.
    """
    if built is None:
        return (
            f"this machine has an NVIDIA GPU, but PyTorch {torch.__version__} is built for processors only; "
            f"pytorch.org/get-started names the build for it"
        )
    if driver and driver // 1000 < int(built.split(".")[0]):
        return (
            f"PyTorch is built for CUDA {built}, but the GPU's driver knows {driver // 1000}.{driver % 1000 // 10} at "
            f"most; update the driver, or install an older build of PyTorch"
        )
    if not usable:
        return "this machine has an NVIDIA GPU, but PyTorch can't use it; see what 'nvidia-smi' says"
    return None


def _warning(name: str, said: str) -> Check:
    return Check(name, "warning", said)
