"""Estimates driver actions for videos without recorded actions, from image motion and an optional GPS track.

The horizontal motion of the image gives the yaw rate for each frame; a GPS track gives speed and acceleration, about
once a second. A kinematic bicycle model (`ego_motion`) converts these to actions. Reverse driving is not detected.
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
from daydrive.data.sources.files import entries, is_recorded
from daydrive.errors import UserError
from daydrive.files import write_text

ACTIONS = "actions.csv"
HEADER = "time,steering,throttle,brake,gear"

CAR = Bicycle(wheelbase=2.7, largest_angle=0.5)

LARGEST_TURN = np.radians(30.0)
"""rad/s at steering 1 if there is no track with the speed: a tight corner in town."""

WINDOW = 0.5
"""Seconds over which the estimated yaw rate is smoothed."""

MAX_OVERHANG = 2.0
"""Seconds by which a video may start before its track or end after it."""


def videos_without_actions(root: Path) -> list[Path]:
    """The videos below `root` that have no actions.csv beside them. Raises UserError if there is none."""
    files = sorted(
        file
        for file in root.rglob("*")
        if file.suffix.lower() in video.SUFFIXES and all(map(is_recorded, file.relative_to(root).parts))
    )
    if not files:
        raise UserError(f"{root} contains no videos ({', '.join(video.SUFFIXES)})")
    missing = [file for file in files if not (file.parent / ACTIONS).exists()]
    if not missing:
        raise UserError(f"{root} has an {ACTIONS} beside every video; delete those that should be estimated again")
    return missing


def write_actions(file: Path, field_of_view: float, offset: float | None) -> str:
    """Estimates the actions of a video, writes them to actions.csv beside it and returns a one-line summary.

    field_of_view: horizontal, degrees. offset: time of the first frame on the clock of the GPX track beside the video,
    s; by default from the creation time stored in the video.
    """
    times = video.frame_times(file).seconds
    times -= times[0]
    track = _read_track(file)
    speed = acceleration = None
    if track is not None:
        at = _track_times(file, times, track, offset)
        speed, acceleration = track.speed(at)
    actions = controls(yaw_rates(file, field_of_view), speed, acceleration)
    write_text(file.parent / ACTIONS, _to_csv(times, actions, speed))
    estimated = "steering" if track is None else "steering, throttle, brake, speed"
    return f"{file.parent / ACTIONS}: {estimated} of {len(times)} frames, {times[-1]:.0f} s"


def controls(yaw_rate: Array, speed: Array | None, acceleration: Array | None) -> Array:
    """Actions (N, 4) from yaw rate (N,) rad/s, speed (N,) m/s and acceleration (N,) m/s².

    Without a speed, steering is yaw rate / `LARGEST_TURN`, clipped, and throttle and brake are 0.
    """
    if speed is None or acceleration is None:
        steering = np.clip(yaw_rate / LARGEST_TURN, -1.0, 1.0)
        return np.column_stack([steering, *np.zeros((2, len(yaw_rate))), np.ones(len(yaw_rate))])
    return CAR.actions(Motion(speed, yaw_rate, acceleration))


def yaw_rates(file: Path, field_of_view: float) -> Array:
    """Yaw rate at each frame, (N,) rad/s, positive to the right, assuming a forward-facing pinhole camera.

    field_of_view: horizontal, degrees.
    """
    times = video.frame_times(file).seconds
    tolerance = 0.45 * float(np.diff(times).min())
    images = video.frames_at(file, times, tolerance, (SIDE, SIDE))
    greys = (cv2.cvtColor(resize(image, (SIDE, SIDE)), cv2.COLOR_RGB2GRAY).astype(np.float32) for image in images)
    shifts = [-shift(before, after).right for before, after in pairwise(pyramid(grey) for grey in greys)]
    image_width = 2.0 * np.tan(np.radians(field_of_view) / 2.0)
    rates = np.arctan(np.array(shifts) * image_width) / np.diff(times)
    return smooth((times[:-1] + times[1:]) / 2.0, rates[:, None], times, WINDOW, order=1).value[:, 0]


def _read_track(file: Path) -> Track | None:
    tracks = entries(file.parent, "*.gpx")
    if len(tracks) > 1:
        raise UserError(
            f"{file.parent} has {len(tracks)} GPS tracks ({tracks[0].name}, {tracks[1].name}); keep one of them"
        )
    return read_gpx(tracks[0]) if tracks else None


def _track_times(file: Path, times: Array, track: Track, offset: float | None) -> Array:
    """The times (N,) s of the frames on the track's clock."""
    if offset is None:
        created = video.recorded_at(file)
        if created is None:
            raise UserError(
                f"{file} has no creation time; set --offset to the time of its first frame on the track's clock, in "
                "seconds"
            )
        offset = (created - track.start).total_seconds()
    at = times + offset
    if at[0] < -MAX_OVERHANG or at[-1] > track.times[-1] + MAX_OVERHANG:
        raise UserError(
            f"{file} covers {at[0]:.0f} to {at[-1]:.0f} s of a track that covers 0 to {track.times[-1]:.0f} s; set "
            "--offset to the time of its first frame on the track's clock, in seconds"
        )
    return np.clip(at, 0.0, track.times[-1])


def _to_csv(times: Array, actions: Array, speed: Array | None) -> str:
    columns = [actions] if speed is None else [actions, speed[:, None]]
    rows = np.hstack(columns)
    lines = [f"{time:.4f}," + ",".join(f"{cell:.4g}" for cell in row) for time, row in zip(times, rows, strict=True)]
    return "\n".join([HEADER if speed is None else f"{HEADER},speed", *lines]) + "\n"
