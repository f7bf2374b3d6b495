"""Estimates ego motion from images with two estimators, calibrated on real frames, and measures their errors."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, mse_loss

from daydrive.data.sampling.clips import fixed_clips, read_clips
from daydrive.data.store.store import Store
from daydrive.evaluation.controllability.flow import Array, GreyImages, motions, to_grey

STEPS = 500
BATCH = 48
LEARNING_RATE = 3e-3
_SIDE = (48, 64)
"""Input size (H, W): large enough to see a shift, small enough to train in seconds."""


class InverseDynamics(nn.Module):
    """Two grey images (B, 2, 48, 64) in [-1, 1] → (B, outputs). The first output changes its sign when the images are
    mirrored."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        widths = (3, 16, 24, 32, 48)
        layers: list[nn.Module] = []
        for k, (before, after) in enumerate(pairwise(widths)):
            layers += [nn.Conv2d(before, after, 5 if k == 0 else 3, stride=2, padding=2 if k == 0 else 1)]
            layers += [nn.GroupNorm(4, after), nn.SiLU()]
        self.body = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(48 * 3 * 4, 64), nn.SiLU(), nn.Linear(64, outputs))

    def forward(self, pairs: Tensor) -> Tensor:
        difference = (pairs[:, 1:] - pairs[:, :1]) * 2.0
        output: Tensor = self.head(self.body(torch.cat((pairs, difference), dim=1)))
        return output


def train_inverse(pairs: GreyImages, targets: Array, seed: int, steps: int = STEPS) -> InverseDynamics:
    """Trains the network on grey pairs uint8 (N, 2, H, W) and normalized targets (N, outputs); deterministic for a
    seed.

    Half of each batch is mirrored, with the sign of the first target inverted, so that left and right turns are
    balanced.
    """
    rng = np.random.default_rng(seed)
    images, values = _small(pairs), torch.from_numpy(targets.astype(np.float32))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = InverseDynamics(targets.shape[1])
    optimizer = torch.optim.AdamW(net.parameters(), lr=LEARNING_RATE, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps, pct_start=0.1)
    with torch.enable_grad():
        for _ in range(steps):
            chosen = torch.from_numpy(rng.integers(0, len(images), min(BATCH, len(images))))
            batch, target = images[chosen].clone(), values[chosen].clone()
            half = len(chosen) // 2
            batch[:half] = batch[:half].flip(-1)
            target[:half, 0] *= -1.0
            batch = batch * (0.8 + 0.4 * torch.from_numpy(rng.random((len(chosen), 1, 1, 1), dtype=np.float32)))
            optimizer.zero_grad()
            mse_loss(net(batch), target).backward()
            optimizer.step()
            schedule.step()
    return net.eval()


@torch.no_grad()
def infer(net: InverseDynamics, pairs: GreyImages) -> Array:
    """Grey pairs (..., 2, H, W) → (..., outputs), averaged over the images and their mirror images."""
    lead = pairs.shape[:-3]
    outputs = []
    for part in torch.split(_small(pairs.reshape(-1, *pairs.shape[-3:])), 256):
        straight, mirrored = net(part), net(part.flip(-1))
        mirrored[:, 0] *= -1.0
        outputs.append((straight + mirrored) / 2)
    values: npt.NDArray[np.float64] = torch.cat(outputs).double().numpy()
    return values.reshape(*lead, -1)


def _small(pairs: GreyImages) -> Tensor:
    images = torch.from_numpy(np.ascontiguousarray(pairs)).float().div_(127.5).sub_(1.0)
    return interpolate(images, _SIDE, mode="bilinear", align_corners=False, antialias=True)


CLIPS = 500
"""Number of evenly spaced training clips for the calibration, with two pairs of frames each."""
HELD_OUT = 0.2
"""Share of the clips, the last ones, on which the errors are measured."""
LAGS = (0, 1, 2)
"""Possible delays, in steps, of the car's response to the steering; the calibration selects the best."""
KINDS = ("flow", "net")


class MotionEstimate(NamedTuple):
    """turn: (..., T-1), in the unit of the calibration, positive to the right. speed: (..., T-1) in m/s, None if the
    store has no speed."""

    turn: Array
    speed: Array | None


class Estimators:
    """Estimates motion between consecutive frames; created by `calibrate`.

    quantity: what `turn` estimates, 'steering' or 'steering x speed'. lag: delay of the response in steps. errors: of
    each estimator on held-out real frames, see `_errors`.
    """

    def __init__(
        self,
        quantity: str,
        lag: int,
        turn_scale: float,
        speed_weights: Array | None,
        net: InverseDynamics,
        std: Array,
        mean: Array,
    ) -> None:
        self.quantity, self.lag = quantity, lag
        self._turn_scale, self._speed_weights = turn_scale, speed_weights
        self._net, self._std, self._mean = net, std, mean
        self.errors: dict[str, Any] = {}

    def estimate(self, grey: GreyImages, motion: Array) -> dict[str, MotionEstimate]:
        """Motion between consecutive frames, by the names of `KINDS`. grey: (..., T, H, W); motion: their `motions`."""
        pairs = np.stack((grey[..., :-1, :, :], grey[..., 1:, :, :]), axis=-3)
        inferred = infer(self._net, pairs) * self._std + self._mean
        flow_speed, net_speed = None, None
        if self._speed_weights is not None:
            flow_speed, net_speed = _speed_features(motion) @ self._speed_weights, inferred[..., 1]
        return {
            "flow": MotionEstimate(motion[..., 0] * self._turn_scale, flow_speed),
            "net": MotionEstimate(inferred[..., 0], net_speed),
        }


