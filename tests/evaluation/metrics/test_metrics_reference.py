"""Metrics compared with independent implementations, on identical, black, shifted, invalid, tiny and extreme images."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import torch
from skimage.metrics import mean_squared_error, peak_signal_noise_ratio, structural_similarity
from torch import Tensor, nn

from daydrive import metrics
from daydrive.errors import UserError
from daydrive.evaluation.metrics.lpips import find_lpips
from daydrive.metrics import PSNR_CAP, change, psnr, sharpness, ssim
from daydrive.perceptual import BACKBONES, LPIPS, MIN_SIDE, convert_published_weights

Array = npt.NDArray[np.float64]


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def with_one_pixel(image: Tensor) -> Tensor:
    other = image.clone()
    other[..., 7, 9] ^= 1
    return other


def levels(value: int) -> Tensor:
    return torch.full((3, 24, 31), value, dtype=torch.uint8)


IMAGE = noise(3, 24, 31)
PAIRS: dict[str, tuple[Tensor, Tensor]] = {
    "identical": (IMAGE, IMAGE),
    "both black": (levels(0), levels(0)),
    "black and one level": (levels(0), levels(1)),
    "black and white": (levels(0), levels(255)),
    "white and image": (levels(255), IMAGE),
    "shifted by a pixel": (IMAGE, IMAGE.roll(1, -1)),
    "one pixel": (IMAGE, with_one_pixel(IMAGE)),
    "inverted": (IMAGE, 255 - IMAGE),
    "checkerboards": (
        ((levels(0).int() + torch.arange(31)) % 2 * 255),
        ((levels(1).int() + torch.arange(31)) % 2 * 255),
    ),
}


def last(image: Tensor) -> npt.NDArray[np.uint8]:
    return image.movedim(0, -1).numpy().astype(np.uint8)


@pytest.mark.parametrize("name", PAIRS)
def test_psnr_and_ssim_agree_with_scikit_image(name: str) -> None:
    a, b = PAIRS[name]
    with np.errstate(divide="ignore"):
        reference = min(peak_signal_noise_ratio(last(a), last(b), data_range=255), PSNR_CAP)
    assert psnr(a, b, 255.0).item() == pytest.approx(reference, abs=1e-4)
    reference = structural_similarity(
        last(a), last(b), data_range=255, channel_axis=-1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert ssim(a, b, 255.0).item() == pytest.approx(reference, abs=1e-5)
    assert psnr(a, b, 255.0) == psnr(b, a, 255.0) and ssim(a, b, 255.0) == ssim(b, a, 255.0)


@pytest.mark.parametrize("data_range", [1e-6, 1.0, 2.0, 1e6])
def test_floats_of_any_range_agree_with_scikit_image(data_range: float) -> None:
    a, b = (noise(3, 24, 31, seed=seed).double() / 255 * data_range for seed in (0, 1))
    x, y = a.movedim(0, -1).numpy(), b.movedim(0, -1).numpy()
    expected = peak_signal_noise_ratio(x, y, data_range=data_range)
    assert psnr(a, b, data_range).item() == pytest.approx(expected, abs=1e-9)
    expected = structural_similarity(
        x, y, data_range=data_range, channel_axis=-1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert ssim(a, b, data_range).item() == pytest.approx(expected, abs=1e-9)


def test_extreme_values_agree_with_scikit_image() -> None:
    a, b = torch.full((3, 12, 12), 1e150, dtype=torch.float64), torch.zeros(3, 12, 12, dtype=torch.float64)
    expected = peak_signal_noise_ratio(a.numpy(), b.numpy(), data_range=1e150)
    assert psnr(a, b, 1e150).item() == pytest.approx(expected, abs=1e-9)
    assert psnr(a, b, 255.0).item() == pytest.approx(peak_signal_noise_ratio(a.numpy(), b.numpy(), data_range=255))
    overflowing = torch.full((3, 12, 12), 1e200, dtype=torch.float64)
    with np.errstate(over="ignore"):
        assert math.isinf(mean_squared_error(overflowing.numpy(), b.numpy()))
    assert psnr(overflowing, b, 1e200).item() == -math.inf
    assert change(a, b).item() == 1e150 and sharpness(a).item() == 0.0


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_non_finite_images_give_nan(bad: float) -> None:
    a, b = noise(2, 3, 24, 31).double(), noise(2, 3, 24, 31, seed=1).double()
    b[1, 2, 5, 5] = bad
    for metric in (lambda: ssim(a, b, 255.0), lambda: change(a, b), lambda: sharpness(b), lambda: psnr(a, b, 255.0)):
        fine, spoilt = metric().tolist()
        assert math.isfinite(fine) and not math.isfinite(spoilt)


def by_windows(a: Tensor, b: Tensor, data_range: float) -> float:
    """SSIM of Wang et al., window by window; the window has the largest odd size that fits, at most 11."""
    sides = [min(11, side if side % 2 else side - 1) for side in a.shape[-2:]]
    weights = np.ones((1, 1))
    for axis, side in enumerate(sides):
        line = np.exp(-((np.arange(side) - side // 2) ** 2) / (2 * 1.5**2))
        weights = weights * (line / line.sum()).reshape((-1, 1) if axis == 0 else (1, -1))
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    values = []
    for x, y in zip(a.double().numpy(), b.double().numpy(), strict=True):
        for i in range(x.shape[0] - sides[0] + 1):
            for j in range(x.shape[1] - sides[1] + 1):
                u, v = (z[i : i + sides[0], j : j + sides[1]] for z in (x, y))
                mu, mv = (weights * u).sum(), (weights * v).sum()
                uu, vv = (weights * (u - mu) ** 2).sum(), (weights * (v - mv) ** 2).sum()
                uv = (weights * (u - mu) * (v - mv)).sum()
                values.append((2 * mu * mv + c1) * (2 * uv + c2) / ((mu**2 + mv**2 + c1) * (uu + vv + c2)))
    return float(np.mean(values))


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 2), (5, 13), (12, 4), (13, 12)])
def test_images_smaller_than_the_window(size: tuple[int, int]) -> None:
    a, b = noise(3, *size), noise(3, *size, seed=1)
    assert ssim(a, b, 255.0).item() == pytest.approx(by_windows(a, b, 255.0), abs=1e-5)
    x, y = a.double().numpy(), b.double().numpy()
    assert psnr(a, b, 255.0).item() == pytest.approx(10 * np.log10(255**2 / np.mean((x - y) ** 2)), abs=1e-4)
    assert change(a, b).item() == pytest.approx(np.abs(x - y).mean(), rel=1e-6)


def test_sharpness_and_change_against_manual_values() -> None:
    x, before = noise(3, 24, 31).double(), noise(3, 24, 31, seed=1).double()
    image = x.numpy()
    right, down = np.diff(image, axis=2)[:, :-1], np.diff(image, axis=1)[:, :, :-1]
    assert sharpness(x).item() == pytest.approx(np.sqrt(right**2 + down**2).mean(), rel=1e-12)
    assert change(x, before).item() == pytest.approx(np.abs(image - before.numpy()).mean(), rel=1e-12)
    assert change(x, x).item() == 0.0
    moved = x.roll(1, -1)
    assert sharpness(moved[..., 1:]).item() == pytest.approx(sharpness(x[..., :-1]).item(), rel=1e-12)


def test_data_range_is_always_given() -> None:
    for metric in (psnr, ssim):
        assert inspect.signature(metric).parameters["data_range"].default is inspect.Parameter.empty
        for wrong in (0.0, -255.0, math.nan, math.inf):
            with pytest.raises(ValueError, match="data_range has to be positive and finite"):
                metric(IMAGE, IMAGE, wrong)
    a, b = noise(1, 3, 16, 16) // 4, noise(1, 3, 16, 16, seed=1) // 4
    doubled = psnr(a, b, 510.0) - psnr(a, b, 255.0)
    assert doubled.item() == pytest.approx(20 * math.log10(2), abs=1e-4), "the images' own extent is not looked at"
    source = inspect.getsource(metrics)
    assert ".max()" not in source and ".min()" not in source


@pytest.mark.parametrize("metric", [lambda a, b: psnr(a, b, 1.0), lambda a, b: ssim(a, b, 1.0), change])
def test_different_shapes_are_rejected(metric: Callable[[Tensor, Tensor], Tensor]) -> None:
    for a, b in ((torch.zeros(3, 8, 8), torch.zeros(1, 8, 8)), (torch.zeros(8, 8), torch.zeros(8, 8))):
        with pytest.raises(ValueError, match="one shape"):
            metric(a, b)


def made_up(kind: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Random weights with the published names, of the network and of the calibration."""
    generator = torch.Generator().manual_seed(0)
    convolutions = [layer for layer in BACKBONES[kind].layers if not isinstance(layer, str)]
    places = {"alexnet": (0, 3, 6, 8, 10), "vgg16": (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)}[kind]
    published = {}
    for place, (inside, out, kernel, _, _) in zip(places, convolutions, strict=True):
        spread = (2 / (inside * kernel**2)) ** 0.5
        weight = torch.randn(out, inside, kernel, kernel, generator=generator) * spread
        published[f"features.{place}.weight"] = weight
        published[f"features.{place}.bias"] = torch.randn(out, generator=generator) * 0.1
    widths = {"alexnet": (64, 192, 384, 256, 256), "vgg16": (64, 128, 256, 512, 512)}[kind]
    calibration = {
        f"lin{i}.model.1.weight": torch.rand(1, width, 1, 1, generator=generator) for i, width in enumerate(widths)
    }
    return published, calibration


