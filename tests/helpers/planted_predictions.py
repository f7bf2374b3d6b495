"""A scene that shifts with the steering, and rollout functions for it with known metrics."""

from __future__ import annotations

import csv
from collections.abc import Collection
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image as Pillow
from torch import Tensor

from daydrive.data.prepare.prepare import prepare
from daydrive.data.sampling.clips import fixed_clips, read_clips
from daydrive.data.store.store import Store
from daydrive.evaluation.config import EvaluateConfig
from daydrive.evaluation.metrics.frame_metrics import RolloutFunction
from daydrive.evaluation.model_loading import EvaluatedModel
from daydrive.evaluation.pipeline import Networks, evaluate_model

SIZE, CONTEXT, HORIZON = (32, 48), 3, 6
PIXELS = 4
"""Columns by which the scene shifts per step at full steering."""


def scene(shift: int) -> Tensor:
    """uint8 (3, H, W): smooth stripes and blobs, shifted horizontally; a right turn shifts the scene to the left."""
    y, x = torch.meshgrid(torch.arange(SIZE[0]), torch.arange(SIZE[1]), indexing="ij")
    turn = 2 * torch.pi / SIZE[1]
    waves = [torch.sin(turn * (k + 1) * x) * torch.cos(0.13 * (k + 1) * y + k) for k in range(3)]
    return torch.stack(waves).mul(100).add(128).to(torch.uint8).roll(-shift, dims=-1)


def make_drive(folder: Path, seed: int, frames: int) -> None:
    (folder / "images").mkdir(parents=True)
    turns = np.random.default_rng(seed).integers(-1, 2, frames)
    position = np.concatenate(([0], np.cumsum(turns)[:-1])) * PIXELS
    with (folder / "actions.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["steering", "throttle", "brake", "gear"])
        for t, turn in enumerate(turns):
            writer.writerow([turn, (37 * seed + t) % 100 / 100, 0, 1])
            image = scene(int(position[t])).permute(1, 2, 0).numpy()
            Pillow.fromarray(image).save(folder / "images" / f"{t:03d}.png")


def scene_store(folder: Path) -> Store:
    """A store of drives through the scene, with long ones for validation."""
    root = folder / "raw"
    lengths = {"train": [14, 12], "val": [20, 24, 22], "test": [4, 5]}
    for split, frames in lengths.items():
        for i, count in enumerate(frames):
            make_drive(root / split / f"{split}{i}", 10 * len(split) + i, count)
    return Store.open(prepare("folder", root, folder / "store", SIZE, workers=0))


def copier(context: Tensor, actions: Tensor) -> Tensor:
    return context[:, -1:].expand(-1, actions.shape[1] - context.shape[1] + 1, -1, -1, -1).clone()


def steerer(context: Tensor, actions: Tensor) -> Tensor:
    first = context.shape[1] - 1
    moved = actions[:, first:, 0].cumsum(1).mul(PIXELS).round().int()
    return torch.stack([torch.stack([context[b, -1].roll(-int(m), -1) for m in moved[b]]) for b in range(len(context))])


def oracle(store: Store, split: str, horizon: int = HORIZON) -> RolloutFunction:
    """Returns the true future of each clip, identified by its context actions; ignores later actions."""
    clips = fixed_clips(store, split, CONTEXT + horizon, 10_000)
    batch = read_clips(store, clips)
    known = {past(a): image[CONTEXT:] for image, a in zip(batch.images, batch.actions, strict=True)}
    return lambda context, actions: torch.stack([known[past(a)] for a in actions])


def past(actions: Tensor) -> bytes:
    """Identifies a clip: the throttle in its context is a running number."""
    return actions[: CONTEXT - 1].numpy().tobytes()


def evaluated(rollout_fn: RolloutFunction, store: Store, output: Path, **options: Any) -> dict[str, Any]:
    """options: of `EvaluateConfig`, `EvaluatedModel`, `Networks` and `evaluate_model`."""
    settings: dict[str, Any] = {
        "split": "val",
        "context": CONTEXT,
        "horizon": HORIZON,
        "clips": 12,
        "batch_size": 5,
    } | options

    def given(names: Collection[str]) -> dict[str, Any]:
        return {name: settings.pop(name) for name in list(settings) if name in names}

    networks = Networks(**given(Networks._fields))
    config = EvaluateConfig(**given({field.name for field in fields(EvaluateConfig)}))
    model = EvaluatedModel(rollout_fn, **given(EvaluatedModel._fields))
    return evaluate_model(model, store, output, config, networks=networks, **settings)


def metric_values(evaluation: dict[str, Any], name: str) -> list[float]:
    return [step[name] for step in evaluation["horizons"]]
