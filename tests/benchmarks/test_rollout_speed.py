"""The rollout benchmark detects rollouts that slow down, and frames that are not finite or out of range."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from daydrive.benchmarks.model import long_rollout, rollout_speed

FrameOf = Callable[[int], Tensor]


def with_rollout(monkeypatch: pytest.MonkeyPatch, frame_of: FrameOf) -> list[tuple[torch.Size, torch.Size]]:
    """Replaces the rollout by frames from `frame_of`; returns the shapes of context and actions of each call."""
    given = []

    def frames(model: Anything, context: Tensor, actions: Tensor) -> Iterator[Tensor]:
        given.append((context.shape, actions.shape))
        assert context.min() >= -1 and context.max() <= 1 and actions[..., 0].abs().max() <= 1
        for i in range(actions.shape[1] - context.shape[1] + 1):
            yield frame_of(i)

    monkeypatch.setattr(long_rollout, "rollout_frames", frames)
    return given


class Anything:
    """A model that is never called."""

    context_frames = 4


def flat(i: int) -> Tensor:
    return torch.zeros(1, 3, 8, 8)


class Clock:
    """The clock of the measurement, advanced by the duration of each frame."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(long_rollout.time, "perf_counter", lambda: self.now)

    def after(self, seconds: float) -> Tensor:
        self.now += seconds
        return flat(0)


def test_constant_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    given = with_rollout(monkeypatch, lambda i: clock.after(0.002))
    result = rollout_speed(Anything(), (8, 8), frames=40)  # type: ignore[arg-type]
    assert given == [((1, 4, 3, 8, 8), (1, 43, 4))]
    assert (result["frames"], result["finite"], result["in_range"]) == (40, True, True)
    assert result["fps"] == pytest.approx(500) and result["real_time"] == pytest.approx(50)
    assert result["latency_ms_p50"] == pytest.approx(2) == result["latency_ms_p99"]
    assert result["peak_rss_mb"] > 10
    json.dumps(result, allow_nan=False)


def test_a_slowdown_is_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    with_rollout(monkeypatch, lambda i: clock.after(0.001 if i < 20 else 0.01))
    assert rollout_speed(Anything(), (8, 8), frames=40)["flatness"] == pytest.approx(0.1)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "finite", "in_range"), [(float("nan"), False, False), (float("inf"), False, False), (1.5, True, False)]
)
def test_invalid_frame_is_detected(monkeypatch: pytest.MonkeyPatch, value: float, finite: bool, in_range: bool) -> None:
    with_rollout(monkeypatch, lambda i: flat(i) + (value if i == 7 else 0.0))
    result = rollout_speed(Anything(), (8, 8), frames=20)  # type: ignore[arg-type]
    assert (result["finite"], result["in_range"]) == (finite, in_range)


def test_single_frame_is_not_measured() -> None:
    with pytest.raises(ValueError, match="at least 2 frames"):
        rollout_speed(Anything(), (8, 8), frames=1)  # type: ignore[arg-type]
