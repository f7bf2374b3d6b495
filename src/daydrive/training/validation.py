"""Validation on held-out clips: metrics beside their baselines, and samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from daydrive import metrics
from daydrive.config import Config
from daydrive.data.sampling.clips import ClipIndex, read_clips
from daydrive.data.store.store import Store
from daydrive.distributed import DistributedContext
from daydrive.training.engine import Engine
from daydrive.training.step import ClipFrames, StepResult
from daydrive.types import Batch, Clip, Image, to_uint8
from daydrive.viz.images import Images, contact_sheet, to_images

VALIDATION_CLIPS, TRAINING_CLIPS = 32, 32


class ValidationResult(NamedTuple):
    """metrics: means over the clips by name (`val/…`). sheet, video: samples beside the real frames and the copied last
    frame."""

    metrics: dict[str, float]
    sheet: Image
    video: Images


class _ValidationBatch(NamedTuple):
    """batch: clips of this process. shuffled_actions: actions of other clips after the context. counts: 1 for a clip
    that counts, 0 for padding."""

    batch: Batch
    shuffled_actions: Tensor
    counts: Tensor


class Validation:
    """Validates on fixed clips of `clips`, predicted from the context to the clip's end, and of `train_clips`, to
    measure overfitting. The clips are divided among the processes."""

    def __init__(self, clips: ClipIndex, train_clips: ClipIndex, config: Config, dist: DistributedContext) -> None:
        self._config, self._dist = config, dist
        size = config.training.batch_size
        context = config.training.context_frames
        held_out, trained = clips.spread(VALIDATION_CLIPS), train_clips.spread(TRAINING_CLIPS)
        self._clips, self._train_clips = len(held_out), len(trained)
        self._batches = _validation_batches(clips.store, held_out, context, dist, size)
        self._train_batches = _validation_batches(train_clips.store, trained, context, dist, size)

    @torch.no_grad()
    def run(self, engine: Engine) -> ValidationResult:
        """Validate the weights that are exported. Every process has to call it."""
        was_training = engine.wrapped.training
        engine.wrapped.eval()
        with engine.ema_weights():
            sums: dict[str, float] = {}
            output_max = 0.0
            sampled: ClipFrames | None = None
            for part in self._batches:
                batch = part.batch.to(self._dist.device)
                result, frames = self._evaluate(engine, batch)
                _, shuffled = self._evaluate(engine, Batch(batch.images, part.shuffled_actions.to(self._dist.device)))
                for images in (frames.predicted, frames.reconstructed):
                    output_max = max(output_max, float(images.abs().max()))
                _add(sums, self._metrics(result, frames, shuffled, part), part.counts)
                sampled = sampled or frames
            train_sums: dict[str, float] = {}
            for part in self._train_batches:
                _, frames = self._evaluate(engine, part.batch.to(self._dist.device))
                _add(train_sums, {"train_psnr": _psnr(frames)}, part.counts)
        engine.wrapped.train(was_training)
        assert sampled is not None
        means = {name: value / self._clips for name, value in self._dist.sum(sums).items()}
        means |= {name: value / self._train_clips for name, value in self._dist.sum(train_sums).items()}
        means["output_max"] = self._dist.max(output_max)
        samples = self._config.logging.num_samples
        return ValidationResult(
            {f"val/{name}": value for name, value in means.items()},
            sample_sheet(sampled, samples),
            sample_video(sampled, samples),
        )

    def _evaluate(self, engine: Engine, batch: Batch) -> tuple[StepResult, ClipFrames]:
        """The random numbers that a loss draws are the same at every validation."""
        with torch.random.fork_rng([batch.images.device] if batch.images.is_cuda else []):
            torch.manual_seed(self._config.training.seed)
            result = engine.evaluate(batch)
        return result, engine.frames_of(result)

    def _metrics(
        self, result: StepResult, frames: ClipFrames, shuffled: ClipFrames, part: _ValidationBatch
    ) -> dict[str, Tensor]:
        """Metrics by name, (B,) each."""
        difference = part.batch.actions - part.shuffled_actions
        copied = frames.images[:, frames.context - 1, None].expand_as(frames.real)
        return {
            **result.parts,
            **image_metrics(frames),
            "copy_last_psnr": metrics.psnr(copied, frames.real, 2.0).mean(dim=1),
            "shuffled_actions_psnr": _psnr(shuffled),
            "actions_spread": difference[:, frames.context - 1 :].abs().mean(dim=(1, 2)),
        }


def _psnr(frames: ClipFrames) -> Tensor:
    return metrics.psnr(clamped(frames), frames.real, 2.0).mean(dim=1)


def _validation_batches(
    store: Store, clips: list[Clip], context: int, dist: DistributedContext, size: int
) -> list[_ValidationBatch]:
    """This process's share of the clips, in batches of `size`. Every process gets the same number, since they compute
    together."""
    actions = read_clips(store, clips).actions
    others = actions.roll(len(clips) // 2, dims=0)
    shuffled = torch.cat([actions[:, : context - 1], others[:, context - 1 :]], dim=1)
    per_process = -(-len(clips) // dist.world_size)
    share = [dist.rank + dist.world_size * i for i in range(per_process)]
    indices = [min(index, len(clips) - 1) for index in share]
    counts = torch.tensor([float(index < len(clips)) for index in share])
    read = read_clips(store, [clips[index] for index in indices])
    batches = []
    for i in range(0, per_process, size):
        rows = slice(i, i + size)
        batch = Batch(read.images[rows], read.actions[rows])
        batches.append(_ValidationBatch(batch, shuffled[indices[rows]], counts[rows]))
    return batches


def _add(sums: dict[str, float], metrics: dict[str, Tensor], counts: Tensor) -> None:
    for name, values in metrics.items():
        sums[name] = sums.get(name, 0.0) + float((values.cpu().double() * counts).sum())


def image_metrics(frames: ClipFrames) -> dict[str, Tensor]:
    """PSNR and SSIM of the predicted frames and PSNR of the reconstructed ones, (B,): means over the frames of each
    clip."""
    predicted, real = clamped(frames), frames.real
    return {
        "psnr": metrics.psnr(predicted, real, 2.0).mean(dim=1),
        "ssim": metrics.ssim(predicted, real, 2.0).mean(dim=1),
        "recon_psnr": metrics.psnr(frames.reconstructed.float(), frames.seen, 2.0).mean(dim=1),
    }


def clamped(frames: ClipFrames) -> Tensor:
    return frames.predicted.float().clamp(-1, 1)


def sample_sheet(frames: ClipFrames, samples: int) -> Image:
    """Real frames above predicted ones, `samples` clips."""
    return _pairs(frames.real[:samples], clamped(frames)[:samples], "predicted")


def reconstruction_sheet(frames: ClipFrames, samples: int) -> Image:
    """Real frames above reconstructed ones, `samples` clips."""
    return _pairs(frames.seen[:samples], frames.reconstructed[:samples], "reconstructed")


def _pairs(real: Tensor, generated: Tensor, name: str) -> Image:
    rows: list[Sequence[Image]] = []
    labels = []
    for real_row, generated_row in zip(to_images(to_uint8(real)), to_images(to_uint8(generated)), strict=True):
        rows += [list(real_row), list(generated_row)]
        labels += ["real", name]
    return contact_sheet(rows, labels, [f"{i + 1}" for i in range(len(rows[0]))])


def sample_video(frames: ClipFrames, samples: int) -> Images:
    """uint8 (T, H', W', 3): a row per clip with the real frame, the predicted one and the copied last context frame."""
    real = to_images(to_uint8(frames.images[:samples, frames.context - 1 :]))
    predicted = to_images(to_uint8(clamped(frames)[:samples]))
    images = [
        contact_sheet(
            [[r[t + 1], p[t], r[0]] for r, p in zip(real, predicted, strict=True)],
            [f"{i + 1}" for i in range(len(real))],
            ["real", "predicted", "copied"],
            height=max(64, real.shape[-3] // 2),
        )
        for t in range(predicted.shape[1])
    ]
    return np.stack(images)