def calibrate(store: Store, split: str, frame_skip: int = 1, seed: int = 0, steps: int = STEPS) -> Estimators:
    """Calibrates both estimators on real frames of the training split, or of `split` if there are no training drives.

    The estimated quantity is the steering or the steering times the speed, at the lag with the highest correlation with
    the turn in the optical flow. steps: training steps of the net.
    """
    source = "train" if store.split("train") else split
    longest = max(drive.frames for drive in store.split(source))
    past = int(np.clip((longest - 1) // frame_skip - 2, 0, max(LAGS)))
    clips = fixed_clips(store, source, past + 3, CLIPS, frame_skip)
    grey, commands, speeds = [], [], []
    for start in range(0, len(clips), 64):
        part = clips[start : start + 64]
        batch = read_clips(store, part)
        grey.append(to_grey(batch.images[:, past:]))
        commands.append(batch.actions[..., 0].double().numpy())
        speeds.append(speeds_at(store, [clip.start + frame_skip * np.arange(past, past + 2) for clip in part]))
    images, steering, speed = np.concatenate(grey), np.concatenate(commands), np.concatenate(speeds)
    motion = motions(images)
    has_speed = bool(np.isfinite(speed).all())
    quantity, lag, turn = _select_quantity(motion[..., 0], steering, speed if has_speed else None, past)

    fitted = max(1, len(clips) - round(HELD_OUT * len(clips)))
    targets = np.stack((turn, speed) if has_speed else (turn,), axis=-1)
    known = targets[:fitted].reshape(-1, targets.shape[-1])
    shift = motion[:fitted, :, 0].reshape(-1)
    turn_scale = float(shift @ known[:, 0]) / max(float(shift @ shift), 1e-9)
    speed_weights: Array | None = None
    if has_speed:
        features = _speed_features(motion[:fitted]).reshape(-1, 3)
        speed_weights = np.linalg.lstsq(features, known[:, 1], rcond=None)[0].astype(np.float64)
    std, mean = np.maximum(known.std(0), 1e-6), known.mean(0)
    mean[0] = 0.0
    pairs = np.stack((images[:fitted, :-1], images[:fitted, 1:]), axis=2).reshape(-1, 2, *images.shape[2:])
    net = train_inverse(pairs, (known - mean) / std, seed, steps)
    estimators = Estimators(quantity, lag, turn_scale, speed_weights, net, std, mean)
    held_out = slice(fitted, None) if fitted < len(clips) else slice(None)
    estimates = estimators.estimate(images[held_out], motion[held_out])
    estimators.errors = {
        "pairs": int(known.shape[0]),
        "held_out_pairs": int(turn[held_out].size),
        **{
            kind: {
                "turn": _errors(estimate.turn, turn[held_out]),
                "speed": None if estimate.speed is None else _errors(estimate.speed, speed[held_out]),
            }
            for kind, estimate in estimates.items()
        },
    }
    return estimators


def speeds_at(store: Store, rows: list[np.ndarray]) -> Array:
    """The column `speed` at the given rows, (len(rows), len(rows[0])); NaN if the store has no speed."""
    if "speed" not in store.schema.names:
        return np.full((len(rows), len(rows[0])), np.nan)
    values = store.read_values(np.concatenate(rows), ["speed"])["speed"]
    return np.asarray(values, dtype=np.float64).reshape(len(rows), -1)


def _select_quantity(shift: Array, steering: Array, speed: Array | None, past: int) -> tuple[str, int, Array]:
    """The quantity with the highest correlation with the shift (M, 2): name, lag and values (M, 2).

    steering: (M, past + 2).
    """
    candidates: list[tuple[str, int, Array]] = []
    for lag in range(past + 1):
        turn = steering[:, past - lag : past - lag + 2]
        candidates.append(("steering", lag, turn))
        if speed is not None:
            candidates.append(("steering x speed", lag, turn * speed))
    best = int(np.argmax([correlation(shift, turn) for _, _, turn in candidates]))
    return candidates[best]


def _speed_features(motion: Array) -> Array:
    """Features for the linear regression of speed: approach, absolute turn and a constant, (..., 3) → (..., 3)."""
    return np.stack((motion[..., 2], np.abs(motion[..., 0]), np.ones_like(motion[..., 0])), axis=-1)


def correlation(a: Array, b: Array) -> float:
    """Pearson correlation over all entries; 0 if one of the arrays is constant."""
    x, y = a.reshape(-1) - a.mean(), b.reshape(-1) - b.mean()
    size = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / size if size > 1e-12 else 0.0


def _errors(estimate: Array, true: Array) -> dict[str, float]:
    """Correlation, bias and root mean square error of an estimate, and `spread`, the true standard deviation."""
    return {
        "correlation": round(correlation(estimate, true), 4),
        "bias": round(float((estimate - true).mean()), 4),
        "rmse": round(float(np.sqrt(np.square(estimate - true).mean())), 4),
        "spread": round(float(true.std()), 4),
    }


def with_last(seen: Tensor, frames: Tensor) -> Tensor:
    """Prepends the last context frame: (B, C, ...), (B, N, ...) → (B, N+1, ...)."""
    return torch.cat((seen[:, -1:], frames), dim=1)
