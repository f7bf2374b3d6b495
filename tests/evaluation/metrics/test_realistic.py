"""Realistic seconds reward neither the mean image nor sharpness at the wrong place; structure is that of numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import uniform_filter
from torch import Tensor

from daydrive.evaluation.compare import compare
from daydrive.evaluation.metrics.intervals import Array, bootstrap
from daydrive.evaluation.metrics.realistic import ARRAYS, realistic, realistic_steps_per_clip
from daydrive.evaluation.metrics.spectrum import Peak
from daydrive.evaluation.metrics.usable import BASELINES
from daydrive.metrics import structure

BANDS = ((0, 10), (10, 20))


def metrics(clips: int = 4, steps: int = 20, **changed: Array) -> dict[str, Array]:
    """Of a perfect prediction, but for the given arrays."""
    found = {
        "predicted_power": np.full((clips, steps, 3, 3), 50.0), "real_power": np.full((clips, steps, 3, 3), 50.0),
        "predicted_change": np.full((clips, steps), 4.0), "real_change": np.full((clips, steps), 4.0),
        "structure": np.full((clips, steps), 0.9), "copy_last_structure": np.full((clips, steps), 0.4),
        "shuffled_actions_structure": np.full((clips, steps), 0.5),
        "zero_actions_structure": np.full((clips, steps), 0.5),
    }  # fmt: skip
    return found | changed


def from_step(step: int, value: float, otherwise: float, *more: int) -> Array:
    values = np.full((4, 20, *more), otherwise)
    values[:, step:] = value
    return values


@pytest.mark.parametrize(
    ("name", "value", "otherwise", "more"),
    [
        ("predicted_power", 5.0, 50.0, (3, 3)), ("predicted_power", 500.0, 50.0, (3, 3)),
        ("predicted_change", 0.0, 4.0, ()), ("predicted_change", 40.0, 4.0, ()), ("structure", 0.1, 0.9, ()),
    ],
)  # fmt: skip
def test_each_failure_ends_the_time(name: str, value: float, otherwise: float, more: tuple[int, ...]) -> None:
    late = metrics(**{name: from_step(10, value, otherwise, *more)})
    steps = realistic_steps_per_clip(late, hz=10)
    assert (steps == steps[0]).all() and 8 <= steps[0] <= 12, "averaged over half a second"
    assert (realistic_steps_per_clip(late, hz=2) == 10).all(), "single frames"


def test_a_single_direction_is_enough_and_tolerances_hold() -> None:
    powers = np.full((4, 20, 3, 3), 50.0)
    powers[:, :, 2, 1] = 500.0
    assert (realistic_steps_per_clip(metrics(predicted_power=powers), 10) == 0).all()
    near = metrics(predicted_power=powers.clip(max=50) * 0.3, predicted_change=np.full((4, 20), 2.1))
    assert (realistic_steps_per_clip(near, 10) == 20).all()
    standing = metrics(predicted_change=np.zeros((4, 20)), real_change=np.full((4, 20), 0.1))
    assert (realistic_steps_per_clip(standing, 10) == 20).all()


def test_limits_of_all_clips() -> None:
    draws = bootstrap(["a", "a", "b", "c"])
    perfect = realistic(metrics(), BANDS, ([], []), draws, 10)
    assert perfect == {"realistic_seconds": 2.0, "realistic_seconds_interval": [2.0, 2.0]}
    peak = [Peak(0.5, 0, 2.0, 30.0)]
    assert realistic(metrics(), BANDS, ([], peak), draws, 10)["realistic_seconds_interval"] == [1.0, 1.0]
    assert realistic(metrics(), BANDS, (peak, []), None, 10)["realistic_seconds"] == 0.0
    ignorant = metrics(shuffled_actions_structure=np.full((4, 20), 0.9))
    assert realistic(ignorant, BANDS, ([], []), draws, 10)["realistic_seconds"] == 0.0


def test_comparison_with_an_earlier_version() -> None:
    more = {name: np.full((4, 20), 20.0) for name in ("psnr", "ssim", *BASELINES)}
    own, other = metrics() | more, metrics(structure=from_step(10, 0.1, 0.9)) | more
    assert compare(own, other, None, 2)["realistic_seconds"] == 5.0
    assert compare(own, other, bootstrap(["a", "a", "b", "b"]), 2)["realistic_seconds_interval"] == [5.0, 5.0]
    earlier = {name: values for name, values in other.items() if name not in ARRAYS}
    assert "realistic_seconds" not in compare(own, earlier, None, 2)


def images(seed: int, frames: int = 3) -> Tensor:
    coarse = torch.rand(frames, 3, 16, 16, generator=torch.Generator().manual_seed(seed)) * 255
    return torch.nn.functional.interpolate(coarse, (64, 64), mode="bicubic").clamp(0, 255).to(torch.uint8)


def test_structure_agrees_with_scipy() -> None:
    a, b = images(0), images(1)

    def detail(x: Tensor) -> Array:
        small = x.double().mean(1).numpy().reshape(-1, 32, 2, 32, 2).mean((2, 4))
        return np.stack([image - uniform_filter(image, 7, mode="nearest") for image in small])

    one, other = detail(a), detail(b)
    expected = (one * other).sum((1, 2)) / np.sqrt((one**2).sum((1, 2)) * (other**2).sum((1, 2)))
    assert structure(a, b).numpy() == pytest.approx(expected, abs=1e-5)


def test_structure_is_about_the_place() -> None:
    a = images(0)
    assert structure(a, a).numpy() == pytest.approx(np.ones(3))
    assert structure(a // 2 + 60, a).min() > 0.99, "whatever the contrast"
    moved = a.roll(8, -1)
    blurred = torch.nn.functional.avg_pool2d(moved.float(), 9, 1, 4, count_include_pad=False).to(torch.uint8)
    assert structure(moved, a).max() < 0.3 and structure(blurred, a).max() < 0.3
    assert (structure(torch.full_like(a, 90), a) == 0).all()
    assert structure(a[..., :8, :6], a[..., :8, :6]).shape == (3,)
