"""The training loop."""

from __future__ import annotations

import math
from pathlib import Path

import torch

from daydrive import checkpoint, provenance
from daydrive.config import Config
from daydrive.distributed import DistributedContext
from daydrive.training.checks import static_checks
from daydrive.training.context import TrainingContext, TrainOptions, build_context
from daydrive.training.interruption import exit_code, interruptions
from daydrive.training.logging.meter import Meter, ThroughputMeter
from daydrive.training.logging.run_reporter import RunReporter
from daydrive.training.nonfinite import nonfinite_error
from daydrive.training.optim.param_groups import learning_rates, set_learning_rates
from daydrive.training.step import ClipFrames
from daydrive.training.validation import image_metrics


def train(config: Config, store_path: Path, run: Path, dist: DistributedContext, options: TrainOptions) -> int:
    """Train until `max_steps` or `num_epochs`; returns the exit code, which tells the signal where one ended the
    training.

    All randomness is a function of (seed, step, rank), so a resumed run continues bit for bit. Raises UserError for
    invalid input before the first step.
    """
    context = build_context(config, store_path, run, dist, options)
    checks, messages = context.check(run)
    if options.dry_run:
        if dist.is_main:
            print("\n".join([*messages, static_checks.format_checks(checks)]))
        return 0
    messages.append(context.engine.precision.description())
    messages += [f"warning: {check.message}" for check in checks if check.outcome == "warning"]
    with RunReporter(run, context) as reporter:
        for message in messages:
            reporter.print_message(message)
        if context.resume_state.folder is None and dist.is_main:
            provenance.record(run, context.config, store_path, context.store.fingerprint, dist.device)
        return _loop(context, run, reporter)


def _loop(context: TrainingContext, run: Path, reporter: RunReporter) -> int:
    config, dist, engine = context.config, context.dist, context.engine
    resume_state, total = context.resume_state, context.total_steps
    training, logging = config.training, config.logging
    meter, best = resume_state.meter(dist.is_main), resume_state.best
    prefetcher, speed = context.prefetcher(), ThroughputMeter(dist, resume_state.clips_per_step)
    reporter.best(best)
    engine.wrapped.train()
    with interruptions() as interrupted:
        for step in range(resume_state.step + 1, total + 1):
            set_learning_rates(engine.optimizers, step - 1, total, config.scheduler)
            torch.manual_seed(step_seed(training.seed, step, dist.rank))
            with speed.step():
                batches = [context.augmented(next(prefetcher)) for _ in range(training.gradient_accumulation)]
                lanes = context.lanes(batches[0])
                for batch in batches:
                    for result in context.accumulate(batch, last=batch is batches[-1]):
                        meter.add(result.parts)
                grad_norm = engine.clip_gradients()
                if step % logging.histogram_interval == 0:
                    reporter.histograms(step, engine.model)
                if math.isfinite(grad_norm):
                    engine.update()
                    if lanes is not None:
                        meter.add(lanes.update_critic())
                elif engine.precision.may_overflow:
                    engine.skip()
                else:
                    raise nonfinite_error(run, step, batches, engine, context.store.path)

            metrics: dict[str, float] = {}
            logged = step % logging.log_interval == 0 or step == total
            evaluated = step % logging.eval_interval == 0 or step == total
            frames = engine.frames_of(result) if logged or evaluated else None
            if logged and frames is not None:
                metrics = {**_metrics(context, meter, frames, grad_norm), **speed.take(prefetcher.waited)}
                if lanes is not None:
                    metrics |= lanes.metrics()
            if evaluated and frames is not None:
                validated = context.validation.run(engine)
                metrics |= validated.metrics
                reporter.validated(step, validated, frames)
            # rollouts that last cost PSNR: while the model trains on them, the newest checkpoint is the best
            improved = evaluated and (metrics["val/psnr"] > best.psnr or context.among_self_rollouts(step))
            if improved:
                best = checkpoint.Best(step, metrics["val/psnr"])
                reporter.best(best)
            reporter.step_done(step, metrics)

            stop = int(dist.max(interrupted.number))
            if improved or stop or step % logging.save_interval == 0 or step == total:
                folder = _save(context, run, step, best, meter, reporter)
                if improved and dist.is_main:
                    checkpoint.set_pointer(run, "best", folder, logging.keep_checkpoints)
                reporter.saved(step, folder, ["last", "best"] if improved else ["last"])
            if stop:
                reporter.print_message(f"stopped after step {step}; --resume --run-dir {run} continues from there")
                return exit_code(stop)
    return 0


def step_seed(seed: int, step: int, rank: int) -> int:
    """Random seed of a step on one process, of dropout and `context_noise`; a pure function, so no state is saved."""
    return (seed * 1_000_003 + step) * 4_099 + rank


def _metrics(context: TrainingContext, meter: Meter, frames: ClipFrames, grad_norm: float) -> dict[str, float]:
    """Means of the losses since the last log line, and metrics of the newest step's images."""
    dist, engine = context.dist, context.engine
    images = image_metrics(frames)
    rates = learning_rates(engine.optimizers)
    return {
        **{f"train/{name}": value for name, value in meter.take(dist).items()},
        **dist.mean({f"train/{name}": float(value.mean()) for name, value in images.items()}),
        "train/grad_norm": grad_norm,
        **engine.precision.metrics(),
        "lr": max(rates.values()),
        **{f"lr/{part}": rate for part, rate in rates.items()},
    }


def _save(
    context: TrainingContext, run: Path, step: int, best: checkpoint.Best, meter: Meter, reporter: RunReporter
) -> Path:
    dist, resume_state, config = context.dist, context.resume_state, context.config
    state = {
        "best": best._asdict(),
        "meter": meter.state(dist),
        "total_steps": context.total_steps,
        "sample": resume_state.sample_of(step),
        "clips_per_step": resume_state.clips_per_step,
        "world": dist.world_size,
        "seeds_of_the_next_step": [step_seed(config.training.seed, step + 1, rank) for rank in range(dist.world_size)],
        **context.engine.state(),
        **reporter.state(),
    }
    writer = checkpoint.Writer(dist.is_main, dist.barrier)
    contents = context.engine.contents()
    if context.self_rollout is not None:
        contents = contents._replace(self_rollout=context.self_rollout.contents())
    return checkpoint.save(run, step, contents, config, state, config.logging.keep_checkpoints, writer)
