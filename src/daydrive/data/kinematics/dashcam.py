"""What the driver did, for a video without a record of it: an estimate from the picture and from a GPS track.

How the picture turns gives the yaw rate, frame by frame; a track gives speed and acceleration, once a second. A
kinematic bicycle turns these into controls (`ego`). Gears can't be told: a car that reverses seems to drive on.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np

from daydrive.data import video
from daydrive.data.images import resize
from daydrive.data.kinematics.ego_motion import Array, Bicycle, Motion
from daydrive.data.kinematics.signals import smooth
from daydrive.data.kinematics.track import Track, read_gpx
from daydrive.data.quality.doctor.motion import SIDE, pyramid, shift
from daydrive.errors import UserError
from daydrive.files import write_text

ACTIONS = "actions.csv"
HEADER = "time,steering,throttle,brake,gear"

CAR = Bicycle(wheelbase=2.7, largest_angle=0.5)

LARGEST_TURN = np.radians(30.0)
"""rad/s at steering 1 where no track tells the speed; a tight corner in town"""

WINDOW = 0.5
"""seconds over which the picture's turning is smoothed"""

REACH = 2.0
"""seconds by which a video may begin before its track or end after it"""


def drives_without_actions(root: Path) -> list[Path]:
    """The videos below a folder in whose own folder nobody wrote what was done. UserError where there is none."""
    files = sorted(file for file in root.rglob("*") if file.suffix.lower() in video.SUFFIXES)
    if not files:
        raise UserError(f"{root} has no videos ({', '.join(video.SUFFIXES)}) in it")
    wanted = [file for file in files if not (file.parent / ACTIONS).exists()]
    if not wanted:
        raise UserError(f"{root} has an {ACTIONS} beside every video; remove those that are to be made anew")
    return wanted


def write_actions(file: Path, field_of_view: float, offset: float | None) -> str:
    """Estimates what was done in a video, writes it beside the video and says so in a sentence.

    field_of_view: degrees across the picture. offset: s on the clock of the GPX beside the video at the first frame; by
    default from the time at which the video says that it was made.
    """
    times = video.frame_times(file)
    times -= times[0]
    track = _track(file)
    speed = acceleration = None
    if track is not None:
        at = _on_track(file, times, track, offset)
        speed, acceleration = track.speed(at)
    actions = controls(yaw_rates(file, field_of_view), speed, acceleration)
    write_text(file.parent / ACTIONS, _table(times, actions, speed))
    known = "steering" if track is None else "steering, throttle, brake, speed"
    return f"{file.parent / ACTIONS}: {known} of {len(times)} frames, {times[-1]:.0f} s"


def controls(yaw_rate: Array, speed: Array | None, acceleration: Array | None) -> Array:
    """Actions (N, 4) of yaw rate (N,) rad/s, speed (N,) m/s and acceleration (N,) m/s². Without a speed the wheel is
    the yaw rate itself, as a share of `LARGEST_TURN`, and nobody presses a pedal."""
    if speed is None or acceleration is None:
        steering = np.clip(yaw_rate / LARGEST_TURN, -1.0, 1.0)
        return np.column_stack([steering, *np.zeros((2, len(yaw_rate))), np.ones(len(yaw_rate))])
    return CAR.actions(Motion(speed, yaw_rate, acceleration))


def yaw_rates(file: Path, field_of_view: float) -> Array:
    """(N,) rad/s, positive to the right: how the picture turns at each frame, as a pinhole camera that looks ahead sees
    it."""
    times = video.frame_times(file)
    tolerance = 0.45 * float(np.diff(times).min())
    pixels = video.frames_at(file, times, tolerance, (SIDE, SIDE))
    greys = (cv2.cvtColor(resize(image, (SIDE, SIDE)), cv2.COLOR_RGB2GRAY).astype(np.float32) for image in pixels)
    moved = [-shift(before, after).right for before, after in pairwise(pyramid(grey) for grey in greys)]
    widths = 2.0 * np.tan(np.radians(field_of_view) / 2.0)
    turned = np.arctan(np.array(moved) * widths) / np.diff(times)
    return smooth((times[:-1] + times[1:]) / 2.0, turned[:, None], times, WINDOW, order=1).value[:, 0]


def _track(file: Path) -> Track | None:
    tracks = sorted(file.parent.glob("*.gpx"))
    if len(tracks) > 1:
        raise UserError(f"{file.parent} has {len(tracks)} tracks ({tracks[0].name}, {tracks[1].name}); a drive has one")
    return read_gpx(tracks[0]) if tracks else None


def _on_track(file: Path, times: Array, track: Track, offset: float | None) -> Array:
    """The times (N,) s of the frames on the track's clock."""
    if offset is None:
        made = video.made_at(file)
        if made is None:
            raise UserError(
                f"{file} does not say when it was made; set --offset to the seconds on the track's clock at its first "
                "frame"
            )
        offset = (made - track.began).total_seconds()
    at = times + offset
    if at[0] < -REACH or at[-1] > track.times[-1] + REACH:
        raise UserError(
            f"{file} goes from {at[0]:.0f} to {at[-1]:.0f} s of a track that goes from 0 to {track.times[-1]:.0f} s; "
            "set --offset to the seconds on the track's clock at the first frame"
        )
    return np.clip(at, 0.0, track.times[-1])


def _table(times: Array, actions: Array, speed: Array | None) -> str:
    columns = [actions] if speed is None else [actions, speed[:, None]]
    rows = np.hstack(columns)
    lines = [f"{time:.4f}," + ",".join(f"{cell:.4g}" for cell in row) for time, row in zip(times, rows, strict=True)]
    return "\n".join([HEADER if speed is None else f"{HEADER},speed", *lines]) + "\n"
