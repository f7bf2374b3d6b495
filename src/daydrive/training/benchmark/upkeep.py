"""What a training spends on its checkpoints and on telling how it is, at the config's intervals."""

from __future__ import annotations

import io
import itertools
import threading
from collections.abc import Mapping
from contextlib import redirect_stdout

import torch
from torch import Tensor

from daydrive import checkpoint
from daydrive.data.sampling.clips import read_clips
from daydrive.measure.clock import least, race, seconds_of
from daydrive.measure.findings import Findings
from daydrive.models import WorldModelOutput
from daydrive.training.benchmark.workload import Workload
from daydrive.training.logging.run_reporter import Report
from daydrive.training.step import StepResult
from daydrive.training.validation import Validated, image_metrics, sample_sheet, sample_video
from daydrive.types import to_signed


def saving(workload: Workload, step_seconds: float) -> Findings:
    """`save_stall`: a checkpoint, written to disk in full, over the `save_interval` steps between two.

    step_seconds: of a whole step of the config. Beside it what an asynchronous checkpoint would cost: a snapshot in
    memory, and what the steps lose to the thread that writes it.
    """
    engine, config, device, name = workload.engine, workload.config, workload.device, workload.name
    run = workload.folder / f"saving-{name}"
    batches = workload.batches(workload.lengths[0])
    workload.step(batches)
    numbers = itertools.count(1)

    def save(contents: checkpoint.Contents | None = None) -> None:
        keep, state, writer = config.logging.keep_checkpoints, engine.state(), checkpoint.Writer()
        checkpoint.save(run, next(numbers), contents or engine.contents(), config, state, keep, writer)

    seconds = race(
        {"save": save, "snapshot": lambda: snapshot(engine.contents())}, workload.effort._replace(seconds=0), device
    )
    kept = snapshot(engine.contents())
    writing = threading.Thread(target=save, args=(kept,))
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
    """A copy in this machine's memory, which later steps don't change."""

    def copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}

    trained = None if contents.trained is None else copied(contents.trained)
    return checkpoint.Contents(copied(contents.weights), trained, copied(contents.moments))


def logging(workload: Workload, step_seconds: float) -> Findings:
    """`logging_cost`: all that is logged, each over the steps of its interval: figures and the metrics they need,
    histograms, pictures and films of `num_samples` clips.

    step_seconds: of a whole step of the config. Validation itself is not counted.
    """
    setup, device, name = workload.setup, workload.device, workload.name
    intervals, context = workload.config.logging, workload.config.training.context_frames
    trained, validated = _trained(workload), _validated(workload)
    numbers = itertools.count(1)
    with redirect_stdout(io.StringIO()), Report(workload.folder / f"logging-{name}", setup) as report:

        def scalars() -> None:
            metrics = {**trained.parts, **image_metrics(trained, context)}
            report.step_done(next(numbers), {f"train/{metric}": float(v.mean()) for metric, v in metrics.items()})

        def pictures() -> None:
            samples = intervals.num_samples
            sheet, video = sample_sheet(validated, context, samples), sample_video(validated, context, samples)
            report.validated(next(numbers), Validated({}, sheet, video), trained)

        runs = {
            "scalars": scalars,
            "histograms": lambda: report.histograms(next(numbers), workload.engine.model),
            "pictures_and_films": pictures,
        }
        seconds = race(runs, workload.effort._replace(seconds=0), device)
    workload.engine.zero_grad()
    every = {
        "scalars": intervals.log_interval,
        "histograms": intervals.histogram_interval,
        "pictures_and_films": intervals.eval_interval,
    }
    shares = {kind: best / (every[kind] * step_seconds) for kind, best in least(seconds).items()}
    raw = {"seconds": seconds, "shares": shares, "seconds_of_a_step": step_seconds}
    return Findings({f"logging_cost_{name}": sum(shares.values())}, {f"logging_{name}": raw})


def _trained(workload: Workload) -> StepResult:
    """The newest of a step at the shortest unroll, gradients in place; its clips again and again where the config has
    more of them."""
    (*_, batch), engine = workload.batches(workload.lengths[0]), workload.engine
    *_, result = engine.accumulate(batch, last=True)
    count = max(len(result.images), min(workload.config.training.batch_size, workload.config.logging.num_samples))
    again = torch.arange(count, device=workload.device) % len(result.images)
    output = WorldModelOutput(
        reconstructed=result.output["reconstructed"].detach()[again],
        predicted=result.output["predicted"].detach()[again],
        latents=result.output["latents"].detach()[again],
        foreseen=result.output["foreseen"].detach()[again],
    )
    parts = {name: part[again] for name, part in result.parts.items()}
    return StepResult(result.loss.detach(), parts, output, result.images[again], result.frames)


def _validated(workload: Workload) -> StepResult:
    """Whole validation clips, dreamed a frame late: pictures of drives, for content decides what a GIF costs."""
    setup, context = workload.setup, workload.config.training.context_frames
    clips = setup.validation_clips.spread(workload.config.logging.num_samples)
    images = to_signed(read_clips(setup.store, clips).images.to(workload.device))
    nothing = images.new_zeros(len(images), 1)
    output = WorldModelOutput(
        reconstructed=images, predicted=images[:, context - 1 : -1], latents=nothing, foreseen=nothing
    )
    return StepResult(images.mean(), {}, output, images, list(range(images.shape[1])))
