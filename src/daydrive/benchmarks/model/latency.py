"""Latency of the first frame of a rollout and of later frames."""

from __future__ import annotations

import time
from collections.abc import Mapping
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from daydrive.benchmarks.model.scene import Scene, swaying_actions
from daydrive.models.rollout import Session


class Latencies(NamedTuple):
    """Seconds. first: of the first frame including its context; later: of each later frame, one list per rollout;
    processor: CPU time of each later frame, all threads together."""

    first: list[float]
    later: list[list[float]]
    processor: list[list[float]]


class LatencyEffort(NamedTuple):
    """rounds: maximum number of rounds; firsts, steps: one-frame rollouts and frames of a long rollout per round;
    seconds: no further round starts after this time, except for the second."""

    rounds: int
    firsts: int
    steps: int
    seconds: float


THOROUGH = LatencyEffort(rounds=5, firsts=4, steps=100, seconds=240)
QUICK = LatencyEffort(rounds=1, firsts=1, steps=6, seconds=0)


def measure_latency(sessions: Mapping[str, Session], scene: Scene, effort: LatencyEffort) -> dict[str, Latencies]:
    """Time rollouts with batch size 1, all models in turn after a warm-up, so that other load affects all of them.

    A frame is complete when it is on the CPU, as for a viewer.
    """
    for session in sessions.values():
        _time_rollout(session, scene, 3)
    latencies = {name: Latencies([], [], []) for name in sessions}
    began = time.perf_counter()
    for number in range(effort.rounds):
        if number > 1 and time.perf_counter() - began > effort.seconds:
            break
        for name, session in sessions.items():
            for _ in range(effort.firsts):
                latencies[name].first.append(_time_rollout(session, scene, 1)[0].wall)
            first, *later = _time_rollout(session, scene, effort.steps)
            latencies[name].first.append(first.wall)
            latencies[name].later.append([frame.wall for frame in later])
            latencies[name].processor.append([frame.processor for frame in later])
    return latencies


def summary(latencies: Latencies) -> dict[str, float]:
    """Latencies in milliseconds. `later_frames`: median of the last fifth of a rollout over that of the first fifth,
    above 1 for a model whose cost grows."""
    later = np.array(latencies.later)
    fifth = max(1, later.shape[1] // 5)
    metrics: dict[str, float] = {}
    for name, seconds in (("first", np.array(latencies.first)), ("next", later)):
        metrics[f"{name}_frame_ms_min"] = float(seconds.min()) * 1e3
        for percent in (50, 99):
            metrics[f"{name}_frame_ms_p{percent}"] = float(np.percentile(seconds, percent)) * 1e3
        metrics[f"{name}_frames_timed"] = int(seconds.size)
    metrics["next_frame_processor_ms_p50"] = float(np.median(latencies.processor)) * 1e3
    metrics["later_frames"] = float(np.median(later[:, -fifth:]) / np.median(later[:, :fifth]))
    return metrics


class _Frame(NamedTuple):
    """Wall-clock and CPU seconds of a frame."""

    wall: float
    processor: float


def _time_rollout(session: Session, scene: Scene, steps: int) -> list[_Frame]:
    context, actions = scene.context(session.model.context_frames), swaying_actions(steps)
    times = [(time.perf_counter(), time.process_time())]
    session.reset(*context)
    for t in range(steps):
        session.step(actions[:, t]).cpu()
        times.append((time.perf_counter(), time.process_time()))
    return [_Frame(end - start, busy - before) for (start, before), (end, busy) in pairwise(times)]
