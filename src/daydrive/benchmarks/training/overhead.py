"""Overhead of checkpoints and of logging, at the intervals of the config."""

from __future__ import annotations

import io
import itertools
import threading
from collections.abc import Mapping
from contextlib import redirect_stdout

import torch
from torch import Tensor

from daydrive import checkpoint
from daydrive.benchmarks.findings import Findings
from daydrive.benchmarks.interleaved_timing import least, seconds_of, time_interleaved
from daydrive.benchmarks.training.workload import Workload
from daydrive.data.sampling.clips import read_clips
from daydrive.training.logging.run_reporter import RunReporter
from daydrive.training.step import ClipFrames
from daydrive.training.validation import ValidationResult, image_metrics, sample_sheet, sample_video
from daydrive.types import to_signed


def saving(workload: Workload, step_seconds: float) -> Findings:
    """`save_stall`: time to write a checkpoint over that of the `save_interval` steps between two.

    step_seconds: of a whole step of the config. `raw` also has the cost of an asynchronous checkpoint: a snapshot in
    memory, and the slowdown of steps during writing.
    """
    engine, config, device, name = workload.engine, workload.config, workload.device, workload.name
    run = workload.folder / f"saving-{name}"
    batches = workload.batches(workload.lengths[0])
    workload.step(batches)
    numbers = itertools.count(1)

    def save(contents: checkpoint.Contents | None = None) -> None:
        keep, state, writer = config.logging.keep_checkpoints, engine.state(), checkpoint.Writer()
        checkpoint.save(run, next(numbers), contents or engine.contents(), config, state, keep, writer)

    seconds = time_interleaved(
        {"save": save, "snapshot": lambda: snapshot(engine.contents())}, workload.effort._replace(seconds=0), device
    )
    cached = snapshot(engine.contents())
    writing = threading.Thread(target=save, args=(cached,))
    writing.start()
    beside = []
    while writing.is_alive():
        beside.append(seconds_of(lambda: workload.step(batches), device))
    writing.join()
    between = config.logging.save_interval * step_seconds
    best = least(seconds)
    folder = checkpoint.find(run, "last")
    raw = {
        "seconds": seconds,
        "seconds_of_training_between": between,
        "bytes": sum(file.stat().st_size for file in folder.iterdir()),
        "asynchronous": {
            "stall": best["snapshot"] / between,
            "seconds_of_steps_beside_the_writing": beside,
            "seconds_of_a_step_alone": seconds_of(lambda: workload.step(batches), device),
        },
    }
    return Findings({f"save_stall_{name}": best["save"] / between}, {f"saving_{name}": raw})


def snapshot(contents: checkpoint.Contents) -> checkpoint.Contents:
    """A copy in CPU memory that later steps do not change."""

    def copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}

    trained = None if contents.trained is None else copied(contents.trained)
    return checkpoint.Contents(copied(contents.weights), trained, copied(contents.moments))


def logging(workload: Workload, step_seconds: float) -> Findings:
    """`logging_cost`: time of all logging relative to training, each kind over the steps of its interval: scalars with
    the metrics they need, histograms, images and videos of `num_samples` clips.

    step_seconds: of a whole step of the config. Validation itself is not included.
    """
    setup, device, name = workload.setup, workload.device, workload.name
    intervals = workload.config.logging
    (terms, trained), validated = _trained(workload), _validated(workload)
    numbers = itertools.count(1)
    with redirect_stdout(io.StringIO()), RunReporter(workload.folder / f"logging-{name}", setup) as report:

        def scalars() -> None:
            metrics = {**terms, **image_metrics(trained)}
            report.step_done(next(numbers), {f"train/{metric}": float(v.mean()) for metric, v in metrics.items()})

        def log_images() -> None:
            samples = intervals.num_samples
            sheet, video = sample_sheet(validated, samples), sample_video(validated, samples)
            report.validated(next(numbers), ValidationResult({}, sheet, video), trained)

        runs = {
            "scalars": scalars,
            "histograms": lambda: report.histograms(next(numbers), workload.engine.model),
            "images_and_videos": log_images,
        }
        seconds = time_interleaved(runs, workload.effort._replace(seconds=0), device)
    workload.engine.zero_grad()
    every = {
        "scalars": intervals.log_interval,
        "histograms": intervals.histogram_interval,
        "images_and_videos": intervals.eval_interval,
    }
    shares = {kind: best / (every[kind] * step_seconds) for kind, best in least(seconds).items()}
    raw = {"seconds": seconds, "shares": shares, "seconds_of_a_step": step_seconds}
    return Findings({f"logging_cost_{name}": sum(shares.values())}, {f"logging_{name}": raw})


def _trained(workload: Workload) -> tuple[dict[str, Tensor], ClipFrames]:
    """Loss terms and frames of the last micro-batch of a step at the shortest unroll, with gradients in place; clips
    are repeated if the config has more."""
    (*_, batch), engine = workload.batches(workload.lengths[0]), workload.engine
    result = engine.backward(batch)
    count = max(len(result.images), min(workload.config.training.batch_size, workload.config.logging.num_samples))
    repeated = torch.arange(count, device=workload.device) % len(result.images)
    terms = {name: part[repeated] for name, part in result.parts.items()}
    return terms, ClipFrames(*(tensor[repeated] for tensor in engine.frames_of(result)))


def _validated(workload: Workload) -> ClipFrames:
    """Whole validation clips with predictions delayed by one frame: real images, since the cost of a GIF depends on
    their content."""
    setup, context = workload.setup, workload.config.training.context_frames
    clips = setup.validation_clips.spread(workload.config.logging.num_samples)
    images = to_signed(read_clips(setup.store, clips).images.to(workload.device))
    every = torch.arange(images.shape[1], device=images.device).expand(len(images), -1)
    return ClipFrames(images, images[:, context - 1 : -1], images, every)
