"""Trajectories of the car, read from rollouts and recordings by an estimator that is independent of the model.

The speed is read from the motion of the ground and the turn from the optical flow, calibrated on real frames of the
training drives. Both are integrated to positions, which are compared as is usual for planners and world models.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from daydrive.data.sampling.clips import fixed_clips, read_clips
from daydrive.data.store.store import Store
from daydrive.distributed import DistributedContext
from daydrive.envs.world_model.ground_motion import FOCAL, correlations
from daydrive.envs.world_model.readout_training import HORIZON
from daydrive.evaluation.controllability.egomotion import correlation, speeds_at
from daydrive.evaluation.controllability.flow import HEIGHT, motions, to_grey
from daydrive.evaluation.distribution.frechet import frechet_distance, gaussian
from daydrive.evaluation.metrics.intervals import Array
from daydrive.types import Clip, Rollout, to_signed

SECONDS = (1, 2, 3, 5)
CLIPS = 24
"""Number of evaluated clips, evenly spaced, whose trajectories are read."""
CALIBRATION_CLIPS, CALIBRATION_FRAMES = 400, 4
RIDGE = 30.0
"""Regularization of the speed's regression, in standardized features."""
POINTS = 10
"""Positions of each trajectory, evenly spaced in time, that its Fréchet distance compares."""


class Motion(NamedTuple):
    """Between consecutive frames, (..., T). speed: m/s. yaw: rad per frame, positive to the right."""

    speed: Array
    yaw: Array


def positions(motion: Motion, hz: float) -> Array:
    """Integrates the motion to positions (..., T, 2) in m: ahead and to the right of the start.

    >>> straight = Motion(np.full(2, 5.0), np.zeros(2))
    >>> positions(straight, hz=10).tolist()
    [[0.5, 0.0], [1.0, 0.0]]
    """
    heading = motion.yaw.cumsum(axis=-1) - motion.yaw / 2
    steps = np.stack((np.cos(heading), np.sin(heading)), axis=-1) * motion.speed[..., None] / hz
    return np.asarray(steps.cumsum(axis=-2))


def displacements(a: Array, b: Array) -> Array:
    """Distances in m between trajectories (..., T, 2) at the same times, (..., T). Their mean over time is the average
    displacement error, the last one the final displacement error."""
    return np.asarray(np.linalg.norm(a - b, axis=-1))


def dynamic_time_warping(a: Array, b: Array) -> float:
    """The mean distance in m between two trajectories (T, 2) and (S, 2) along the alignment in time with the smallest
    sum of distances (Sakoe and Chiba 1978): insensitive to the speed, sensitive to the path."""
    distances = np.linalg.norm(a[:, None] - b[None], axis=-1)
    total = np.full((len(a) + 1, len(b) + 1), np.inf)
    length = np.zeros((len(a) + 1, len(b) + 1))
    total[0, 0] = 0.0
    for i in range(len(a)):
        for j in range(len(b)):
            before = min(((i, j), (i, j + 1), (i + 1, j)), key=lambda at: total[at])
            total[i + 1, j + 1] = total[before] + distances[i, j]
            length[i + 1, j + 1] = length[before] + 1
    return float(total[-1, -1] / length[-1, -1])


def frechet_positions(a: Array, b: Array) -> float | None:
    """Fréchet distance in m² between two sets of trajectories (N, T, 2): of Gaussians fitted to `POINTS` positions of
    each, evenly spaced in time. None for fewer than two trajectories."""
    if len(a) < 2:
        return None
    chosen = np.unique(np.linspace(0, a.shape[1] - 1, POINTS + 1).round().astype(int)[1:])
    sets = [values[:, chosen].reshape(len(values), -1) for values in (a, b)]
    return frechet_distance(*(gaussian(x.mean(0), np.atleast_2d(np.cov(x, rowvar=False))) for x in sets))


class MotionReader:
    """Reads speed and yaw from frames; created by `calibrate_reader`."""

    def __init__(self, weights: Array, mean: Array, std: Array, yaw_scale: float) -> None:
        """weights: (features + 1,), of the standardized correlations and a constant. yaw_scale: of the camera's
        turn."""
        self._weights, self._mean, self._std, self._yaw_scale = weights, mean, std, yaw_scale

    def __call__(self, frames: Tensor) -> Motion:
        """uint8 (T + 1, 3, H, W) → the motion between them, (T,)."""
        features = (ground_features(frames) - self._mean) / self._std
        speed = features @ self._weights[:-1] + self._weights[-1]
        return Motion(np.maximum(speed, 0.0), camera_turn(frames) * self._yaw_scale)


def ground_features(frames: Tensor) -> Array:
    """uint8 (T + 1, 3, H, W) → the correlations of the ground between consecutive frames, (T, features)."""
    signed = to_signed(frames)
    return np.asarray(correlations(torch.stack((signed[:-1], signed[1:]), dim=1), HORIZON).double().numpy())


def camera_turn(frames: Tensor) -> Array:
    """uint8 (T + 1, 3, H, W) → rad by which an assumed camera, see `ground_motion`, turns between them, (T,)."""
    width = HEIGHT * frames.shape[-1] / frames.shape[-2]
    return np.asarray(np.arctan(motions(to_grey(frames))[..., 0] / (FOCAL * width)))


