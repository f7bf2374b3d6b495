"""How the model does on drives it never trained on; each figure beside its floors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from daydrive import metrics
from daydrive.config import Config
from daydrive.data.clips import read_clips
from daydrive.data.loader import fixed_clips
from daydrive.data.store import Store
from daydrive.models import WorldModel
from daydrive.perceptual import Distance
from daydrive.pictures import contact_sheet, to_pictures
from daydrive.training.step import StepResult, evaluate_batch
from daydrive.types import Batch, Image, to_uint8

VALIDATION_CLIPS = 32


class Validation:
    """Fixed clips of the `val` split, dreamed over the whole clip."""

    def __init__(self, store: Store, config: Config, perceptual: Distance, device: torch.device) -> None:
        length, skip = config.data.sequence_length, config.data.frame_skip
        clips = fixed_clips(store, "val", length, VALIDATION_CLIPS, skip)
        size = min(config.training.batch_size, len(clips))
        whole = read_clips(store, clips)
        others = whole.actions.roll(len(clips) // 2, dims=0)
        context = config.training.context_frames
        wrong = torch.cat([whole.actions[:, : context - 1], others[:, context - 1 :]], dim=1)
        self._batches = [
            (Batch(whole.images[i : i + size], whole.actions[i : i + size]), wrong[i : i + size])
            for i in range(0, len(clips), size)
        ]
        self._clips = len(clips)
        self._config, self._perceptual, self._device = config, perceptual, device

    @torch.no_grad()
    def run(self, model: WorldModel) -> tuple[dict[str, float], Image]:
        """Means over the clips by name (`val/…`), and a sheet of samples."""
        context = self._config.training.context_frames
        sums: dict[str, float] = {}
        sheet: Image | None = None
        was_training = model.training
        model.eval()
        for cpu_batch, wrong in self._batches:
            batch = cpu_batch.to(self._device)
            result = self._evaluate(model, batch)
            shuffled = self._evaluate(model, Batch(batch.images, wrong.to(self._device)))
            real = result.images[:, context:]
            copied = result.images[:, context - 1 : context].expand_as(real)
            figures = {
                **{name: float(part) for name, part in result.parts.items()},
                "loss": float(result.loss),
                **picture_metrics(result, context),
                "copy_last_psnr": float(metrics.psnr(copied, real, 2.0).mean()),
                "shuffled_actions_psnr": float(metrics.psnr(clamped(shuffled), real, 2.0).mean()),
            }
            for name, value in figures.items():
                sums[name] = sums.get(name, 0.0) + value * len(batch.images)
            if sheet is None:
                sheet = sample_sheet(result, context, self._config.logging.num_samples)
        model.train(was_training)
        assert sheet is not None
        return {f"val/{name}": value / self._clips for name, value in sums.items()}, sheet

    def _evaluate(self, model: WorldModel, batch: Batch) -> StepResult:
        training = self._config.training
        return evaluate_batch(
            model, batch, self._config.loss, training.context_frames, self._perceptual, training.use_amp
        )


def picture_metrics(result: StepResult, context: int) -> dict[str, float]:
    """PSNR and SSIM of the dream, and PSNR of what was reconstructed: means over frames."""
    real = result.images[:, context:]
    predicted = clamped(result)
    painted = result.output["reconstructed"].detach().float()
    seen = result.images[:, result.output["reconstructed_frames"]]
    return {
        "psnr": float(metrics.psnr(predicted, real, 2.0).mean()),
        "ssim": float(metrics.ssim(predicted, real, 2.0).mean()),
        "recon_psnr": float(metrics.psnr(painted, seen, 2.0).mean()),
    }


def clamped(result: StepResult) -> Tensor:
    return result.output["predicted"].detach().float().clamp(-1, 1)


def sample_sheet(result: StepResult, context: int, samples: int) -> Image:
    """Real frames above dreamed ones, `samples` clips."""
    return _pairs(result.images[:samples, context:], clamped(result)[:samples], "dreamed")


def reconstruction_sheet(result: StepResult, samples: int) -> Image:
    """Real frames above those painted from their latents, `samples` clips."""
    seen = result.images[:samples, result.output["reconstructed_frames"]]
    return _pairs(seen, result.output["reconstructed"][:samples].detach(), "painted")


def _pairs(real: Tensor, ours: Tensor, name: str) -> Image:
    rows: list[Sequence[Image]] = []
    labels = []
    for r, o in zip(to_pictures(to_uint8(real)), to_pictures(to_uint8(ours)), strict=True):
        rows += [list(r), list(o)]
        labels += ["real", name]
    return contact_sheet(rows, labels, [f"{i + 1}" for i in range(len(rows[0]))])
