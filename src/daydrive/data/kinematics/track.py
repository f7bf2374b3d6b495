"""GPS tracks (GPX 1.1, https://www.topografix.com/GPX/1/1) as positions over time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from daydrive.data.kinematics.ego_motion import Array
from daydrive.data.kinematics.signals import smooth
from daydrive.errors import UserError

EARTH = 6_371_000.0
"""m, mean radius"""

WINDOW = 4.0
"""seconds over which positions are smoothed: a few fixes of a receiver that has one a second"""


@dataclass(frozen=True)
class Track:
    """began: the time of the first fix. times: (N,) s from it on, increasing. positions: (N, 2) m, east and north."""

    began: datetime
    times: Array
    positions: Array

    def speed(self, at: Array) -> tuple[Array, Array]:
        """Speed (M,) m/s and its slope (M,) m/s² at the moments `at`, (M,) s from the first fix on."""
        velocity = smooth(self.times, self.positions, self.times, WINDOW).slope
        fit = smooth(self.times, np.linalg.norm(velocity, axis=1, keepdims=True), at, WINDOW, order=1)
        return np.maximum(fit.value[:, 0], 0.0), fit.slope[:, 0]


def read_gpx(file: Path) -> Track:
    """The fixes of all segments of a file. UserError where it is no GPX, or its fixes have no times in order."""
    try:
        root = ElementTree.parse(file).getroot()
    except (ElementTree.ParseError, UnicodeDecodeError) as error:
        raise UserError(f"{file} is not GPX ({error})") from error
    moments: list[datetime] = []
    fixes: list[tuple[float, float]] = []
    for number, point in enumerate(root.iterfind(".//{*}trkpt"), start=1):
        where = f"{file}, fix {number}"
        try:
            moment = datetime.fromisoformat(point.findtext("{*}time", "").strip())
            fix = float(point.get("lat", "")), float(point.get("lon", ""))
        except ValueError as error:
            raise UserError(f"{where}: it needs lat, lon and a time such as 2026-05-01T12:00:00Z ({error})") from error
        if not (abs(fix[0]) <= 90.0 and abs(fix[1]) <= 180.0):
            raise UserError(f"{where}: {fix[0]:g}, {fix[1]:g} is nowhere on Earth")
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        if moments and moment < moments[-1]:
            raise UserError(f"{where}: its time {moment} comes before the one of the fix before it")
        if not moments or moment > moments[-1]:
            moments.append(moment)
            fixes.append(fix)
    if len(moments) < 2:
        raise UserError(f"{file} has {len(moments)} fixes with different times (trkpt); a track needs at least 2")
    latitude, longitude = np.radians(np.array(fixes)).T
    east = EARTH * np.cos(latitude.mean()) * (np.unwrap(longitude) - longitude[0])
    positions = np.column_stack([east, EARTH * (latitude - latitude[0])])
    return Track(moments[0], np.array([(moment - moments[0]).total_seconds() for moment in moments]), positions)
