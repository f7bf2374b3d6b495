"""Image metrics compared with scikit-image and torchmetrics, on ordinary images and edge cases."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor
from torchmetrics.functional.image import peak_signal_noise_ratio as tm_psnr
from torchmetrics.functional.image import structural_similarity_index_measure as tm_ssim

from daydrive.metrics import PSNR_CAP, psnr, sharpness, ssim


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def smooth(n: int, h: int, w: int) -> Tensor:
    y, x = torch.meshgrid(torch.linspace(0, 3, h), torch.linspace(0, 5, w), indexing="ij")
    waves = [torch.stack([torch.sin(x * (i + 1) + c) * torch.cos(y + i) for c in range(3)]) for i in range(n)]
    return (torch.stack(waves) * 100 + 127).to(torch.uint8)


PAIRS: dict[str, tuple[Tensor, Tensor]] = {
    "random": (noise(3, 3, 40, 56), noise(3, 3, 40, 56, seed=1)),
    "slightly noisy": (smooth(3, 40, 56), (smooth(3, 40, 56).int() + noise(3, 3, 40, 56).int() % 9 - 4).clamp(0, 255)),
    "shifted": (smooth(2, 32, 32), smooth(2, 32, 32).roll(2, dims=-1)),
    "black and noise": (torch.zeros(2, 3, 16, 24, dtype=torch.uint8), noise(2, 3, 16, 24)),
    "black and white": (torch.zeros(1, 3, 16, 16, dtype=torch.uint8), torch.full((1, 3, 16, 16), 255)),
    "as small as the window": (noise(2, 3, 11, 11), noise(2, 3, 11, 11, seed=1)),
}


@pytest.mark.parametrize("name", PAIRS)
def test_agrees_with_scikit_image_and_torchmetrics(name: str) -> None:
    a, b = PAIRS[name]
    ours_psnr, ours_ssim = psnr(a, b, 255.0), ssim(a, b, 255.0)
    assert ours_psnr.shape == ours_ssim.shape == (len(a),)
    for i in range(len(a)):
        x, y = a[i].permute(1, 2, 0).numpy().astype("uint8"), b[i].permute(1, 2, 0).numpy().astype("uint8")
        assert ours_psnr[i] == pytest.approx(peak_signal_noise_ratio(x, y, data_range=255), abs=1e-4)
        reference = structural_similarity(
            x, y, data_range=255, channel_axis=-1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
        assert ours_ssim[i] == pytest.approx(reference, abs=1e-5)
        u, v = a[i : i + 1].double(), b[i : i + 1].double()
        assert ours_psnr[i] == pytest.approx(float(tm_psnr(u, v, data_range=255.0)), abs=1e-4)
        _, similarity = tm_ssim(u, v, data_range=255.0, return_full_image=True)
        assert ours_ssim[i] == pytest.approx(similarity[..., 5:-5, 5:-5].mean().item(), abs=1e-5)


def test_identical_images_have_maximum_psnr_and_ssim() -> None:
    for a in (noise(2, 3, 20, 20), torch.zeros(2, 3, 20, 20)):
        assert psnr(a, a, 255.0).tolist() == [PSNR_CAP] * 2
        assert ssim(a, a, 255.0).tolist() == pytest.approx([1.0] * 2, abs=1e-6)


def test_known_values() -> None:
    a = torch.zeros(1, 3, 16, 16)
    assert psnr(a, a + 0.1, 1.0).item() == pytest.approx(20.0, abs=1e-4)
    assert psnr(a, a + 0.1, 2.0).item() == pytest.approx(20.0 + 20 * math.log10(2), abs=1e-4)
    ramp = torch.arange(16.0).expand(1, 3, 16, 16)
    assert sharpness(ramp).item() == pytest.approx(1.0)
    assert sharpness(3 * ramp + 4 * ramp.mT).item() == pytest.approx(5.0)
    assert sharpness(a).item() == 0.0


def test_metrics_scale_with_data_range() -> None:
    a, b = noise(2, 3, 24, 24), noise(2, 3, 24, 24, seed=1)
    signed = (a.double() / 127.5 - 1, b.double() / 127.5 - 1)
    assert torch.allclose(psnr(a, b, 255.0).double(), psnr(*signed, 2.0), atol=1e-4)
    unit = (a.double() / 255, b.double() / 255)
    assert torch.allclose(ssim(a, b, 255.0).double(), ssim(*unit, 1.0), atol=1e-5)


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_nan_affects_only_its_frame(metric: Callable[[Tensor, Tensor, float], Tensor]) -> None:
    a, b = noise(3, 3, 16, 16).float(), noise(3, 3, 16, 16, seed=1).float()
    b[1, 0, 3, 3] = float("nan")
    assert metric(a, b, 255.0).isnan().tolist() == [False, True, False]
    assert sharpness(b).isnan().tolist() == [False, True, False]


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (3, 10), (10, 64)])
def test_images_smaller_than_the_window(size: tuple[int, int]) -> None:
    a, b = noise(2, 3, *size), noise(2, 3, *size, seed=1)
    assert ssim(a, a, 255.0).tolist() == pytest.approx([1.0] * 2, abs=1e-6)
    assert (ssim(a, b, 255.0) < 0.9).all() and ssim(a, b, 255.0).isfinite().all()
    if min(size) < 2:
        with pytest.raises(ValueError, match="2x2"):
            sharpness(a)
    else:
        assert (sharpness(a) > 0).all()


def test_metrics_do_not_depend_on_the_batch() -> None:
    a, b = noise(6, 4, 3, 32, 48), noise(6, 4, 3, 32, 48, seed=1)
    for metric in (lambda x, y: psnr(x, y, 255.0), lambda x, y: ssim(x, y, 255.0), lambda x, _: sharpness(x)):
        whole = metric(a, b)
        assert whole.shape == (6, 4)
        one_by_one = torch.stack([torch.stack([metric(a[i, t], b[i, t]) for t in range(4)]) for i in range(6)])
        assert torch.allclose(whole, one_by_one, rtol=0, atol=2e-6 * whole.abs().max().item())


def test_metrics_are_exact_in_half_precision_and_autocast() -> None:
    a, b = noise(2, 3, 24, 24), noise(2, 3, 24, 24, seed=1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(ssim(a, b, 255.0), ssim(a, b, 255.0).float())
        inside = ssim(a, b, 255.0)
    assert torch.equal(inside, ssim(a, b, 255.0))
    assert psnr(a.bfloat16(), b.bfloat16(), 255.0).dtype == torch.float32


def test_different_shapes_are_rejected() -> None:
    with pytest.raises(ValueError, match="one shape"):
        psnr(noise(1, 3, 8, 8), noise(1, 3, 8, 9), 255.0)
