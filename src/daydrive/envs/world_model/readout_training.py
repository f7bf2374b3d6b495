"""Training of a readout on the recorded values of a store."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F

from daydrive.data.sampling.clips import read_images
from daydrive.data.store.store import Rows, Store
from daydrive.envs.world_model.readout import (
    FRAMES,
    SPEED,
    Readout,
    ReadoutError,
    ReadoutInfo,
    ReadoutNetwork,
    reduce_images,
)
from daydrive.errors import UserError, did_you_mean
from daydrive.files import check_folder
from daydrive.types import to_signed
from daydrive.version import __version__

VALUES = ("lane_offset", "heading_error", "speed")
"""Columns that are read by default, as far as the store has them."""

TRAINING_PAIRS, HELD_OUT_PAIRS = 16_000, 4_000
VIEW_BATCH, MOTION_BATCH, LEARNING_RATE, WEIGHT_DECAY = 64, 512, 2e-3, 1e-2
HORIZON = 0.44
"""Of the road world's camera: the row of the horizon, in image heights from the top."""

CHUNK = 256
"""Images that are decoded at once."""


class Pairs(NamedTuple):
    """Pairs of frames and the values of the second one.

    images: uint8 (N, 3, h, w), reduced; places: (P, FRAMES), the images of each pair; values: float32 (P, V).
    """

    images: Tensor
    places: Tensor
    values: Tensor

    def frames(self, pairs: Tensor) -> Tensor:
        """uint8 (len(pairs), FRAMES, 3, h, w)."""
        return self.images[self.places[pairs]]