def calibrate_reader(store: Store, frame_skip: int, dist: DistributedContext | None = None) -> MotionReader | None:
    """Calibrates the estimator on the training drives. None if the store has no speed or no training drives.

    dist: the processes that share the clips.
    """
    if "speed" not in store.schema.names or not store.split("train"):
        return None
    clips = fixed_clips(store, "train", CALIBRATION_FRAMES, CALIBRATION_CLIPS, frame_skip)
    recorded = recorded_motion(store, clips)
    if not np.isfinite(recorded.speed).all():
        return None
    dist = dist or DistributedContext.single(torch.device("cpu"))
    own, measured = dist.share(clips), list[tuple[Array, Array]]()
    for start in range(0, len(own), 32):
        images = read_clips(store, own[start : start + 32]).images
        measured += [(ground_features(frames), camera_turn(frames)) for frames in images]
    features, turns = zip(*dist.gather(measured), strict=True)
    x, speed, turn, yaw = np.concatenate(features), recorded.speed.ravel(), np.stack(turns), recorded.yaw
    mean, std = x.mean(0), x.std(0) + 1e-6
    x = (x - mean) / std
    weights = np.linalg.solve(x.T @ x + RIDGE * np.eye(x.shape[1]), x.T @ (speed - speed.mean()))
    scale = float((turn * yaw).sum() / max((turn * turn).sum(), 1e-12)) if np.isfinite(yaw).all() else 1.0
    return MotionReader(np.append(weights, speed.mean()), mean, std, scale)


def recorded_motion(store: Store, clips: Sequence[Clip]) -> Motion:
    """The motion between the frames of clips of equal length as it was recorded, (clips, T). yaw: from the columns of
    the lane's direction and curvature, NaN if the store has none."""
    skip = clips[0].frame_skip
    rows = [clip.start + skip * np.arange(clip.length) for clip in clips]
    speed = speeds_at(store, rows)
    if not {"heading_error", "curvature"} <= set(store.schema.names):
        return Motion(speed[:, :-1], np.full_like(speed[:, :-1], np.nan))
    values = store.read_values(np.concatenate(rows), ["heading_error", "curvature"])
    error, bend = (np.asarray(values[name], np.float64).reshape(speed.shape) for name in ("heading_error", "curvature"))
    of_lane = (speed * bend / store.clip_hz(skip))[:, :-1]
    return Motion(speed[:, :-1], np.diff(error, axis=1) + of_lane)


def measure_trajectories(
    store: Store,
    clips: Sequence[Clip],
    context: int,
    read_rollout: Callable[[int], Rollout],
    dist: DistributedContext | None = None,
) -> dict[str, Any] | str:
    """Compares the trajectories in the rollouts of clips with those in the recordings, for `evaluation.json`.

    read_rollout: reads the rollout of the clip with this index. dist: the processes that share the clips. A sentence
    instead if they cannot be read.

    `estimator`: correlation and root mean square error of speed (m/s) and yaw rate (rad/s) on the real frames of these
    clips. `horizons`, for each of `SECONDS` within the clips: `ade`, `fde`, `dtw` in m and `frechet` in m² of `dream`,
    of `other_actions` (the same model with another clip's), both compared with the same estimator's reading of the real
    frames, and of `estimator`: this reading compared with the recorded motion, None if that is not known.
    """
    hz = store.clip_hz(clips[0].frame_skip)
    ends = {second: round(second * hz) for second in SECONDS if 2 <= round(second * hz) <= clips[0].length - context}
    dist = dist or DistributedContext.single(torch.device("cpu"))
    reader = calibrate_reader(store, clips[0].frame_skip, dist) if ends else None
    if reader is None:
        return "not measured: they need a store with speeds and training drives, and clips of at least a second"

    def read_motion(index: int) -> list[Motion]:
        rollout = read_rollout(index)
        return [reader(torch.cat((rollout.last[None], f))) for f in (rollout.real, rollout.predicted, rollout.shuffled)]

    motions_read = dist.gather([read_motion(index) for index in dist.share(range(len(clips)))])
    found = {
        name: Motion(*(np.stack(values) for values in zip(*each, strict=True)))
        for name, each in zip(("real", "dream", "other_actions"), zip(*motions_read, strict=True), strict=True)
    }
    recorded = Motion(*(values[:, context - 1 :] for values in recorded_motion(store, clips)))
    paths = {name: positions(motion, hz) for name, motion in found.items()}
    known = np.isfinite(recorded.yaw).all() and np.isfinite(recorded.speed).all()
    pairs: dict[str, tuple[Array, Array] | None] = {
        "dream": (paths["dream"], paths["real"]),
        "other_actions": (paths["other_actions"], paths["real"]),
        "estimator": (paths["real"], positions(recorded, hz)) if known else None,
    }
    yaws = (found["real"].yaw * hz, recorded.yaw * hz)
    return {
        "clips": len(clips),
        "estimator": {
            "speed": _errors(found["real"].speed, recorded.speed),
            "yaw_rate": _errors(*yaws) if known else None,
        },
        "horizons": [
            {
                "seconds": second,
                "steps": end,
                **{name: pair and _compared(pair[0][:, :end], pair[1][:, :end]) for name, pair in pairs.items()},
            }
            for second, end in ends.items()
        ],
    }


def _compared(a: Array, b: Array) -> dict[str, float | None]:
    """a, b: (N, T, 2)."""
    apart = displacements(a, b)
    frechet = frechet_positions(a, b)
    return {
        "ade": round(float(apart.mean()), 4),
        "fde": round(float(apart[:, -1].mean()), 4),
        "dtw": round(float(np.mean([dynamic_time_warping(x, y) for x, y in zip(a, b, strict=True)])), 4),
        "frechet": None if frechet is None else round(frechet, 4),
    }


def _errors(estimate: Array, true: Array) -> dict[str, float]:
    return {
        "correlation": round(correlation(estimate, true), 4),
        "rmse": round(float(np.sqrt(np.square(estimate - true).mean())), 4),
        "spread": round(float(true.std()), 4),
    }
