"""Speed of PSNR and SSIM: a whole clip at a time, against torchmetrics frame by frame."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from daydrive.benchmarks.findings import Findings, Target
from daydrive.benchmarks.interleaved_timing import QUICK, THOROUGH, least, time_interleaved
from daydrive.evaluation.metrics.frame_metrics import UINT8_RANGE
from daydrive.metrics import psnr, ssim

TARGETS = {
    "measures": Target(3.0, True, "clips per second of PSNR and SSIM, over torchmetrics frame by frame"),
}
SIZE, STEPS = 64, 50
CLIPS = 4

Clips = list[tuple[Tensor, Tensor, Tensor]]
"""Real, predicted and copied frames, uint8 (N, 3, H, W) each."""


def measures_ratio(quick: bool) -> Findings:
    """PSNR and SSIM of predicted and of copied frames, on clips of 50 steps at 64x64, with one thread.

    `measures`: clips per second relative to torchmetrics, whose metrics are updated, computed and reset for each frame.
    """
    try:
        run_torchmetrics = _torchmetrics()
    except ImportError:
        return Findings(not_measured={"measures": "torchmetrics is not installed; pip install 'daydrive[test]'"})
    clips, threads = _clips(1 if quick else CLIPS), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        runs = {"ours": partial(_daydrive, clips), "torchmetrics": partial(run_torchmetrics, clips)}
        seconds = time_interleaved(runs, QUICK if quick else THOROUGH._replace(seconds=0), torch.device("cpu"))
    finally:
        torch.set_num_threads(threads)
    best = least(seconds)
    raw = {"clips": len(clips), "steps": STEPS, "image_size": [SIZE, SIZE], "seconds": seconds}
    return Findings({"measures": best["torchmetrics"] / best["ours"]}, {"measures": raw})


def _daydrive(clips: Clips) -> None:
    for real, predicted, copied in clips:
        for images in (predicted, copied):
            psnr(images, real, UINT8_RANGE)
            ssim(images, real, UINT8_RANGE)


def _torchmetrics() -> Callable[[Clips], None]:
    """A straightforward loop with torchmetrics; raises ImportError if it is not installed."""
    from torchmetrics.image import PeakSignalNoiseRatio, StructuralSimilarityIndexMeasure

    metrics = [PeakSignalNoiseRatio(data_range=UINT8_RANGE), StructuralSimilarityIndexMeasure(data_range=UINT8_RANGE)]

    def run(clips: Clips) -> None:
        for real, predicted, copied in clips:
            for images in (predicted, copied):
                for one, other in zip(images, real, strict=True):
                    for metric in metrics:
                        metric.update(one[None].float(), other[None].float())
                        metric.compute()
                        metric.reset()

    return run


def _clips(count: int) -> Clips:
    generator = torch.Generator().manual_seed(0)
    shape = (count, 2, STEPS, 3, SIZE, SIZE)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    return [(real, predicted, real[:1].expand_as(real)) for real, predicted in images]
