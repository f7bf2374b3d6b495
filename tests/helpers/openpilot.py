"""Writer for segments of openpilot of a car with known motion, by the schema of the package openpilot-logging."""

from __future__ import annotations

import bz2
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.open_formats import write_video
from helpers.recordings import Truth, wheel_degrees
from helpers.recordings import write_video as write_stream

SIZE = (48, 64)
STATE_HZ = 100.0

needs_schema = pytest.mark.skipif(
    find_spec("capnp") is None or find_spec("openpilot_logging") is None,
    reason="the extra `openpilot` is not installed",
)


@cache
def schema() -> Any:
    capnp = pytest.importorskip("capnp", reason="comes with the extra `openpilot`")
    pytest.importorskip("openpilot_logging", reason="comes with the extra `openpilot`, for Python before 3.13")
    found = find_spec("openpilot_logging")
    assert found is not None and found.origin is not None
    capnp.remove_import_hook()
    return capnp.load(str(Path(found.origin).parent / "cereal" / "log.capnp"))


Events = list[tuple[float, Any]]
"""Times, s, and messages."""


def events(truth: Truth, segment: int = 0, rate: float = STATE_HZ) -> Events:
    """All messages: states of the car, times of the frames of both cameras, positions, and one of another kind."""
    found: Events = []
    times = np.arange(truth.times[0] - 0.05, truth.times[-1] + 0.1, 1 / rate)
    speed, angle = truth.at(np.abs(truth.speed), times), wheel_degrees(truth.at(truth.wheel, times))
    for k, time in enumerate(times.tolist()):
        event = schema().Event.new_message(logMonoTime=round(time * 1e9))
        state = event.init("carState")
        state.vEgo, state.steeringAngleDeg = float(speed[k]), float(angle[k])
        state.gearShifter = "reverse" if truth.backwards else "drive"
        state.cruiseState.enabled = k >= len(times) // 2
        found.append((time, event))
    for k, time in enumerate(truth.times.tolist()):
        for name, kind in (("roadEncodeIdx", "fullHEVC"), ("qRoadEncodeIdx", "qcameraH264")):
            event = schema().Event.new_message(logMonoTime=round((time + 0.04) * 1e9))
            index = event.init(name)
            index.segmentNum, index.segmentId, index.type = segment, k, kind
            index.timestampSof, index.timestampEof = round(time * 1e9), round((time + 0.02) * 1e9)
            found.append((time + 0.04, event))
        if k % 10 == 0:
            event = schema().Event.new_message(logMonoTime=round(time * 1e9))
            position = event.init("gpsLocationExternal")
            position.latitude, position.longitude = 37.5 + k / 1024, -122.25 - k / 1024
            found.append((time, event))
    other = schema().Event.new_message(logMonoTime=1)
    other.init("deviceState")
    return [*found, (0.0, other)]


def write_segment(
    folder: Path, truth: Truth, log: str = "rlog", camera: str = "fcamera.hevc", segment: int = 0,
    edit: Callable[[Events], Events] | None = None, size: tuple[int, int] = SIZE,
) -> Path:  # fmt: skip
    """Writes the log and a camera of a segment. edit: changes the messages."""
    folder.mkdir(parents=True, exist_ok=True)
    found = events(truth, segment, STATE_HZ if log.startswith("rlog") else STATE_HZ / 10)
    found = sorted(edit(found) if edit else found, key=lambda item: item[0])
    data = b"".join(event.to_bytes() for _, event in found)
    if log.endswith(".bz2"):
        data = bz2.compress(data)
    elif log.endswith(".zst"):
        import zstandard

        data = zstandard.ZstdCompressor().compress(data)
    (folder / log).write_bytes(data)
    images = truth.images(size)
    if camera.endswith(".ts"):
        write_video(folder / camera, (truth.times - truth.times[0]) * 1000, images)
    else:
        write_stream(folder / camera, images)
    return folder
