"""Sharpness that a grid cannot fool: power spectra by octave and direction relative to real frames, and their peaks.

The mean gradient of an image counts every edge, also those of a pattern that no real frame has. The power spectrum of
natural images falls off smoothly with frequency (Field 1987): blur lowers the fine octaves, streaks raise one
direction, and a grid is a peak at one frequency, which no real scene has.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from daydrive.evaluation.metrics.intervals import Array, Bootstrap, interval

DIRECTIONS = ("horizontal", "vertical", "diagonal")
"""Directions in which the brightness varies, each a sector of 45° and its mirror images: upright edges vary
horizontally."""
MAX_OCTAVES = 4
ROUNDING = 1 / 12
"""Variance of rounding to levels: power below it is not distinguishable from none."""
PEAK, ERRORS = 10.0, 5.0
"""dB by which a frequency must stand out from its surroundings to be a peak, and the same in standard errors of a mean
over independent clips."""
LOG_DEVIATION, REAL_LOG_DEVIATION = 5.57, 9.65
"""Standard deviation in dB of the periodogram of noise, and of the same at frequencies where it has no phase."""
MAX_PEAKS = 5
STEP = 2.0**-10
"""Levels in dB are rounded to multiples of it, so that their sums are exact and independent of the order."""

_LUMA = (0.299, 0.587, 0.114)
_SURROUNDINGS = 3
"""Frequencies on each side of one whose median is the level of the surroundings."""


class Peak(NamedTuple):
    """x, y: cycles per pixel to the right and down. period: in pixels. excess: dB above the surroundings."""

    x: float
    y: float
    period: float
    excess: float


def octave_count(height: int, width: int) -> int:
    """Number of octaves in images of this size, of periods 2 to 4 pixels, 4 to 8, and so on; 0 if it is too small."""
    return max(0, min(MAX_OCTAVES, int(np.log2(max(1, min(height, width)))) - 2))


def power_spectra(frames: Tensor) -> Tensor:
    """Frames uint8 (N, 3, H, W) → float64 (N, H, W), in the order of `torch.fft.fft2`.

    Periodograms of the brightness (BT.601) with a Hann window, in levels² per frequency: white noise of variance v has
    the value v at each of them.
    """
    weights = torch.tensor(_LUMA, dtype=torch.float64)[:, None, None]
    levels = (frames.double() * weights).sum(1)
    height, width = levels.shape[-2:]
    window = _hann(height)[:, None] * _hann(width)
    mean = (levels * window).sum((-2, -1), keepdim=True) / window.sum()
    return torch.fft.fft2((levels - mean) * window).abs().square() / window.square().sum()


def band_powers(spectra: Tensor) -> Tensor:
    """Spectra (N, H, W) → float32 (N, octaves, 3): the mean power in each octave, finest first, and direction."""
    bands, counts = _bands(*spectra.shape[-2:])
    return (spectra.flatten(1) @ bands / counts).unflatten(1, (-1, len(DIRECTIONS))).float()


def decibels(power: npt.ArrayLike, reference: npt.ArrayLike) -> Array:
    """The ratio of two powers in dB, with the power of rounding added to both."""
    with np.errstate(invalid="ignore"):
        return np.asarray(10.0 * np.log10((np.asarray(power) + ROUNDING) / (np.asarray(reference) + ROUNDING)))


def log_spectra(spectra: Tensor) -> Array:
    """Spectra (N, H, W) in dB, rounded to multiples of `STEP`."""
    return np.round(10.0 * np.log10(spectra.numpy() + ROUNDING) / STEP) * STEP


def find_peaks(excess: Array, clips: int) -> list[Peak]:
    """The strongest frequencies that stand out from their surroundings, up to `MAX_PEAKS`.

    excess: (H, W), a mean log spectrum minus that of real frames, in dB. clips: number of independent clips in it.
    """
    height, width = excess.shape
    if octave_count(height, width) == 0:
        return []
    full = torch.from_numpy(excess)
    prominence = (full - _median_around(full)).numpy()
    threshold = _threshold(height, width, clips)
    largest_around = _around(torch.from_numpy(prominence), 1).amax(-1).numpy()
    lowest = 2.0 ** -(octave_count(height, width) + 1)
    peaks = []
    for row, column in np.argwhere((prominence >= largest_around) & (prominence >= threshold)).tolist():
        x, y = float(column / width), float((row / height + 0.5) % 1.0 - 0.5)
        twice = column in (0, width / 2)  # the spectrum is symmetric: the mirror image is in the same column
        if x > 0.5 or (twice and row > height / 2) or max(x, abs(y)) <= lowest:
            continue
        above = round(float(prominence[row, column]), 2)
        peaks.append(Peak(x, abs(y) if y == -0.5 else y, round(1 / math.hypot(x, y), 2), above))
    return sorted(peaks, key=lambda peak: -peak.excess)[:MAX_PEAKS]


def _threshold(height: int, width: int, clips: int) -> Array:
    """dB by which each frequency must stand out, (H, W)."""
    deviation = np.full((height, width), LOG_DEVIATION)
    ends = [[0, size // 2] if size % 2 == 0 else [0] for size in (height, width)]
    deviation[np.ix_(*ends)] = REAL_LOG_DEVIATION
    return np.maximum(PEAK, ERRORS * deviation * np.sqrt(2 / clips))


class ClipSpectrum(NamedTuple):
    """Of one clip of N steps. powers: float32 (N, octaves, 3) of the predicted and the real frames, by the names in
    `frame_metrics.npz`. log_sums: (bands, H, W), log spectra of the predicted minus those of the real frames, summed
    over the steps of each band."""

    powers: dict[str, Tensor]
    log_sums: Array


def clip_spectrum(predicted: Tensor, real: Tensor, bands: Sequence[tuple[int, int]]) -> ClipSpectrum:
    """predicted, real: uint8 (N, 3, H, W), one for each step. bands: first (from 0) and last step (exclusive)."""
    one, other = power_spectra(predicted), power_spectra(real)
    difference = log_spectra(one) - log_spectra(other)
    sums = np.stack([difference[start:end].sum(axis=0) for start, end in bands])
    return ClipSpectrum({"predicted_power": band_powers(one), "real_power": band_powers(other)}, sums)


class SpectrumAccumulator:
    """Sums of log spectra of predicted and real frames by band of steps, exact and therefore independent of the order.

    bands: first (from 0) and last step (exclusive) of each.
    """

    def __init__(self, bands: Sequence[tuple[int, int]]) -> None:
        self.bands = tuple(bands)
        self.sums: Array = np.zeros((0,))
        self.clips = 0

    def add(self, clip: ClipSpectrum) -> None:
        """Adds a clip, see `clip_spectrum`."""
        self._add(clip.log_sums, 1)

    def arrays(self) -> dict[str, Any]:
        """The sums, for a file; see `restore`."""
        return {"sums": self.sums, "clips": np.array(self.clips)}

    def restore(self, arrays: Mapping[str, Any]) -> None:
        """Adds the `arrays` of an accumulator of the same bands."""
        if arrays["clips"]:
            self._add(arrays["sums"], int(arrays["clips"]))

    def peaks(self) -> list[list[Peak]]:
        """The peaks of each band."""
        if not self.clips:
            return [[] for _ in self.bands]
        return [
            find_peaks(sums / (self.clips * (end - start)), self.clips)
            for sums, (start, end) in zip(self.sums, self.bands, strict=True)
        ]

    def _add(self, sums: Array, clips: int) -> None:
        self.sums = self.sums + sums if self.clips else sums
        self.clips += clips


def spectrum_metrics(
    predicted: Array, real: Array, bands: Sequence[tuple[int, int]], peaks: Sequence[Sequence[Peak]],
    draws: Bootstrap | None,
) -> dict[str, Any]:  # fmt: skip
    """For `evaluation.json`: the power of predicted frames relative to real ones, in dB.

    predicted, real: (clips, steps, octaves, 3), see `band_powers`. `periods`: of each octave, in pixels. `bands`: for
    each band of steps `octaves` with their `octaves_interval` over drives, `directions` for each octave in the order of
    `DIRECTIONS`, and `peaks`. `by_step`: for each octave, one value per step.
    """
    count = predicted.shape[2]
    entries = []
    for (start, end), found in zip(bands, peaks, strict=True):
        one, other = (values[:, start:end].mean(axis=1) for values in (predicted, real))
        bounds = None
        if draws is not None:
            low, high = interval(decibels(draws.means(one.mean(-1)), draws.means(other.mean(-1))))
            bounds = np.stack([low, high], axis=1).round(3).tolist()
        entries.append(
            {
                "first": start + 1,
                "last": end,
                "octaves": decibels(one.mean((0, -1)), other.mean((0, -1))).round(3).tolist(),
                "octaves_interval": bounds,
                "directions": decibels(one.mean(0), other.mean(0)).round(3).tolist(),
                "peaks": [peak._asdict() for peak in found],
            }
        )
    return {
        "periods": periods(count),
        "bands": entries,
        "by_step": decibels(predicted.mean((0, -1)), real.mean((0, -1))).T.round(3).tolist(),
    }


def periods(octaves: int) -> list[list[int]]:
    """The shortest and the longest period of each octave, in pixels."""
    return [[2 ** (k + 1), 2 ** (k + 2)] for k in range(octaves)]


def _hann(size: int) -> Tensor:
    return torch.hann_window(size, periodic=True, dtype=torch.float64) if size > 2 else torch.ones(size).double()


@lru_cache(maxsize=4)
def _bands(height: int, width: int) -> tuple[Tensor, Tensor]:
    """float64 (H * W, octaves * 3), 1 where a frequency belongs to a band, and the number of frequencies in each."""
    y, x = torch.meshgrid(*(torch.fft.fftfreq(n, dtype=torch.float64).abs() for n in (height, width)), indexing="ij")
    frequency, angle = torch.maximum(x, y), torch.atan2(y, x) * (180 / torch.pi)
    sectors = (angle < 22.5, angle > 67.5, (angle >= 22.5) & (angle <= 67.5))
    masks = [
        (frequency > 2.0 ** -(k + 2)) & (frequency <= 2.0 ** -(k + 1)) & sector
        for k in range(octave_count(height, width))
        for sector in sectors
    ]
    bands = torch.stack(masks, dim=-1).flatten(0, 1).double() if masks else torch.zeros(height * width, 0).double()
    return bands, bands.sum(0)


def _around(values: Tensor, radius: int) -> Tensor:
    """(H, W), periodic → (H, W, (2 radius + 1)²), the values around each frequency."""
    size = 2 * radius + 1
    padded = torch.nn.functional.pad(values[None, None], (radius,) * 4, mode="circular")
    return padded[0, 0].unfold(0, size, 1).unfold(1, size, 1).flatten(2)


def _median_around(values: Tensor) -> Tensor:
    return _around(values, _SURROUNDINGS).median(-1).values
