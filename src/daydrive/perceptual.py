"""Perceptual distances: LPIPS with a pretrained network, or image structure without weights.

LPIPS (Zhang et al. 2018) in plain torch: features of VGG16 or AlexNet, normalized over channels; their squared
differences, with calibrated weights, are averaged over positions and summed over layers. Its weights are one
safetensors file, made by `daydrive fetch-weights`; nothing is downloaded automatically.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from daydrive.errors import UserError
from daydrive.files import atomic_replace
from daydrive.losses import Distance, structure_loss


class Backbone(NamedTuple):
    """layers: a convolution as (in, out, kernel, stride, padding), 'pool', or 'tap' where features are taken, after a
    ReLU. pool: kernel and stride. file, calibration: URLs of the published weights."""

    layers: tuple[tuple[int, int, int, int, int] | str, ...]
    pool: tuple[int, int]
    file: str
    calibration: str


def _vgg16_layers() -> tuple[tuple[int, int, int, int, int] | str, ...]:
    layers: list[tuple[int, int, int, int, int] | str] = []
    channels = 3
    for block, (width, count) in enumerate(((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))):
        if block:
            layers.append("pool")
        for _ in range(count):
            layers.append((channels, width, 3, 1, 1))
            channels = width
        layers.append("tap")
    return tuple(layers)


MIN_SIDE = 32
"""Minimum length in pixels of an image's shorter side, for both networks."""

_LPIPS = "https://raw.githubusercontent.com/richzhang/PerceptualSimilarity/master/lpips/weights/v0.1/"
BACKBONES = {
    "vgg16": Backbone(
        _vgg16_layers(), (2, 2), "https://download.pytorch.org/models/vgg16-397923af.pth", _LPIPS + "vgg.pth"
    ),
    "alexnet": Backbone(
        (
            (3, 64, 11, 4, 2), "tap", "pool", (64, 192, 5, 1, 2), "tap", "pool", (192, 384, 3, 1, 1), "tap",
            (384, 256, 3, 1, 1), "tap", (256, 256, 3, 1, 1), "tap",
        ),
        (3, 2),
        "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
        _LPIPS + "alex.pth",
    ),
}  # fmt: skip


class LPIPS(nn.Module):
    """Learned perceptual image patch similarity; its parameters are not trained."""

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        self.taps: list[int] = []
        widths = []
        for layer in backbone.layers:
            if layer == "tap":
                self.taps.append(len(self.layers) - 1)
            elif layer == "pool":
                self.layers.append(nn.MaxPool2d(*backbone.pool))
            else:
                assert not isinstance(layer, str)
                *size, kernel, stride, padding = layer
                convolution = nn.Conv2d(size[0], size[1], kernel, stride, padding)
                self.layers.append(nn.Sequential(convolution, nn.ReLU()))
            if layer == "tap":
                widths.append(size[1])
        self.calibration = nn.ParameterList(torch.zeros(width) for width in widths)
        self.register_buffer("mean", torch.tensor([-0.030, -0.088, -0.188]).view(3, 1, 1))
        self.register_buffer("std", torch.tensor([0.458, 0.448, 0.450]).view(3, 1, 1))
        self.requires_grad_(False)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Clips (B, T, 3, H, W) in [-1, 1] → (B,), means over their frames. Raises UserError for a side below
        `MIN_SIDE`, for which the deepest layer would have no output."""
        if min(a.shape[-2:]) < MIN_SIDE:
            height, width = a.shape[-2:]
            raise UserError(f"LPIPS needs images of at least {MIN_SIDE}x{MIN_SIDE} pixels, not {height}x{width}")
        clips = a.shape[:-3]
        a, b = a.flatten(0, -4), b.flatten(0, -4)
        features = self._features(torch.cat([a, b]))
        total = a.new_zeros(len(a))
        for feature, weight in zip(features, self.calibration, strict=True):
            unit = feature / (feature.square().sum(dim=1, keepdim=True).sqrt() + 1e-10)
            first, second = unit.chunk(2)
            total = total + ((first - second).square() * weight.view(1, -1, 1, 1)).sum(dim=1).mean(dim=(1, 2))
        return total.view(clips).flatten(1).mean(dim=1)

    def _features(self, images: Tensor) -> list[Tensor]:
        x = (images - self.mean) / self.std
        taken = []
        for i, layer in enumerate(self.layers):
            x = layer(x)
            if i in self.taps:
                taken.append(x)
        return taken


def build_perceptual(kind: str, weights: Path | None, device: torch.device) -> Distance:
    """The distance for `loss.perceptual`: 'structure' needs no weights; 'vgg16' and 'alexnet' read `weights` or torch
    hub's cache.

    Raises UserError with the command and the setting where the weights are missing.
    """
    if kind == "structure":
        return structure_loss
    file = weights or cached_weights(kind)
    if not file.is_file():
        raise UserError(
            f"loss.perceptual = {kind} needs weights, and there is no {file}: run 'daydrive fetch-weights {kind}' "
            f"once, set loss.perceptual_weights to the file that it writes, or set loss.perceptual to structure"
        )
    network = LPIPS(BACKBONES[kind])
    try:
        network.load_state_dict(load_file(file))
    except (SafetensorError, RuntimeError, OSError) as error:
        raise UserError(f"{file}: not the weights of {kind}: {str(error).splitlines()[0]}") from None
    return network.to(device).eval()


def cached_weights(kind: str) -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints" / f"daydrive-lpips-{kind}.safetensors"


def fetch_weights(kind: str) -> Path:
    """Download the published weights (VGG16 528 MB, AlexNet 233 MB) and save what LPIPS needs of them as one file.

    Raises UserError where they cannot be downloaded or HF_HUB_OFFLINE forbids downloads.
    """
    backbone = BACKBONES[kind]
    target = cached_weights(kind)
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
        raise UserError(
            f"HF_HUB_OFFLINE is set, so nothing is downloaded; unset it, or copy the file that "
            f"'daydrive fetch-weights {kind}' wrote on another machine to {target}"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        published = torch.hub.load_state_dict_from_url(backbone.file, map_location="cpu", weights_only=True)
        calibration = torch.hub.load_state_dict_from_url(
            backbone.calibration, map_location="cpu", weights_only=True, file_name=f"lpips-{kind}.pth"
        )
    except OSError as error:
        raise UserError(f"the weights of {kind} could not be downloaded from {backbone.file}: {error}") from None
    with atomic_replace(target) as temporary:
        save_file(convert_published_weights(kind, published, calibration), temporary)
    return target


def convert_published_weights(
    kind: str, published: dict[str, Tensor], calibration: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Published weights of torchvision and LPIPS → state dict of `LPIPS`."""
    network = LPIPS(BACKBONES[kind])
    convolutions = sorted({int(name.split(".")[1]) for name in published if name.startswith("features.")})
    own = [i for i, layer in enumerate(network.layers) if isinstance(layer, nn.Sequential)]
    if len(convolutions) != len(own):
        raise UserError(f"the published weights of {kind} have {len(convolutions)} convolutions, expected {len(own)}")
    state = network.state_dict()
    for index, published_index in zip(own, convolutions, strict=True):
        for name in ("weight", "bias"):
            state[f"layers.{index}.0.{name}"] = published[f"features.{published_index}.{name}"].contiguous()
    for i in range(len(network.calibration)):
        state[f"calibration.{i}"] = calibration[f"lin{i}.model.1.weight"].flatten().contiguous()
    return state