def network(kind: str) -> nn.Module:
    lpips = LPIPS(BACKBONES[kind])
    lpips.load_state_dict(convert_published_weights(kind, *made_up(kind)))
    return lpips.eval()


def windows(x: Array, side: int, stride: int) -> Array:
    """(C, H, W) → (C, H', W', side, side)."""
    return np.lib.stride_tricks.sliding_window_view(x, (side, side), axis=(1, 2))[:, ::stride, ::stride]


def convolved(x: Array, weight: Tensor, bias: Tensor, stride: int, padding: int) -> Array:
    padded = np.pad(x, ((0, 0), (padding, padding), (padding, padding)))
    seen = windows(padded, weight.shape[-1], stride)
    sums = np.tensordot(weight.double().numpy(), seen, axes=((1, 2, 3), (0, 3, 4)))
    return np.maximum(sums + bias.double().numpy()[:, None, None], 0)


def by_numpy(kind: str, a: Tensor, b: Tensor) -> float:
    """Equation 1 of Zhang et al. (2018), of two images (3, H, W) in [-1, 1], in float64."""
    published, calibration = made_up(kind)
    shift, scale = np.array([-0.030, -0.088, -0.188]), np.array([0.458, 0.448, 0.450])
    both = [(x.double().numpy() - shift[:, None, None]) / scale[:, None, None] for x in (a, b)]
    names = sorted({int(name.split(".")[1]) for name in published})
    strides = {0: (4, 2), 3: (1, 2)} if kind == "alexnet" else {}
    taps = {"alexnet": names, "vgg16": [2, 7, 14, 21, 28]}[kind]
    pools = {"alexnet": (0, 3), "vgg16": (2, 7, 14, 21)}[kind]
    total = 0.0
    for place in names:
        weight, bias = (published[f"features.{place}.{part}"] for part in ("weight", "bias"))
        both = [convolved(x, weight, bias, *strides.get(place, (1, 1))) for x in both]
        if place in taps:
            units = [x / (np.sqrt((x**2).sum(0)) + 1e-10) for x in both]
            weights = calibration[f"lin{taps.index(place)}.model.1.weight"].double().numpy()[0]
            total += float((weights * (units[0] - units[1]) ** 2).sum(0).mean())
        if place in pools:
            both = [windows(x, 3 if kind == "alexnet" else 2, 2).max((-1, -2)) for x in both]
    return total


