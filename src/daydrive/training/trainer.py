"""The training loop."""

from __future__ import annotations

import functools
import signal
import types
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import torch

from daydrive import checkpoint
from daydrive.config import Config, TrainingConfig
from daydrive.data.loader import ClipLoader
from daydrive.data.store import Store
from daydrive.models import build_world_model
from daydrive.perceptual import build_perceptual
from daydrive.training import provenance
from daydrive.training.loggers import RunLogger
from daydrive.training.meter import Meter
from daydrive.training.optim import build_optimizers, learning_rates, set_learning_rates
from daydrive.training.progress import Progress
from daydrive.training.resume import prepare_run, read_progress
from daydrive.training.schedule import unroll_steps
from daydrive.training.step import clips_per_pass, evaluate_batch
from daydrive.training.validation import Validation, picture_metrics, reconstruction_sheet, sample_sheet

INTERRUPTED = 130


def train(config: Config, store_path: Path, run: Path, resume: bool, device: torch.device) -> int:
    """Train until `max_steps` or `num_epochs`; returns the exit code, 130 where Ctrl-C ended it.

    Everything random is a function of (seed, step), so that going on after a kill is arithmetic. Raises UserError for
    what the user can mend, before the first step.
    """
    store = Store.open(store_path)
    config, begun = prepare_run(config, store, run, resume)
    training, logging = config.training, config.logging
    torch.manual_seed(training.seed)
    model = build_world_model(config).to(device)
    optimizers = build_optimizers(model, config.optimizer)
    perceptual = build_perceptual(config.loss.perceptual, config.loss.perceptual_weights, device)
    validation = Validation(store, config, perceptual, device)
    first, best, meter = 0, checkpoint.Best(), Meter()
    if begun is not None:
        checkpoint.load_weights(model, begun)
        checkpoint.load_optimizers(optimizers, model, begun)
        first, best, meter = read_progress(begun)

    loader = functools.partial(
        ClipLoader,
        store_path,
        "train",
        batch_size=training.batch_size,
        sequence_length=config.data.sequence_length,
        frame_skip=config.data.frame_skip,
        num_workers=config.data.num_workers,
        pin_memory=config.data.pin_memory,
        seed=training.seed,
        position=first * training.gradient_accumulation,
    )
    batches_per_epoch = loader().batches_per_epoch
    total = total_steps(training, batches_per_epoch)
    steps_per_epoch = max(1, batches_per_epoch // training.gradient_accumulation)
    length_of = functools.partial(clip_length, config=config, total=total)
    batches = iter(loader(clip_length=length_of))

    run.mkdir(parents=True, exist_ok=True)
    if begun is None:
        provenance.record(run, config, store_path, store.fingerprint, device)
    parameters = sum(p.numel() for p in model.parameters())
    with (
        closing(RunLogger(run, first)) as logger,
        Progress(first, total, steps_per_epoch, device) as progress,
        _interrupts() as interrupted,
    ):
        progress.say(
            f"{parameters:,} parameters, {store.image_size[0]}x{store.image_size[1]} px, {total} steps → {run}"
        )
        if best.step:
            progress.best(best.psnr, best.step // steps_per_epoch + 1)
        model.train()
        for step in range(first + 1, total + 1):
            set_learning_rates(optimizers, step - 1, total, config.scheduler)
            torch.manual_seed(training.seed * 1_000_003 + step)
            for _ in range(training.gradient_accumulation):
                batch = next(batches).to(device)
                for part in batch.split(clips_per_pass(batch)):
                    result = evaluate_batch(
                        model, part, config.loss, training.context_frames, perceptual, training.use_amp
                    )
                    share = len(part.images) / len(batch.images)
                    (result.loss * (share / training.gradient_accumulation)).backward()
                    meter.add({"loss": result.loss.detach(), **result.parts}, share)
            grad_norm = torch.nn.utils.clip_grad_norm_(model.parameters(), training.max_grad_norm)
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)

            figures: dict[str, float] = {}
            if step % logging.log_interval == 0 or step == total:
                figures = {f"train/{name}": value for name, value in meter.take().items()}
                figures |= {f"train/{n}": v for n, v in picture_metrics(result, training.context_frames).items()}
                figures["train/grad_norm"] = float(grad_norm)
                rates = learning_rates(optimizers)
                figures |= {"lr": max(rates.values()), **{f"lr/{part}": rate for part, rate in rates.items()}}
            evaluated = step % logging.eval_interval == 0 or step == total
            if evaluated:
                val_figures, samples = validation.run(model)
                figures |= val_figures
                logger.picture(step, "val/samples", samples)
                logger.picture(step, "train/reconstruction", reconstruction_sheet(result, logging.num_samples))
                shown = sample_sheet(result, training.context_frames, logging.num_samples)
                logger.picture(step, "train/prediction", shown)
            if figures:
                logger.scalars(step, figures)
            improved = evaluated and figures["val/psnr"] > best.psnr
            if improved:
                best = checkpoint.Best(step, figures["val/psnr"])
                progress.best(best.psnr, (step - 1) // steps_per_epoch + 1)
            if improved or interrupted or step % logging.save_interval == 0 or step == total:
                state = {"best": best._asdict(), "meter": meter.state(), "total_steps": total}
                folder = checkpoint.save(run, step, model, config, optimizers, state)
                if improved:
                    checkpoint.point(run, "best", folder)
            progress.advance(step, figures)
            if interrupted:
                progress.say(f"stopped after step {step}; --resume --run-dir {run} goes on from there")
                break
    return INTERRUPTED if interrupted else 0


def total_steps(training: TrainingConfig, batches_per_epoch: int) -> int:
    """Optimizer updates of a whole training: `num_epochs` passes or `max_steps`, whichever ends first."""
    by_epochs = max(1, training.num_epochs * batches_per_epoch // training.gradient_accumulation)
    return min(by_epochs, training.max_steps or by_epochs)


def clip_length(position: int, config: Config, total: int) -> int:
    """Frames of the clips of the batch at `position`: the context and the unroll of its step."""
    training = config.training
    step = position // training.gradient_accumulation
    longest = config.data.sequence_length - training.context_frames
    return training.context_frames + unroll_steps(step, total, training.unroll, longest)


@contextmanager
def _interrupts() -> Iterator[list[int]]:
    """A list that Ctrl-C fills, so that a step is finished and saved; a second Ctrl-C ends at once."""
    received: list[int] = []

    def note(number: int, frame: types.FrameType | None) -> None:
        received.append(number)
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield received
    finally:
        signal.signal(signal.SIGINT, before)
