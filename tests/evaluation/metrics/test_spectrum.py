"""Power spectra compared with numpy and with Parseval's theorem; bands, directions and peaks of planted patterns."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from daydrive.evaluation.metrics.intervals import Array, bootstrap
from daydrive.evaluation.metrics.spectrum import (
    DIRECTIONS,
    Peak,
    SpectrumAccumulator,
    band_powers,
    clip_spectrum,
    decibels,
    find_peaks,
    log_spectra,
    octave_count,
    power_spectra,
    spectrum_metrics,
)

SIZE = 64


def noise(seed: int, frames: int = 8, spread: float = 20.0) -> Tensor:
    levels = torch.randn(frames, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(seed)) * spread + 128
    return levels.clamp(0, 255).round().to(torch.uint8).expand(-1, 3, -1, -1).contiguous()


def scenes(seed: int, frames: int = 8) -> Tensor:
    """Images whose spectrum falls off with the frequency, as that of natural scenes."""
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(SIZE), np.fft.fftfreq(SIZE)))
    falling = np.fft.fft2(np.random.default_rng(seed).normal(size=(frames, SIZE, SIZE))) / np.maximum(frequency, 0.01)
    levels = torch.from_numpy(np.fft.ifft2(falling).real)
    levels = levels / levels.std() * 40 + 128
    return levels.clamp(0, 255).round().to(torch.uint8)[:, None].expand(-1, 3, -1, -1).contiguous()


def painted(frames: Tensor, pattern: Tensor) -> Tensor:
    return (frames.double() + pattern).clamp(0, 255).round().to(torch.uint8)


def wave(x: float, y: float, levels: float) -> Tensor:
    rows, columns = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    return levels * torch.cos(2 * torch.pi * (x * columns + y * rows))


def powers(frames: Tensor) -> Array:
    """(octaves, 3), mean over the frames."""
    return band_powers(power_spectra(frames)).double().mean(0).numpy()


def excess(predicted: Tensor, real: Tensor) -> Array:
    one, other = (log_spectra(power_spectra(frames)).mean(axis=0) for frames in (predicted, real))
    return np.asarray(one - other)


def test_spectra_agree_with_numpy() -> None:
    frames = torch.randint(0, 256, (2, 3, 12, 20), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    levels = np.tensordot([0.299, 0.587, 0.114], frames.numpy().astype(np.float64), axes=(0, 1))
    window = np.outer(np.hanning(13)[:-1], np.hanning(21)[:-1])
    levels -= ((levels * window).sum((1, 2)) / window.sum())[:, None, None]
    expected = np.abs(np.fft.fft2(levels * window)) ** 2 / (window**2).sum()
    assert power_spectra(frames).numpy() == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_noise_has_its_variance_in_every_band() -> None:
    assert powers(noise(0, 200)) == pytest.approx(np.full((4, 3), 400.0), rel=0.15)
    assert log_spectra(power_spectra(noise(0, 40))).std(axis=0).mean() == pytest.approx(5.57, rel=0.05)


@pytest.mark.parametrize(
    ("x", "y", "octave", "direction"),
    [
        (3 / 8, 0, 0, "horizontal"),
        (0, 3 / 16, 1, "vertical"),
        (3 / 32, -3 / 32, 2, "diagonal"),
        (0.5, 0.5, 0, "diagonal"),
    ],
)
def test_a_wave_is_in_its_octave_and_direction(x: float, y: float, octave: int, direction: str) -> None:
    grey = torch.full((1, 3, SIZE, SIZE), 128, dtype=torch.uint8)
    found = powers(painted(grey, wave(x, y, 20)))
    assert np.unravel_index(found.argmax(), found.shape) == (octave, DIRECTIONS.index(direction))
    assert found.max() > 20 * (found.sum() - found.max())


def test_blur_lowers_fine_octaves_and_streaks_raise_one_direction() -> None:
    real = scenes(0)
    blurred = torch.nn.functional.avg_pool2d(real.float(), 3, 1, 1, count_include_pad=False).round().to(torch.uint8)
    ratios = decibels(powers(blurred).mean(-1), powers(real).mean(-1))
    assert ratios[0] < -8 and ratios[0] < ratios[1] < ratios[2] < ratios[3] < 0
    columns = torch.randn(SIZE, generator=torch.Generator().manual_seed(1)) * 30
    streaks = decibels(powers(painted(real, columns)), powers(real))
    assert (streaks[:2, 0] > 6).all() and np.abs(streaks[:2, 1]).max() < 3


def test_ratio_is_finite_for_empty_images_and_zero_for_equal_ones() -> None:
    black = torch.zeros(2, 3, SIZE, SIZE, dtype=torch.uint8)
    assert (decibels(powers(black), powers(black)) == 0).all()
    assert np.isfinite(decibels(powers(black), powers(scenes(0)))).all()
    assert [octave_count(n, n) for n in (256, 128, 64, 32, 16, 8, 4, 1)] == [4, 4, 4, 3, 2, 1, 0, 0]
    assert band_powers(power_spectra(black[..., :4, :4])).shape == (2, 0, 3)
    assert find_peaks(np.zeros((4, 4)), 1) == []


def lines(period: int, levels: float) -> Tensor:
    pattern = torch.zeros(SIZE, SIZE)
    pattern[::period] = pattern[:, ::period] = levels
    return pattern - pattern.mean()


@pytest.mark.parametrize("period", [2, 3, 4, 8])
def test_a_grid_is_a_peak(period: int) -> None:
    real, other = scenes(0), scenes(1)
    peaks = find_peaks(excess(painted(other, lines(period, 24)), real), len(real))
    assert peaks
    for peak in peaks:
        for frequency in (peak.x, peak.y):
            assert abs(frequency * period - round(frequency * period)) < period / SIZE, "a harmonic"


@pytest.mark.parametrize(("x", "y"), [(0.25, 0.125), (0.25, -0.125), (0.5, 0.25), (0.0, 0.5), (0.5, 0.5), (0.125, 0.0)])
def test_a_peak_has_its_frequency(x: float, y: float) -> None:
    (peak,) = find_peaks(excess(painted(scenes(1), wave(x, y, 10)), scenes(0)), 8)
    assert isinstance(peak, Peak) and (peak.x, peak.y) == pytest.approx((x, y))
    assert peak.period == pytest.approx(1 / np.hypot(x, y), abs=0.01) and peak.excess > 15


def test_other_scenes_blur_and_noise_have_no_peaks() -> None:
    for seed in range(8):
        real, other = scenes(2 * seed), scenes(2 * seed + 1)
        blurred = torch.nn.functional.avg_pool2d(other.float(), 3, 1, 1).round().to(torch.uint8)
        noisy = painted(other, noise(seed)[:, :1].double() - 128)
        for predicted in (
            other,
            blurred,
            noisy,
            other[:1].expand_as(other),
        ):
            clips = 1 if predicted.stride(0) == 0 else len(other)
            assert not find_peaks(excess(predicted, real), clips)


def test_sums_do_not_depend_on_order_and_partition() -> None:
    bands = ((0, 3), (3, 8))
    clips = [(scenes(k), scenes(k + 1)) for k in range(5)]
    spectra = [clip_spectrum(*clip, bands) for clip in clips]

    def summed(order: list[int]) -> SpectrumAccumulator:
        accumulator = SpectrumAccumulator(bands)
        for k in order:
            accumulator.add(spectra[k])
        return accumulator

    whole, parts = summed([0, 1, 2, 3, 4]), SpectrumAccumulator(bands)
    for order in ([4, 1], [], [3], [0, 2]):
        parts.restore(summed(order).arrays())
    assert np.array_equal(parts.sums, whole.sums) and parts.clips == whole.clips == 5
    late = whole.sums[1] / (5 * 5)
    by_hand = np.mean([excess(a[3:], b[3:]) for a, b in clips], axis=0)
    assert torch.equal(spectra[0].powers["real_power"], band_powers(power_spectra(clips[0][1])))
    assert late == pytest.approx(by_hand, abs=1e-9)
    assert SpectrumAccumulator(bands).peaks() == [[], []]


def test_metrics_of_the_evaluation() -> None:
    real = np.stack([band_powers(power_spectra(scenes(k))).numpy() for k in range(4)]).astype(np.float64)
    predicted = real.copy()
    predicted[:, 5:, 0] /= 100
    draws = bootstrap(["a", "a", "b", "c"])
    found = spectrum_metrics(predicted, real, ((0, 5), (5, 8)), ([], [Peak(0.5, 0, 2.0, 30.0)]), draws)
    early, late = found["bands"]
    assert (early["first"], early["last"], late["first"], late["last"]) == (1, 5, 6, 8)
    assert early["octaves"] == [0.0] * 4 and late["octaves"][0] == pytest.approx(-20, abs=1) and late["octaves"][1] == 0
    low, high = late["octaves_interval"][0]
    assert low <= late["octaves"][0] <= high and len(late["directions"]) == 4 and len(late["directions"][0]) == 3
    assert found["periods"] == [[2, 4], [4, 8], [8, 16], [16, 32]] and len(found["by_step"][0]) == 8
    assert late["peaks"] == [{"x": 0.5, "y": 0, "period": 2.0, "excess": 30.0}]
