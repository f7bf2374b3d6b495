"""How the car moved, read from images alone: two estimators, calibrated on real frames, with their errors there."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from daydrive.data.sampling.clips import fixed_clips, read_clips
from daydrive.data.store.store import Store
from daydrive.evaluation.controllability.flow import Array, Greys, greys, motions
from daydrive.evaluation.controllability.inverse_dynamics import STEPS, InverseDynamics, infer, train_inverse

CLIPS = 500
"""Of the training split, evenly chosen, that the estimators learn from: two pairs of frames each."""
HELD_OUT = 0.2
"""Share of them, the last ones, that the errors are taken on."""
LAGS = (0, 1, 2)
"""Steps by which a car may answer its wheel late; the calibration takes the one that fits best."""
KINDS = ("flow", "net")


class Reading(NamedTuple):
    """turn: (..., T-1) in the unit of the calibration, to the right. speed: the same in m/s, None where the store does
    not tell it."""

    turn: Array
    speed: Array | None


class Estimators:
    """Reads motion between neighbouring frames; made by `calibrate`.

    quantity: what `turn` stands for, 'steering' or 'steering x speed'. lag: steps by which it answers. errors: of each
    estimator on real frames held out, see `_errors`.
    """

    def __init__(
        self, quantity: str, lag: int, slope: float, pace: Array | None, net: InverseDynamics, unit: Array, mean: Array
    ) -> None:
        self.quantity, self.lag = quantity, lag
        self._slope, self._pace = slope, pace
        self._net, self._unit, self._mean = net, unit, mean
        self.errors: dict[str, Any] = {}

    def read(self, grey: Greys, moved: Array) -> dict[str, Reading]:
        """Between neighbours, by the names of `KINDS`. grey: images (..., T, H, W), `moved` their `motions`."""
        pairs = np.stack((grey[..., :-1, :, :], grey[..., 1:, :, :]), axis=-3)
        learnt = infer(self._net, pairs) * self._unit + self._mean
        speeds = (None, None) if self._pace is None else (_pace(moved) @ self._pace, learnt[..., 1])
        return {
            "flow": Reading(moved[..., 0] * self._slope, speeds[0]),
            "net": Reading(learnt[..., 0], speeds[1]),
        }


def calibrate(store: Store, split: str, frame_skip: int = 1, seed: int = 0, steps: int = STEPS) -> Estimators:
    """Both estimators from real frames of the training split; of `split` where there are no training drives.

    The quantity to read is the steering, or the steering times the speed, at the lag that the turn in the flow goes
    with best. steps: of training the net.
    """
    source = "train" if store.split("train") else split
    longest = max(drive.frames for drive in store.split(source))
    past = int(np.clip((longest - 1) // frame_skip - 2, 0, max(LAGS)))
    clips = fixed_clips(store, source, past + 3, CLIPS, frame_skip)
    grey, commands, speeds = [], [], []
    for begin in range(0, len(clips), 64):
        part = clips[begin : begin + 64]
        batch = read_clips(store, part)
        grey.append(greys(batch.images[:, past:]))
        commands.append(batch.actions[..., 0].double().numpy())
        speeds.append(speeds_at(store, [clip.start + frame_skip * np.arange(past, past + 2) for clip in part]))
    seen, steering, speed = np.concatenate(grey), np.concatenate(commands), np.concatenate(speeds)
    moved = motions(seen)
    has_speed = bool(np.isfinite(speed).all())
    quantity, lag, turn = _quantity(moved[..., 0], steering, speed if has_speed else None, past)

    used = max(1, len(clips) - round(HELD_OUT * len(clips)))
    targets = np.stack((turn, speed) if has_speed else (turn,), axis=-1)
    known = targets[:used].reshape(-1, targets.shape[-1])
    shift = moved[:used, :, 0].reshape(-1)
    slope = float(shift @ known[:, 0]) / max(float(shift @ shift), 1e-9)
    pace: Array | None = None
    if has_speed:
        pace = np.linalg.lstsq(_pace(moved[:used]).reshape(-1, 3), known[:, 1], rcond=None)[0].astype(np.float64)
    unit, mean = np.maximum(known.std(0), 1e-6), known.mean(0)
    mean[0] = 0.0
    pairs = np.stack((seen[:used, :-1], seen[:used, 1:]), axis=2).reshape(-1, 2, *seen.shape[2:])
    net = train_inverse(pairs, (known - mean) / unit, seed, steps)
    estimators = Estimators(quantity, lag, slope, pace, net, unit, mean)
    held = slice(used, None) if used < len(clips) else slice(None)
    readings = estimators.read(seen[held], moved[held])
    estimators.errors = {
        "pairs": int(known.shape[0]),
        "held_out_pairs": int(turn[held].size),
        **{
            kind: {
                "turn": _errors(reading.turn, turn[held]),
                "speed": None if reading.speed is None else _errors(reading.speed, speed[held]),
            }
            for kind, reading in readings.items()
        },
    }
    return estimators


def speeds_at(store: Store, rows: list[np.ndarray]) -> Array:
    """The column `speed` of rows, as they lie; NaN where there is none."""
    if "speed" not in store.schema.names:
        return np.full((len(rows), len(rows[0])), np.nan)
    values = store.read_values(np.concatenate(rows), ["speed"])["speed"]
    return np.asarray(values, dtype=np.float64).reshape(len(rows), -1)


def _quantity(shift: Array, steering: Array, speed: Array | None, past: int) -> tuple[str, int, Array]:
    """What the shift (M, 2) goes with best: its name, the lag and its values (M, 2). steering: (M, past + 2)."""
    found: list[tuple[str, int, Array]] = []
    for lag in range(past + 1):
        turn = steering[:, past - lag : past - lag + 2]
        found.append(("steering", lag, turn))
        if speed is not None:
            found.append(("steering x speed", lag, turn * speed))
    best = int(np.argmax([correlation(shift, turn) for _, _, turn in found]))
    return found[best]


def _pace(moved: Array) -> Array:
    """What speed is a sum of: (..., 3) → (..., 3)."""
    return np.stack((moved[..., 2], np.abs(moved[..., 0]), np.ones_like(moved[..., 0])), axis=-1)


def correlation(a: Array, b: Array) -> float:
    """Pearson's, over all entries; 0 where one of them never changes."""
    x, y = a.reshape(-1) - a.mean(), b.reshape(-1) - b.mean()
    size = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / size if size > 1e-12 else 0.0


def _errors(read: Array, true: Array) -> dict[str, float]:
    """Correlation, bias and root mean square error of a reading, and the spread of what it reads."""
    return {
        "correlation": round(correlation(read, true), 4),
        "bias": round(float((read - true).mean()), 4),
        "rmse": round(float(np.sqrt(np.square(read - true).mean())), 4),
        "spread": round(float(true.std()), 4),
    }


def with_last(seen: Tensor, frames: Tensor) -> Tensor:
    """(B, C, ...), (B, N, ...) → (B, N+1, ...): the last frame seen and those that follow, N pairs."""
    return torch.cat((seen[:, -1:], frames), dim=1)