def train_readout(
    store: Store,
    columns: Sequence[str] = (),
    frame_skip: int = 1,
    horizon: float = HORIZON,
    steps: int = 1500,
    seed: int = 0,
    device: torch.device | str = "cpu",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Readout:
    """Train a readout on the split `train` and measure its errors on the split `test`.

    columns: of the store; default: those of `VALUES` that it has. frame_skip: frames of the store per frame of the
    model whose rollouts are read. horizon: its row, in image heights from the top; for the speed. steps: for each of
    the two parts of `ReadoutNetwork`; progress: called after each step with the steps done and in total. The same seed
    gives the same readout on one machine.

    Raises UserError if the store has no such columns or too few frames.
    """
    columns = _checked_columns(store, columns)
    training = read_pairs(store, "train", columns, frame_skip, TRAINING_PAIRS)
    held_out = read_pairs(store, "test", columns, frame_skip, HELD_OUT_PAIRS)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = ReadoutNetwork(columns, horizon)
        network.offset.copy_(training.values.mean(0))
        network.scale.copy_(training.values.std(0).clamp(min=1e-6))
        parts = _parts(network.to(device), training, columns)
        for k, part in enumerate(parts):
            _train(part, steps, seed, lambda done, k=k: progress(k * steps + done, len(parts) * steps))  # type: ignore[misc]
    errors = measure(network, held_out, training.values.median(0).values)
    info = ReadoutInfo(
        units={name: str(store.metadata["values"][name]) for name in columns},
        hz=store.clip_hz(frame_skip),
        image_size=store.image_size,
        horizon=horizon,
        errors=dict(zip(columns, errors, strict=True)),
        frames=len(held_out.values),
        split="test",
        store=store.fingerprint,
        daydrive=__version__,
    )
    return Readout(network, info)


def read_pairs(store: Store, split: str, columns: Sequence[str], frame_skip: int, count: int) -> Pairs:
    """Up to `count` pairs of a split, spread evenly over it, whose values are all finite."""
    drives = store.split(split)
    rows = [np.arange(d.start + frame_skip, d.start + d.frames) for d in drives if d.frames > frame_skip]
    last = np.concatenate(rows) if rows else np.zeros(0, np.int64)
    table = store.read_values(last, columns)
    values = np.stack([np.asarray(table[name], np.float32) for name in columns], axis=1)
    known = np.flatnonzero(np.isfinite(values).all(axis=1))
    if len(known) < 2:
        raise UserError(
            f"the split '{split}' of {store.path} has no two frames with {', '.join(columns)} that follow another "
            "frame; a readout needs them in the splits 'train' and 'test'"
        )
    known = known[np.unique(np.linspace(0, len(known) - 1, min(count, len(known))).round().astype(np.int64))]
    pairs = last[known, None] - frame_skip * np.arange(FRAMES - 1, -1, -1)
    images, places = read_reduced(store, pairs)
    return Pairs(images, places, torch.from_numpy(values[known]))


def read_reduced(store: Store, pairs: Rows) -> tuple[Tensor, Tensor]:
    """The images of rows (P, FRAMES), reduced and each once, uint8 (N, 3, h, w), and their numbers, (P, FRAMES)."""
    unique, places = np.unique(pairs, return_inverse=True)
    images = [
        reduce_images(torch.from_numpy(read_images(store, unique[i : i + CHUNK])[0]).movedim(-1, 1))
        for i in range(0, len(unique), CHUNK)
    ]
    return torch.cat(images), torch.from_numpy(places.reshape(pairs.shape))


def warmup_and_cosine(optimizer: torch.optim.Optimizer, steps: int) -> torch.optim.lr_scheduler.LambdaLR:
    """A schedule of the learning rate: a warm-up over a twentieth of the steps, and half a cosine down to 0."""
    warmup = max(1, steps // 20)
    return torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda k: min(1.0, (k + 1) / warmup) * (0.5 + 0.5 * math.cos(math.pi * min(1.0, k / steps)))
    )


@torch.no_grad()
def measure(network: ReadoutNetwork, pairs: Pairs, constant: Tensor) -> list[ReadoutError]:
    """The errors of each value. constant: (V,), the prediction to compare with."""
    device = network.offset.device
    network.eval()
    read = torch.cat(
        [
            network(to_signed(pairs.frames(part).to(device))).cpu()
            for part in torch.arange(len(pairs.values)).split(CHUNK)
        ]
    )
    errors, spread = read - pairs.values, pairs.values - pairs.values.mean(0)
    explained = 1 - errors.square().sum(0) / spread.square().sum(0).clamp(min=1e-12)
    mean_absolute, of_constant = errors.abs().mean(0), (pairs.values - constant).abs().mean(0)
    return [
        ReadoutError(mean_absolute=a, constant=b, explained=c)
        for a, b, c in zip(mean_absolute.tolist(), of_constant.tolist(), explained.tolist(), strict=True)
    ]


def errors_table(info: ReadoutInfo) -> Table:
    """The errors of each value, for the terminal."""
    table = Table(title=f"errors on {info.frames} frames of the split '{info.split}'", title_justify="left")
    table.add_column("value")
    for heading in ("mean error", "of a constant", "variance explained"):
        table.add_column(heading, justify="right")
    table.add_column("unit")
    for name, error in info.errors.items():
        numbers = (f"{error.mean_absolute:.3g}", f"{error.constant:.3g}", f"{error.explained:.1%}")
        table.add_row(name, *numbers, info.units[name])
    return table


def check_output(file: Path) -> None:
    """Raises UserError if a readout cannot be written there, or if it would replace something else."""
    if file.is_dir():
        raise UserError(f"--output {file} is a folder; give a file")
    check_folder(file.absolute().parent, "output folder")
    if file.exists():
        try:
            Readout.load(file)
        except UserError:
            raise UserError(f"--output {file} exists and is not a readout; choose another file") from None


class _Part(NamedTuple):
    """A part of the network with its training examples. inputs: those of the given numbers; targets: (P, V)."""

    network: nn.Module
    inputs: Callable[[Tensor], Tensor]
    targets: Tensor
    batch: int


def _parts(network: ReadoutNetwork, pairs: Pairs, columns: Sequence[str]) -> list[_Part]:
    device = network.offset.device
    targets = (pairs.values.to(device) - network.offset) / network.scale
    moving = torch.tensor([name == SPEED for name in columns], device=device)
    parts = []
    if not moving.all():
        last = pairs.places[:, -1]
        parts.append(
            _Part(network.view, lambda n: to_signed(pairs.images[last[n]].to(device)), targets[:, ~moving], VIEW_BATCH)
        )
    if moving.any():
        chunks = torch.arange(len(targets)).split(CHUNK)
        correlations = torch.cat([network.correlations(to_signed(pairs.frames(chunk).to(device))) for chunk in chunks])
        parts.append(_Part(network.motion, lambda n: correlations[n.to(device)], targets[:, moving], MOTION_BATCH))
    return parts


def _train(part: _Part, steps: int, seed: int, progress: Callable[[int], None]) -> None:
    """AdamW with a warm-up and a cosine schedule on the Huber loss of standardized values."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(part.network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = warmup_and_cosine(optimizer, steps)
    part.network.train()
    for step in range(steps):
        chosen = torch.randint(len(part.targets), (part.batch,), generator=generator)
        loss = F.smooth_l1_loss(part.network(part.inputs(chosen)), part.targets[chosen.to(part.targets.device)])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        progress(step + 1)


def _checked_columns(store: Store, columns: Sequence[str]) -> list[str]:
    known = [name for name in store.metadata.get("values", {}) if name in store.schema.names]
    available = ", ".join(known) or "none"
    if not columns:
        columns = [name for name in VALUES if name in known]
        if not columns:
            raise UserError(
                f"the store {store.path} has none of the columns {', '.join(VALUES)}; name others with --columns "
                f"(available: {available})"
            )
    for name in columns:
        if name not in known:
            raise UserError(
                f"--columns {name}: {store.path} has no such value{did_you_mean(name, known)} ({available})"
            )
    return list(dict.fromkeys(columns))