@pytest.mark.parametrize("kind", ["alexnet", "vgg16"])
def test_lpips_matches_the_formula_of_the_paper(kind: str) -> None:
    a, b = (noise(3, 33, 40, seed=seed) / 127.5 - 1 for seed in (0, 1))
    found = network(kind)(a[None, None], b[None, None])
    assert found.item() == pytest.approx(by_numpy(kind, a, b), rel=1e-4)


def test_lpips_is_not_measured_for_small_images() -> None:
    assert find_lpips(None, None, (16, 64)) == (None, "not measured, the images are 16x64 and it needs 32x32")
    with pytest.raises(UserError, match="--lpips vgg16: the images are 16x64 and it needs 32x32"):
        find_lpips("vgg16", None, (16, 64))


def test_lpips_on_edge_inputs() -> None:
    lpips = network("alexnet")
    image = noise(1, 1, 3, MIN_SIDE, MIN_SIDE) / 127.5 - 1
    black = torch.full_like(image, -1.0)
    assert lpips(image, image).item() == 0.0 and lpips(black, black).item() == 0.0
    assert lpips(image, black).item() == pytest.approx(lpips(black, image).item(), rel=1e-5)
    pixel = image.clone()
    pixel[..., 16, 16] += 1 / 127.5
    shifted = image.roll(1, -1)
    assert 0 < lpips(image, pixel).item() < lpips(image, shifted).item() < lpips(image, black).item()
    for value in (math.nan, math.inf):
        pixel[..., 16, 16] = value
        found = lpips(torch.cat((image, image)), torch.cat((pixel, shifted)))
        assert found.isnan().tolist() == [True, False]
    assert lpips(black, black * -1e3).isfinite()
    for size in ((1, 1), (MIN_SIDE - 1, 64)):
        small = torch.zeros(1, 1, 3, *size)
        with pytest.raises(UserError, match=rf"at least 32x32 pixels, not {size[0]}x{size[1]}"):
            lpips(small, small)
