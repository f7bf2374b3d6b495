"""Augmentation: independent of the batch, with consistent images and steering."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from daydrive.config import AugmentationConfig
from daydrive.data.sampling.augment import LUMA, DrivingAugmentation
from daydrive.errors import UserError
from daydrive.types import Batch, Clip

EVERYTHING = {"brightness": 0.3, "contrast": 0.3, "saturation": 0.4, "crop_scale": (0.7, 1.0), "mirror": 0.5}


def noise(clips: int = 6, length: int = 3, height: int = 16, width: int = 24, first: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(first)
    images = torch.randint(0, 256, (clips, length, 3, height, width), dtype=torch.uint8, generator=generator)
    actions = torch.rand(clips, length - 1, 4, generator=generator)
    places = [Clip("drive", i, length, 1) for i in range(clips)]
    return Batch(images, actions, places, list(range(first, first + clips)), torch.full((clips,), 1 / clips))


def part(batch: Batch, places: list[int]) -> Batch:
    return Batch(batch.images[places], batch.actions[places], samples=[batch.samples[i] for i in places])


def blob(x: np.ndarray, y: np.ndarray, height: int = 96, width: int = 128) -> Batch:
    """A clip of one bright spot at (x, y) in pixels, by frame; steering -0.5, as when turning left."""
    columns, rows = np.meshgrid(np.arange(width), np.arange(height))
    squared = (columns - x[:, None, None]) ** 2 + (rows - y[:, None, None]) ** 2
    images = torch.from_numpy(255 * np.exp(-squared / 32)).round().to(torch.uint8)
    actions = torch.tensor([-0.5, 0.3, 0.0, 1.0]).expand(1, len(x) - 1, 4)
    return Batch(images[None, :, None].expand(1, -1, 3, -1, -1), actions, samples=[0])


def centres(images: Tensor) -> np.ndarray:
    """Where the spot is in each frame of a clip (T, 3, H, W), from the image centre: (T, 2), x and y in pixels."""
    light = images[:, 0].double()
    total = light.sum((1, 2))
    h, w = light.shape[1:]
    x = (light.sum(1) * (torch.arange(w) - (w - 1) / 2)).sum(1) / total
    y = (light.sum(2) * (torch.arange(h) - (h - 1) / 2)).sum(1) / total
    return torch.stack([x, y], 1).numpy()


def numbered(batch: Batch, sample: int) -> Batch:
    return dataclasses.replace(batch, samples=[sample])


def test_no_augmentation_by_default() -> None:
    batch = noise()
    assert DrivingAugmentation()(batch) is batch
    assert DrivingAugmentation.from_config(None, 3)(batch) is batch
    assert DrivingAugmentation.from_config(AugmentationConfig(), 3)(batch) is batch
    bare = Batch(batch.images, batch.actions)
    assert DrivingAugmentation()(bare) is bare


def test_input_batch_is_unchanged() -> None:
    batch, untouched = noise(), noise()
    changed = DrivingAugmentation(**EVERYTHING)(batch)
    assert torch.equal(batch.images, untouched.images) and torch.equal(batch.actions, untouched.actions)
    assert changed.images.dtype == torch.uint8 and changed.images.shape == batch.images.shape
    assert changed.images.is_contiguous() and not torch.equal(changed.images, batch.images)
    assert (changed.clips, changed.samples, changed.weights) == (batch.clips, batch.samples, batch.weights)


@pytest.mark.parametrize("size", [(16, 24), (64, 64), (256, 256)])
def test_augmentation_does_not_depend_on_the_batch(size: tuple[int, int]) -> None:
    augment, batch = DrivingAugmentation(**EVERYTHING, seed=5), noise(6, 3, *size)
    whole = augment(batch)
    again = DrivingAugmentation(**EVERYTHING, seed=5)
    for places in ([0], [5, 2], [4, 1, 3, 0]):
        some = again(part(batch, places))
        assert torch.equal(some.images, whole.images[places])
        assert torch.equal(some.actions, whole.actions[places])


def test_augmentation_does_not_depend_on_threads() -> None:
    augment, batch = DrivingAugmentation(**EVERYTHING), noise(3, 4, 64, 96)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            results.append(augment(batch).images)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*results)


def test_parameters_depend_on_seed_and_sample() -> None:
    one, other = DrivingAugmentation(**EVERYTHING, seed=1), DrivingAugmentation(**EVERYTHING, seed=2)
    draws = [one.sample_params(sample) for sample in range(2000)]
    assert draws == [one.sample_params(sample) for sample in range(2000)]
    assert (
        len({draw.brightness for draw in draws} | {other.sample_params(sample).brightness for sample in range(9)})
        == 2009
    )
    for name, spread in (("brightness", 0.3), ("contrast", 0.3), ("saturation", 0.4)):
        values = np.array([getattr(draw, name) for draw in draws])
        assert 1 - spread <= values.min() < 1 - 0.95 * spread and 1 + 0.95 * spread < values.max() <= 1 + spread
    areas = np.array([draw.side**2 for draw in draws])
    assert 0.7 <= areas.min() < 0.71 and 0.99 < areas.max() <= 1 and abs(areas.mean() - 0.85) < 0.01
    assert abs(np.mean([draw.mirrored for draw in draws]) - 0.5) < 0.05
    assert abs(np.mean([draw.height for draw in draws])) < 0.05


def test_parameters_of_settings_are_independent() -> None:
    both, alone = DrivingAugmentation(**EVERYTHING), DrivingAugmentation(mirror=0.5)
    assert [both.sample_params(i).mirrored for i in range(99)] == [alone.sample_params(i).mirrored for i in range(99)]


def test_frames_of_a_clip_share_parameters() -> None:
    still = noise(5, 1)
    batch = Batch(still.images.repeat(1, 4, 1, 1, 1), torch.zeros(5, 3, 4), samples=still.samples)
    images = DrivingAugmentation(**EVERYTHING)(batch).images
    assert torch.equal(images, images[:, :1].expand_as(images))
    assert len({images[i].float().mean().item() for i in range(5)}) == 5


def test_flip_negates_steering() -> None:
    batch, augment = noise(40), DrivingAugmentation(mirror=0.5)
    changed = augment(batch)
    mirrored = [i for i in range(40) if augment.sample_params(i).mirrored]
    assert 10 < len(mirrored) < 30
    for i in range(40):
        image, sign = (batch.images[i].flip(-1), -1) if i in mirrored else (batch.images[i], 1)
        assert torch.equal(changed.images[i], image)
        assert torch.equal(changed.actions[i, :, 0], sign * batch.actions[i, :, 0])
        assert torch.equal(changed.actions[i, :, 1:], batch.actions[i, :, 1:])


@pytest.mark.parametrize("sample", range(4))
def test_crop_scales_motion_uniformly(sample: int) -> None:
    augment = DrivingAugmentation(crop_scale=(0.5, 0.9), seed=3)
    drawn = augment.sample_params(sample)
    batch = numbered(blob(np.linspace(55, 71, 6), np.linspace(41, 53, 6)), sample)
    before, after = (centres(clip[0]) for clip in (batch.images, augment(batch).images))
    factor = 1 / drawn.side
    assert np.diff(after, axis=0) == pytest.approx(factor * np.diff(before, axis=0), abs=0.03)
    assert after[:, 0] == pytest.approx(factor * before[:, 0], abs=0.05)  # about the middle: no drift to one side
    shift = drawn.height * (1 - drawn.side) * 96 / 2
    assert after[:, 1] == pytest.approx(factor * (before[:, 1] - shift), abs=0.05)


def test_crop_stays_inside_the_image() -> None:
    augment = DrivingAugmentation(crop_scale=(0.25, 0.25))
    ramp = torch.linspace(0, 255, 64).round().to(torch.uint8)
    images = ramp.view(1, 1, 1, 64, 1).expand(200, 1, 3, 64, 32)
    seen = augment(Batch(images, torch.zeros(200, 0, 4), samples=list(range(200)))).images[:, 0, 0, :, 0].int()
    spans = seen[:, -1] - seen[:, 0]
    assert spans.min() > 118 and spans.max() < 130  # half of the ramp everywhere: nothing beyond the edge is seen
    assert seen.min() < 8 and seen.max() > 247


def test_steering_agrees_with_flow_after_flip_and_crop() -> None:
    augment = DrivingAugmentation(crop_scale=(0.6, 0.6), mirror=0.5)
    turning_left = blob(np.linspace(50, 70, 6), np.full(6, 48.0))  # what is seen goes right
    signs = set()
    for sample in range(12):
        changed = augment(numbered(turning_left, sample))
        flow = np.diff(centres(changed.images[0])[:, 0])
        assert np.abs(flow) == pytest.approx(4 / math.sqrt(0.6), abs=0.03)
        steering = changed.actions[0, :, 0].numpy()
        assert (np.sign(flow) == -np.sign(steering)).all()
        signs.add(float(np.sign(steering[0])))
    assert signs == {-1.0, 1.0}


def test_augmentation_runs_on_the_device_without_synchronization() -> None:
    """The meta device has no values: mixing devices or waiting for one raises."""
    changed = DrivingAugmentation(**EVERYTHING)(noise().to(torch.device("meta")))
    assert changed.images.is_meta and changed.images.dtype == torch.uint8
    assert changed.images.shape == (6, 3, 3, 16, 24) and changed.actions.shape == (6, 2, 4)


def test_brightness_scales_the_image() -> None:
    augment, batch = DrivingAugmentation(brightness=0.5), noise()
    images = augment(batch).images
    for i in range(6):
        wanted = (batch.images[i].double() * augment.sample_params(i).brightness).clamp(0, 255)
        assert (images[i].double() - wanted).abs().max() <= 0.5 + 1e-3


def test_contrast_scales_around_the_mean_of_the_clip() -> None:
    augment, batch = DrivingAugmentation(contrast=0.4), noise()
    images = augment(batch).images
    weights = torch.tensor(LUMA, dtype=torch.float64)[:, None, None]
    for i in range(6):
        clip = batch.images[i].double()
        grey = (clip * weights).sum(1).mean()
        wanted = (grey + augment.sample_params(i).contrast * (clip - grey)).clamp(0, 255)
        assert (images[i].double() - wanted).abs().max() <= 0.5 + 1e-3


def test_saturation_scales_around_the_grey_of_each_pixel() -> None:
    augment, batch = DrivingAugmentation(saturation=0.6), noise()
    images = augment(batch).images
    weights = torch.tensor(LUMA, dtype=torch.float64)[:, None, None]
    for i in range(6):
        clip = batch.images[i].double()
        grey = (clip * weights).sum(1, keepdim=True)
        wanted = (grey + augment.sample_params(i).saturation * (clip - grey)).clamp(0, 255)
        assert (images[i].double() - wanted).abs().max() <= 0.5 + 1e-3
    grey_clip = Batch(batch.images[:, :, :1].repeat(1, 1, 3, 1, 1), batch.actions, samples=batch.samples)
    assert torch.equal(augment(grey_clip).images, grey_clip.images)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"brightness": 1.0}, r"brightness is 1\.0; it must be at least 0 and below 1"),
        ({"contrast": -0.1}, r"contrast is -0\.1"),
        ({"saturation": math.nan}, r"saturation is nan"),
        ({"crop_scale": (0.0, 1.0)}, r"crop_scale is \(0\.0, 1\.0\); it must satisfy 0 < min <= max <= 1"),
        ({"crop_scale": (0.9, 0.7)}, r"crop_scale is \(0\.9, 0\.7\)"),
        ({"crop_scale": (0.7, 1.2)}, r"crop_scale is \(0\.7, 1\.2\)"),
        ({"mirror": 1.5}, r"mirror is 1\.5; a probability is from 0 to 1"),
    ],
)
def test_settings_out_of_range_are_rejected(settings: dict[str, object], expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        DrivingAugmentation(**settings)


def test_batch_without_sample_numbers_is_rejected() -> None:
    batch = noise()
    with pytest.raises(UserError, match=r"Batch\.samples, and this batch has 0 of them for 6 clips"):
        DrivingAugmentation(mirror=0.5)(Batch(batch.images, batch.actions))


def test_built_from_the_config() -> None:
    config = AugmentationConfig(**EVERYTHING)
    batch = noise()
    assert torch.equal(
        DrivingAugmentation.from_config(config, 7)(batch).images,
        DrivingAugmentation(**EVERYTHING, seed=7)(batch).images,
    )
