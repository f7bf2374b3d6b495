"""Checks of settings, data and machine that need no training step; most give warnings."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import torch

from daydrive.config import Config
from daydrive.data.quality.doctor.cache import load_findings
from daydrive.data.quality.doctor.examine import examine_quickly
from daydrive.data.store.store import Store
from daydrive.distributed import processes_of_this_machine
from daydrive.errors import UserError
from daydrive.gpu import driver_cuda_version
from daydrive.training.checks.memory import size_text

FEW_CLIPS = 500
FEW_VALIDATION_CLIPS = 8
SHARED_MEMORY = Path("/dev/shm")
PREFETCH_FACTOR = 2
"""Batches that each worker process of a loader holds ready."""


class Check(NamedTuple):
    """name: what was checked. message: the result, in one line."""

    name: str
    outcome: Literal["ok", "warning"]
    message: str


def format_checks(checks: Sequence[Check]) -> str:
    """One line for each check: outcome, name, message."""
    width = max((len(check.name) for check in checks), default=0)
    return "\n".join(f"{check.outcome:<7}  {check.name:<{width}}  {check.message}" for check in checks)


def check_size(config: Config, store: Store) -> Iterator[Check]:
    """Warn about a store of another image size than the settings expect; the shorter side counts."""
    height, width = store.image_size
    expected = config.model.native_image_size
    message = f"the store {store.path} has images of {height}x{width}"
    remedy = "prepare it with --image-size {} {}"
    if config.data.image_size not in (None, store.image_size):
        requested = config.data.image_size or expected
        yield _warning(
            "size", f"{message}, and data.image_size is {requested[0]}x{requested[1]}; {remedy.format(*requested)}"
        )  # fmt: skip
    if min(height, width) != min(expected):
        settings = config.model.native_image_size_settings
        yield _warning(
            "size", f"{message}, and the model is meant for {expected[0]}x{expected[1]}"
            f"{f' ({settings})' if settings else ''}; "
            f"{remedy.format(*expected)}, or train a model of its size"
        )  # fmt: skip


def check_plan(config: Config, total_steps: int, steps_per_epoch: float) -> Iterator[Check]:
    """Warn about settings that the training is too short for."""
    logging, scheduler, curriculum = config.logging, config.scheduler, config.data.curriculum
    steps = f"the {total_steps} steps of this training"
    if scheduler.warmup_steps >= total_steps:
        yield _warning(
            "schedule", f"scheduler.warmup_steps = {scheduler.warmup_steps} does not end within {steps}: the learning "
            f"rate never reaches optimizer.lr; try {max(1, total_steps // 20)}"
        )  # fmt: skip
    late = [
        f"logging.{name} = {getattr(logging, name)}"
        for name in ("log_interval", "eval_interval", "save_interval")
        if getattr(logging, name) > total_steps
    ]
    if late:
        yield _warning("logging", f"{' and '.join(late)}: more than {steps}, so it happens only at the end")
    if curriculum and curriculum.phases * curriculum.epochs_per_phase * steps_per_epoch > total_steps:
        yield _warning(
            "curriculum", f"data.curriculum has {curriculum.phases} x {curriculum.epochs_per_phase} epochs, and "
            f"{steps} are {total_steps / steps_per_epoch:.1f} epochs: the hardest clips come late or never"
        )  # fmt: skip


def check_data(
    config: Config, clips: Mapping[str, int], drives: Mapping[str, Sequence[str]], world_size: int
) -> Iterator[Check]:
    """Warn about splits that are too small or overlap.

    clips, drives: number of clips and names of drives of the splits 'train' and 'val'. world_size: number of
    processes.
    """
    both = sorted(set(drives["train"]) & set(drives["val"]))
    if both:
        yield _warning("validation", f"the drive '{both[0]}' is in 'train' and in 'val': val/* will be too optimistic")
    if clips["val"] < FEW_VALIDATION_CLIPS:
        yield _warning("validation", f"the split 'val' has only {clips['val']} clips: val/* will be imprecise")
    if clips["train"] < FEW_CLIPS:
        yield _warning("data", f"the split 'train' has only {clips['train']} clips: the model will overfit")
    training = config.training
    clips_per_update = training.batch_size * training.gradient_accumulation * world_size
    if clips_per_update > clips["train"]:
        yield _warning(
            "batch", f"an update has {clips_per_update} clips (training.batch_size {training.batch_size} x "
            f"training.gradient_accumulation {training.gradient_accumulation}"
            f"{f' x {world_size} processes' * (world_size > 1)}), more than the {clips['train']} of the split"
        )  # fmt: skip


def check_store_quality(store: Store, allowed: bool) -> Iterator[Check]:
    """Report the findings of `daydrive data doctor`, or of a sample of the values if it has not run.
    Raises UserError for fatal findings, unless they are allowed."""
    for member in store.members:
        diagnosed = load_findings(member)
        found = examine_quickly(member) if diagnosed is None else diagnosed
        fatal = [finding for finding in found if finding.severity == "fatal"]
        command = f"`daydrive data doctor {member.path}`"
        if fatal and not allowed:
            more = f" and {len(fatal) - 1} more" if len(fatal) > 1 else ""
            raise UserError(
                f"the store {member.path} has a fatal error: {fatal[0].message}{more}; {command} lists all and how to "
                f"fix them, and --allow-faults trains anyway"
            )
        serious = [finding for finding in found if finding.severity != "note"]
        if serious:
            yield _warning(
                "faults", f"{serious[0].code}: {serious[0].message}; {command} lists {len(serious)} of this severity"
            )
        else:
            checked = (
                f"none in a sample of values; {command} checks more" if diagnosed is None else "the doctor found none"
            )
            yield Check("faults", "ok", f"{member.path}: {checked}")


def check_machine(config: Config, device: torch.device, processors: int) -> Iterator[Check]:
    """Warn about settings that leave the machine idle or ask for more than it has."""
    data = config.data
    on_gpu = device.type == "cuda"
    workers = data.num_workers * processes_of_this_machine()
    if on_gpu and data.num_workers == 0:
        yield _warning(
            "loading", f"data.num_workers = 0: the GPU waits while clips are loaded; try {min(4, processors)}"
        )
    if workers > processors:
        yield _warning("loading", f"data.num_workers: {workers} worker processes share {processors} processors")
    if on_gpu and not data.pin_memory:
        yield _warning("loading", "data.pin_memory = false: copies to the GPU are synchronous; try true")
    if on_gpu and not config.training.use_amp:
        yield _warning("precision", "training.use_amp = false: mixed precision needs less memory and time on a GPU")
    if importlib.util.find_spec("tensorboard") is None:
        yield _warning("tensorboard", "the package tensorboard is not installed: run 'pip install tensorboard'")


def check_shared_memory(config: Config, batch_bytes: int, folder: Path = SHARED_MEMORY) -> Iterator[Check]:
    """Warn where shared memory, which passes batches from worker processes and is small in many containers, is too
    small."""
    workers = config.data.num_workers * processes_of_this_machine()
    if not workers or not folder.is_dir():
        return
    available, required = shutil.disk_usage(folder).total, (PREFETCH_FACTOR * workers + 1) * batch_bytes
    if required > available:
        yield _warning(
            "loading", f"{folder} has {size_text(available)}, and data.num_workers = {config.data.num_workers} may "
            f"need {size_text(required)} of it: lower it, or start the container with a larger --shm-size"
        )  # fmt: skip


def check_gpu(device: torch.device) -> Iterator[Check]:
    """Warn about a GPU that PyTorch cannot use, or not as intended."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    present = Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None
    message = None
    if present and not hidden and torch.version.hip is None:
        message = driver_advice(torch.version.cuda, driver_cuda_version(), torch.cuda.is_available())
    if message:
        yield _warning("driver", message)
    elif device.type == "cuda":
        yield Check("driver", "ok", f"{torch.cuda.get_device_name(device)}, CUDA {torch.version.cuda}")


def driver_advice(built: str | None, driver: int | None, usable: bool) -> str | None:
    """What is wrong between PyTorch and the driver of an NVIDIA GPU, if anything.

    built: the CUDA version that PyTorch is built for, such as '12.8'; None for CPU builds. driver: the newest CUDA
    version that the driver supports, such as 12080; None where unknown. usable: whether PyTorch sees the GPU.
    """
    if built is None:
        return (
            f"this machine has an NVIDIA GPU, but PyTorch {torch.__version__} is a CPU build; "
            f"see pytorch.org/get-started for a CUDA build"
        )
    if driver and driver // 1000 < int(built.split(".")[0]):
        return (
            f"PyTorch is built for CUDA {built}, but the GPU's driver supports {driver // 1000}.{driver % 1000 // 10} "
            f"at most; update the driver, or install an older build of PyTorch"
        )
    if not usable:
        return "this machine has an NVIDIA GPU, but PyTorch cannot use it; check 'nvidia-smi'"
    return None


def _warning(name: str, message: str) -> Check:
    return Check(name, "warning", message)
