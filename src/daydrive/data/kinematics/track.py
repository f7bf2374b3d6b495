"""GPS tracks (GPX 1.1, https://www.topografix.com/GPX/1/1)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from daydrive.data.kinematics.ego_motion import Array
from daydrive.data.kinematics.signals import smooth
from daydrive.errors import UserError

EARTH_RADIUS = 6_371_000.0
"""Mean radius, m."""

WINDOW = 4.0
"""Seconds over which positions are smoothed: a few fixes of a 1 Hz receiver."""


@dataclass(frozen=True)
class Track:
    """start: time of the first fix. times: (N,) s since then, increasing. positions: (N, 2) m, east and north."""

    start: datetime
    times: Array
    positions: Array

    def speed(self, at: Array) -> tuple[Array, Array]:
        """Speed (M,) m/s and acceleration (M,) m/s² at the times `at`, (M,) s since the first fix."""
        velocity = smooth(self.times, self.positions, self.times, WINDOW).slope
        fit = smooth(self.times, np.linalg.norm(velocity, axis=1, keepdims=True), at, WINDOW, order=1)
        return np.maximum(fit.value[:, 0], 0.0), fit.slope[:, 0]


def read_gpx(file: Path) -> Track:
    """The fixes of all segments of a GPX file.

    Raises UserError if the file is not GPX, or a fix lacks a position or a time, or the times decrease.
    """
    try:
        root = ElementTree.parse(file).getroot()
    except (ElementTree.ParseError, UnicodeDecodeError) as error:
        raise UserError(f"{file} is not GPX ({error})") from error
    times: list[datetime] = []
    fixes: list[tuple[float, float]] = []
    for number, point in enumerate(root.iterfind(".//{*}trkpt"), start=1):
        where = f"{file}, fix {number}"
        try:
            time = datetime.fromisoformat(point.findtext("{*}time", "").strip())
            fix = float(point.get("lat", "")), float(point.get("lon", ""))
        except ValueError as error:
            raise UserError(
                f"{where}: lat, lon and a time such as 2026-05-01T12:00:00Z are required ({error})"
            ) from error
        if not (abs(fix[0]) <= 90.0 and abs(fix[1]) <= 180.0):
            raise UserError(f"{where}: {fix[0]:g}, {fix[1]:g} is not a valid latitude and longitude")
        time = time if time.tzinfo else time.replace(tzinfo=UTC)
        if times and time < times[-1]:
            raise UserError(f"{where}: its time {time} is before that of the previous fix")
        if not times or time > times[-1]:
            times.append(time)
            fixes.append(fix)
    if len(times) < 2:
        raise UserError(f"{file} has {len(times)} fixes (trkpt) with distinct times; a track needs at least 2")
    latitude, longitude = np.radians(np.array(fixes)).T
    east = EARTH_RADIUS * np.cos(latitude.mean()) * (np.unwrap(longitude) - longitude[0])
    positions = np.column_stack([east, EARTH_RADIUS * (latitude - latitude[0])])
    return Track(times[0], np.array([(time - times[0]).total_seconds() for time in times]), positions)
