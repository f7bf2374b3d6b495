"""How the model does on drives it never trained on; each figure beside its floors."""

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


class Validated(NamedTuple):
    """figures: means over the clips by name (`val/…`); sheet and video: samples beside the real frames and the copy."""

    metrics: dict[str, float]
    sheet: Image
    video: Images


class _Piece(NamedTuple):
    """batch: some clips of this process; wrong: actions of other clips; counts: 0 for a clip that only fills up."""

    batch: Batch
    wrong: Tensor
    counts: Tensor


class Validation:
    """Fixed clips of `clips`, dreamed over the whole clip, and of `known` ones, to see what was learned by heart.
    Several processes share the clips; each counts once."""

    def __init__(self, clips: ClipIndex, known: ClipIndex, config: Config, dist: DistributedContext) -> None:
        self._config, self._dist = config, dist
        size = config.training.batch_size
        context = config.training.context_frames
        held_out, trained = clips.spread(VALIDATION_CLIPS), known.spread(TRAINING_CLIPS)
        self._clips, self._known_clips = len(held_out), len(trained)
        self._pieces = _pieces(clips.store, held_out, context, dist, size)
        self._known = _pieces(known.store, trained, context, dist, size)

    @torch.no_grad()
    def run(self, engine: Engine) -> Validated:
        """Validate the weights that are exported; all processes call it."""
        was_training = engine.wrapped.training
        engine.wrapped.eval()
        with engine.ema_weights():
            sums: dict[str, float] = {}
            largest = 0.0
            shown: ClipFrames | None = None
            for piece in self._pieces:
                batch = piece.batch.to(self._dist.device)
                result, frames = self._evaluated(engine, batch)
                _, shuffled = self._evaluated(engine, Batch(batch.images, piece.wrong.to(self._dist.device)))
                for images in (frames.predicted, frames.reconstructed):
                    largest = max(largest, float(images.abs().max()))
                _add(sums, self._metrics(result, frames, shuffled, piece), piece.counts)
                shown = shown or frames
            known: dict[str, float] = {}
            for piece in self._known:
                _, frames = self._evaluated(engine, piece.batch.to(self._dist.device))
                _add(known, {"train_psnr": _psnr(frames)}, piece.counts)
        engine.wrapped.train(was_training)
        assert shown is not None
        means = {name: value / self._clips for name, value in self._dist.sum(sums).items()}
        means |= {name: value / self._known_clips for name, value in self._dist.sum(known).items()}
        means["output_max"] = self._dist.max(largest)
        samples = self._config.logging.num_samples
        return Validated(
            {f"val/{name}": value for name, value in means.items()},
            sample_sheet(shown, samples),
            sample_video(shown, samples),
        )

    def _evaluated(self, engine: Engine, batch: Batch) -> tuple[StepResult, ClipFrames]:
        """What a loss draws is the same at every validation."""
        with torch.random.fork_rng([batch.images.device] if batch.images.is_cuda else []):
            torch.manual_seed(self._config.training.seed)
            result = engine.evaluate(batch)
        return result, engine.frames_of(result)

    def _metrics(
        self, result: StepResult, frames: ClipFrames, shuffled: ClipFrames, piece: _Piece
    ) -> dict[str, Tensor]:
        """By name, (B,) each."""
        copied = frames.images[:, frames.context - 1, None].expand_as(frames.real)
        return {
            **result.parts,
            **image_metrics(frames),
            "copy_last_psnr": metrics.psnr(copied, frames.real, 2.0).mean(dim=1),
            "shuffled_actions_psnr": _psnr(shuffled),
            "actions_spread": (piece.batch.actions - piece.wrong)[:, frames.context - 1 :].abs().mean(dim=(1, 2)),
        }


def _psnr(frames: ClipFrames) -> Tensor:
    return metrics.psnr(clamped(frames), frames.real, 2.0).mean(dim=1)


def _pieces(store: Store, clips: list[Clip], context: int, dist: DistributedContext, size: int) -> list[_Piece]:
    """This process's share of the clips, in batches; equally many on each, for they compute together."""
    actions = read_clips(store, clips).actions
    others = actions.roll(len(clips) // 2, dims=0)
    wrong = torch.cat([actions[:, : context - 1], others[:, context - 1 :]], dim=1)
    each = -(-len(clips) // dist.world)
    mine = [dist.rank + dist.world * i for i in range(each)]
    places = [min(place, len(clips) - 1) for place in mine]
    counts = torch.tensor([float(place < len(clips)) for place in mine])
    read = read_clips(store, [clips[place] for place in places])
    pieces = []
    for i in range(0, each, size):
        part = slice(i, i + size)
        batch = Batch(read.images[part], read.actions[part])
        pieces.append(_Piece(batch, wrong[places[part]], counts[part]))
    return pieces


def _add(sums: dict[str, float], metrics: dict[str, Tensor], counts: Tensor) -> None:
    for name, values in metrics.items():
        sums[name] = sums.get(name, 0.0) + float((values.cpu().double() * counts).sum())


def image_metrics(frames: ClipFrames) -> dict[str, Tensor]:
    """PSNR and SSIM of the rollout, and PSNR of what was reconstructed, per clip: (B,), means over frames."""
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


def _pairs(real: Tensor, ours: Tensor, name: str) -> Image:
    rows: list[Sequence[Image]] = []
    labels = []
    for r, o in zip(to_images(to_uint8(real)), to_images(to_uint8(ours)), strict=True):
        rows += [list(r), list(o)]
        labels += ["real", name]
    return contact_sheet(rows, labels, [f"{i + 1}" for i in range(len(rows[0]))])


def sample_video(frames: ClipFrames, samples: int) -> Images:
    """(T, H', W', 3): a row for each clip with the real frame, the predicted one and the copy of the last seen one."""
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
