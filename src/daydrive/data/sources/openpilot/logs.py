"""`rlog` and `qlog` of a segment: Cap'n Proto messages, plain or compressed by bzip2 or Zstandard.

The schema is that of openpilot, which only adds fields, so that any version reads the logs of all.
"""

from __future__ import annotations

import bz2
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from daydrive.data.kinematics.ego_motion import Array
from daydrive.data.sources.files import inside
from daydrive.errors import UserError

LOGS = ("rlog", "rlog.zst", "rlog.bz2", "qlog", "qlog.zst", "qlog.bz2")
"""Names of the log in order of preference: a qlog has a tenth of the messages."""

MAX_BYTES = 1 << 31
"""Largest log after decompression; a minute has about 2^27."""

ENCODE_INDICES = {
    "fcamera.hevc": ("roadEncodeIdx",),
    "qcamera.ts": ("qRoadEncodeIdx", "roadEncodeIdx"),
    "ecamera.hevc": ("wideRoadEncodeIdx",),
    "dcamera.hevc": ("driverEncodeIdx",),
}
"""Messages with the times of a camera's frames, in order of preference, by the name of its file."""

GEARS = {"reverse": -1.0, "park": 0.0, "neutral": 0.0}
"""Gear by position of the lever; all other positions drive forwards."""

GPS = ("gpsLocationExternal", "gpsLocation")


@dataclass(frozen=True)
class Log:
    """states (M, 4) at times (M,) s: speed in m/s, angle of the steering wheel in degrees positive to the left, gear,
    whether cruise control is on. positions (G, 2): latitude and longitude, degrees, at position_times (G,) s. frames:
    number and time, s, of each frame in the camera's file, (N,) each. complete: whether the log was read to its end."""

    times: Array
    states: Array
    position_times: Array
    positions: Array
    frames: tuple[npt.NDArray[np.int64], Array]
    complete: bool


def read_log(file: Path, root: Path, camera: str, schema: str | None) -> Log:
    """Read a log; camera: file name of the camera. schema: `log.capnp` of openpilot, by default that of the package
    openpilot-logging.

    Raises UserError if it is no log, or has no state of the car, or no times of the camera's frames.
    """
    states: list[tuple[float, ...]] = []
    positions: list[tuple[float, ...]] = []
    indices: dict[str, list[tuple[int, int, float]]] = {name: [] for name in ENCODE_INDICES[camera]}
    complete = True
    for event in _events(file, root, schema):
        if event is None:
            complete = False
            break
        kind, time, content = event
        if kind == "carState":
            gear = GEARS.get(str(content.gearShifter), 1.0)
            states.append((time, content.vEgo, content.steeringAngleDeg, gear, float(content.cruiseState.enabled)))
        elif kind in indices:
            indices[kind].append(
                (content.segmentNum, content.segmentId, (content.timestampSof or content.timestampEof) * 1e-9)
            )
        elif kind in GPS:
            positions.append((time, content.latitude, content.longitude))
    known = np.array(states, np.float64).reshape(-1, 5)
    if len(known) < 2:
        raise UserError(
            f"{file} has {len(known)} messages with the state of the car (carState); at least 2 are required"
        )
    known = known[np.isfinite(known).all(axis=1)]
    known = known[np.concatenate([[True], np.diff(known[:, 0]) > 0.0])]
    found = next((rows for rows in indices.values() if rows), [])
    gps = np.array(positions, np.float64).reshape(-1, 3)
    return Log(known[:, 0], known[:, 1:], gps[:, 0], gps[:, 1:], _frames(file, camera, found), complete)


def _frames(file: Path, camera: str, rows: list[tuple[int, int, float]]) -> tuple[npt.NDArray[np.int64], Array]:
    """Numbers and times of the frames of the segment that the log is of; those of the one before may be in it."""
    segment = Counter(number for number, _, _ in rows).most_common(1)
    times = {number: time for part, number, time in rows if segment and part == segment[0][0] and time > 0.0}
    numbers = np.array(sorted(times), np.int64)
    moments = np.array([times[number] for number in numbers.tolist()])
    if len(numbers) < 2 or (np.diff(moments) <= 0.0).any():
        names = " or ".join(ENCODE_INDICES[camera])
        raise UserError(
            f"{file} has no increasing times of the frames of {camera} ({names}); use the rlog of the segment"
        )
    return numbers, moments


def _events(file: Path, root: Path, schema: str | None) -> Iterator[tuple[str, float, Any] | None]:
    """Kind, time in s and content of each message that the schema knows; None at the end of a log that is cut off."""
    event_type = _event_type(schema)
    import capnp

    data = _content(file, root)
    wanted = {"carState", *GPS, *(name for names in ENCODE_INDICES.values() for name in names)}
    seen = 0
    try:
        for message in event_type.read_multiple_bytes(data):
            seen += 1
            try:
                kind = str(message.which())
            except capnp.KjException:
                continue
            if kind in wanted:
                yield kind, message.logMonoTime * 1e-9, getattr(message, kind)
    except (capnp.KjException, ValueError) as error:
        if not seen:
            raise UserError(f"{file} is not a log of openpilot") from error
        yield None


def _content(file: Path, root: Path) -> bytes:
    """The decompressed log."""
    path = inside(file, root)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror or error})") from error
    if file.suffix == ".bz2":
        data = _decompressed(file, lambda: bz2.BZ2Decompressor().decompress(data, MAX_BYTES), OSError)
    elif file.suffix == ".zst":
        try:
            import zstandard
        except ImportError as error:
            raise UserError(f"{file}: Zstandard is read by zstandard: pip install 'daydrive[openpilot]'") from error
        reader = zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True)
        data = _decompressed(file, lambda: reader.read(MAX_BYTES), zstandard.ZstdError)
    if len(data) >= MAX_BYTES:
        raise UserError(f"{file} has more than {MAX_BYTES >> 30} GiB after decompression, too much for a minute")
    return data


def _decompressed(file: Path, decompress: Callable[[], bytes], kind: type[Exception]) -> bytes:
    """What can be decompressed, also of a file that is cut off."""
    try:
        return decompress()
    except kind as error:
        raise UserError(f"{file} cannot be decompressed ({error})") from error


@cache
def _event_type(schema: str | None) -> Any:
    """The type of the messages."""
    try:
        import capnp
    except ImportError as error:
        raise UserError("logs of openpilot are read by pycapnp: pip install 'daydrive[openpilot]'") from error
    capnp.remove_import_hook()
    if schema is None:
        return capnp.load(str(_packaged_schema())).Event
    if not Path(schema).is_file():
        raise UserError(f"--set schema={schema}: this file does not exist; name cereal/log.capnp of openpilot")
    # pycapnp ends the process for a schema that it cannot parse, so another one tries it first.
    check = [sys.executable, "-c", "import capnp, sys; capnp.load(sys.argv[1]).Event", schema]
    if subprocess.run(check, capture_output=True, check=False).returncode:
        raise UserError(f"--set schema={schema}: not the schema of openpilot's logs")
    return capnp.load(schema).Event


def _packaged_schema() -> Path:
    from importlib.util import find_spec

    found = find_spec("openpilot_logging")
    if found is None or found.origin is None:
        raise UserError(
            "the schema of openpilot's logs is missing: pip install 'daydrive[openpilot]', or name cereal/log.capnp of "
            "openpilot by --set schema=FILE"
        )
    return Path(found.origin).parent / "cereal" / "log.capnp"
