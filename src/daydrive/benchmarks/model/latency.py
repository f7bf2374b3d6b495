"""How long one waits for a frame: the first of a dream, and the next ones."""

from __future__ import annotations

import time
from collections.abc import Mapping
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from daydrive.benchmarks.model.scene import Scene, swaying
from daydrive.models.rollout import Session


class Waits(NamedTuple):
    """Seconds. first: until the first frame of a dream, its context seen; later: until each frame after that,
    a list a dream; processor: of the processor for each of these, all threads together."""

    first: list[float]
    later: list[list[float]]
    processor: list[list[float]]


class Patience(NamedTuple):
    """rounds: in which all take turns, at most; firsts, steps: dreams of one frame and frames of a long dream in each;
    seconds: after which no further round begins, from the second on."""

    rounds: int
    firsts: int
    steps: int
    seconds: float


THOROUGH = Patience(rounds=5, firsts=4, steps=100, seconds=240)
QUICK = Patience(rounds=1, firsts=1, steps=6, seconds=0)


def wait_for(sessions: Mapping[str, Session], scene: Scene, patience: Patience) -> dict[str, Waits]:
    """Each dreams once to warm up, then all in turn: what disturbs the machine for a while hits all of them.

    A frame counts until it is on the processor, as a viewer waits for it. Batch 1.
    """
    for session in sessions.values():
        _dream(session, scene, 3)
    waits = {name: Waits([], [], []) for name in sessions}
    began = time.perf_counter()
    for number in range(patience.rounds):
        if number > 1 and time.perf_counter() - began > patience.seconds:
            break
        for name, session in sessions.items():
            for _ in range(patience.firsts):
                waits[name].first.append(_dream(session, scene, 1)[0].wait)
            first, *later = _dream(session, scene, patience.steps)
            waits[name].first.append(first.wait)
            waits[name].later.append([frame.wait for frame in later])
            waits[name].processor.append([frame.processor for frame in later])
    return waits


def summary(waits: Waits) -> dict[str, float]:
    """Milliseconds; `later_frames`: the median of the last fifth of a dream over that of the first, where a model
    whose cost grows with the dream shows."""
    later = np.array(waits.later)
    fifth = max(1, later.shape[1] // 5)
    metrics: dict[str, float] = {}
    for name, seconds in (("first", np.array(waits.first)), ("next", later)):
        metrics[f"{name}_frame_ms_min"] = float(seconds.min()) * 1e3
        for percent in (50, 99):
            metrics[f"{name}_frame_ms_p{percent}"] = float(np.percentile(seconds, percent)) * 1e3
        metrics[f"{name}_frames_timed"] = int(seconds.size)
    metrics["next_frame_processor_ms_p50"] = float(np.median(waits.processor)) * 1e3
    metrics["later_frames"] = float(np.median(later[:, -fifth:]) / np.median(later[:, :fifth]))
    return metrics


class _Frame(NamedTuple):
    """Seconds by the clock, and of the processor."""

    wait: float
    processor: float


def _dream(session: Session, scene: Scene, steps: int) -> list[_Frame]:
    context, actions = scene.context(session.model.context_frames), swaying(steps)
    times = [(time.perf_counter(), time.process_time())]
    session.reset(*context)
    for t in range(steps):
        session.step(actions[:, t]).cpu()
        times.append((time.perf_counter(), time.process_time()))
    return [_Frame(end - begin, busy - before) for (begin, before), (end, busy) in pairwise(times)]
