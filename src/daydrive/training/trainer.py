"""The training loop."""

from __future__ import annotations

import math
from pathlib import Path

import torch

from daydrive import checkpoint, provenance
from daydrive.config import Config
from daydrive.distributed import DistributedContext
from daydrive.training.checks import static_checks
from daydrive.training.interruption import exit_code, interruptions
from daydrive.training.logging.meter import Meter, ThroughputMeter
from daydrive.training.logging.run_reporter import Report
from daydrive.training.nonfinite import nonfinite_error
from daydrive.training.optim.param_groups import learning_rates, set_learning_rates
from daydrive.training.setup import TrainingContext, TrainOptions, set_up
from daydrive.training.step import ClipFrames
from daydrive.training.validation import image_metrics


def train(config: Config, store_path: Path, run: Path, dist: DistributedContext, options: TrainOptions) -> int:
    """Train until `max_steps` or `num_epochs`; returns the exit code, that of the signal where one ended it.

    Everything random is a function of (seed, step, rank), so that going on after a kill is arithmetic. Raises UserError
    for what the user can mend, before the first step.
    """
    setup = set_up(config, store_path, run, dist, options)
    checks, said = setup.check(run)
    if options.dry_run:
        if dist.is_main:
            print("\n".join([*said, static_checks.report(checks)]))
        return 0
    said += [f"warning: {check.said}" for check in checks if check.outcome == "warning"]
    with Report(run, setup) as report:
        for sentence in said:
            report.say(sentence)
        if setup.start.folder is None and dist.is_main:
            provenance.record(run, setup.config, store_path, setup.store.fingerprint, dist.device)
        return _loop(setup, run, report)


def _loop(setup: TrainingContext, run: Path, report: Report) -> int:
    config, dist, start, engine, total = setup.config, setup.dist, setup.start, setup.engine, setup.total_steps
    training, logging = config.training, config.logging
    meter, best = start.meter(dist.is_main), start.best
    prefetcher, speed = setup.prefetcher(), ThroughputMeter(dist, start.clips_per_step)
    report.best(best)
    engine.wrapped.train()
    with interruptions() as interrupted:
        for step in range(start.step + 1, total + 1):
            set_learning_rates(engine.optimizers, step - 1, total, config.scheduler)
            torch.manual_seed(step_seed(training.seed, step, dist.rank))
            with speed.step():
                batches = [setup.augment(next(prefetcher)) for _ in range(training.gradient_accumulation)]
                for batch in batches:
                    for result in engine.accumulate(batch, last=batch is batches[-1]):
                        meter.add(result.parts)
                norm = engine.clip_gradients()
                if step % logging.histogram_interval == 0:
                    report.histograms(step, engine.model)
                if math.isfinite(norm):
                    engine.update()
                elif engine.precision.may_overflow:
                    engine.skip()
                else:
                    raise nonfinite_error(run, step, batches, engine, setup.store.path)

            metrics: dict[str, float] = {}
            logged = step % logging.log_interval == 0 or step == total
            evaluated = step % logging.eval_interval == 0 or step == total
            frames = engine.frames_of(result) if logged or evaluated else None
            if logged and frames is not None:
                metrics = {**_metrics(setup, meter, frames, norm), **speed.take(prefetcher.waited)}
            if evaluated and frames is not None:
                validated = setup.validation.run(engine)
                metrics |= validated.metrics
                report.validated(step, validated, frames)
            improved = evaluated and metrics["val/psnr"] > best.psnr
            if improved:
                best = checkpoint.Best(step, metrics["val/psnr"])
                report.best(best)
            report.step_done(step, metrics)

            stop = int(dist.max(interrupted.number))
            if improved or stop or step % logging.save_interval == 0 or step == total:
                folder = _save(setup, run, step, best, meter, report)
                if improved and dist.is_main:
                    checkpoint.point(run, "best", folder, logging.keep_checkpoints)
                report.saved(step, folder, ["last", "best"] if improved else ["last"])
            if stop:
                report.say(f"stopped after step {step}; --resume --run-dir {run} goes on from there")
                return exit_code(stop)
    return 0


def step_seed(seed: int, step: int, rank: int) -> int:
    """Of all that is random in a step on one process: dropout. A pure function, so nothing has to be kept."""
    return (seed * 1_000_003 + step) * 4_099 + rank


def _metrics(setup: TrainingContext, meter: Meter, frames: ClipFrames, norm: float) -> dict[str, float]:
    """Means since the last log line, and what the newest step looks like."""
    dist, engine = setup.dist, setup.engine
    images = image_metrics(frames)
    rates = learning_rates(engine.optimizers)
    return {
        **{f"train/{name}": value for name, value in meter.take(dist).items()},
        **dist.mean({f"train/{name}": float(value.mean()) for name, value in images.items()}),
        "train/grad_norm": norm,
        **engine.precision.metrics(),
        "lr": max(rates.values()),
        **{f"lr/{part}": rate for part, rate in rates.items()},
    }


def _save(setup: TrainingContext, run: Path, step: int, best: checkpoint.Best, meter: Meter, report: Report) -> Path:
    dist, start, config = setup.dist, setup.start, setup.config
    state = {
        "best": best._asdict(),
        "meter": meter.state(dist),
        "total_steps": setup.total_steps,
        "sample": start.sample_of(step),
        "clips_per_step": start.clips_per_step,
        "world": dist.world,
        "seeds_of_the_next_step": [step_seed(config.training.seed, step + 1, rank) for rank in range(dist.world)],
        **setup.engine.state(),
        **report.state(),
    }
    writer = checkpoint.Writer(dist.is_main, dist.barrier)
    return checkpoint.save(run, step, setup.engine.contents(), config, state, config.logging.keep_checkpoints, writer)
