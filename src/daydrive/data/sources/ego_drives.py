"""Drives with recorded ego motion, from which their actions are derived."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from daydrive.data.kinematics import clock
from daydrive.data.kinematics.ego_motion import Array, Bicycle, Rates, rates_from_poses, rotations_from_quaternions
from daydrive.data.kinematics.signals import covered
from daydrive.data.sources.derived import VALUES, derive_actions
from daydrive.data.sources.frame_counts import CountedDrives, FrameCounts
from daydrive.errors import UserError
from daydrive.types import Drive, Frame, Image

TOLERANCE = 0.1
"""Maximum distance of a frame to the nearest reading of the motion, s."""

GAP = 2.5
"""Periods between two frames that end a drive; a single lost frame is not a gap."""

MIN_STEP = 1e-3
"""Minimum distance of two poses, s; some recordings repeat a pose after a nanosecond."""

FORWARD_RIGHT_DOWN = np.array([1.0, -1.0, -1.0])

Indices = npt.NDArray[np.int64]


class EgoRecording(Protocol):
    """A recording. All times are in s on one clock; it is picklable and reads its files at each call."""

    @property
    def name(self) -> str: ...

    @property
    def group(self) -> str: ...

    @property
    def file(self) -> Path:
        """The file or folder that error messages name."""
        ...

    @property
    def made_from(self) -> dict[str, str]:
        """What each action is derived from, where that differs between recordings."""
        ...

    def times(self) -> Array:
        """Times of the frames, (N,), strictly increasing."""
        ...

    def motion_times(self) -> Array:
        """Times at which the motion is known, (M,), M >= 2, non-decreasing."""
        ...

    def read(self, times: Array) -> tuple[Rates, Array]:
        """The motion, and additional values (N, D) at the frames."""
        ...

    def images(self, chosen: Indices, image_size: tuple[int, int]) -> Iterator[Image | bytes]:
        """The images of the chosen frames, non-decreasing."""
        ...


@dataclass(frozen=True)
class _Frames:
    """The frames of run number `run` of a recording, resampled to `hz`. names: of its additional values."""

    recording: EgoRecording
    bicycle: Bicycle
    names: tuple[str, ...]
    hz: float
    run: int
    image_size: tuple[int, int]

    def __call__(self) -> Iterator[Frame]:
        times = self.recording.times()
        known, runs = _runs(self.recording, times, self.hz)
        chosen = known[runs[self.run]]
        rates, others = self.recording.read(times)
        derived = derive_actions(rates, times, chosen, self.bicycle)
        values = np.hstack([derived.values, others[chosen]])
        for k, image in enumerate(self.recording.images(chosen, self.image_size)):
            of_frame = dict(zip((*VALUES, *self.names), values[k].tolist(), strict=True))
            yield Frame(image, derived.actions[k].astype(np.float32), k / self.hz, of_frame)


def ego_drives(
    recordings: Sequence[EgoRecording],
    splits: Sequence[str | None],
    bicycle: Bicycle,
    names: Sequence[str],
    hz: float | None,
    image_size: tuple[int, int],
    counts: FrameCounts | None = None,
) -> CountedDrives:
    """The drives of the recordings, cut at gaps. names: of their additional values. hz: default: the native rate.

    counts: of frames that were left out before. Raises UserError if no part of the recordings is long enough.
    """
    times = [recording.times() for recording in recordings]
    rates = clock.shared_hz([(r.file, t) for r, t in zip(recordings, times, strict=True)], hz)
    drives, counts = [], counts or FrameCounts()
    for recording, moments, rate, split in zip(recordings, times, rates, splits, strict=True):
        known, runs = _runs(recording, moments, rate)
        counts.recorded += len(moments)
        counts.leave_out(len(moments) - len(known), f"more than {TOLERANCE:g} s from a reading of the motion")
        for run, chosen in counts.usable(runs, len(known), rate, GAP / rate):
            name = recording.name if len(runs) == 1 else f"{recording.name}.{run}"
            frames = _Frames(recording, bicycle, tuple(names), rate, run, image_size)
            drives.append(Drive(name, rate, frames, split, len(chosen), recording.group, recording.made_from))
    if not drives:
        first = recordings[0].file
        raise UserError(
            f"{first} has no {clock.MIN_RUN_SECONDS:g} s of images and motion without a gap, nor has another"
            f"{counts.why_none()}"
        )
    return CountedDrives(drives, counts)


def _runs(recording: EgoRecording, times: Array, hz: float) -> tuple[Indices, list[Indices]]:
    """The frames at which the motion is known; of each run without a gap, the frames at `hz`, indices into them."""
    known = np.flatnonzero(covered(recording.motion_times(), times, TOLERANCE))
    return known, clock.resample(times[known], hz, GAP / hz) if len(known) else []


@dataclass(frozen=True)
class PoseTrack:
    """times (N,) s, N >= 2, at least `MIN_STEP` apart; positions (N, 3) m; rotations (N, 3, 3), from (forward, right,
    down) to a world whose z axis points up."""

    times: Array
    positions: Array
    rotations: Array

    @classmethod
    def from_rows(cls, times: Array, positions: Array, quaternions: Array, table: str) -> PoseTrack:
        """A track from poses of vehicle axes (forward, left, up).

        times: (N,) s. positions: (N, 3) m. quaternions: (N, 4), real part first. table: their name for error messages,
        which give the row from 0.
        """
        back = np.flatnonzero(np.diff(times) < 0.0)
        if len(back):
            raise UserError(f"{table}, row {back[0] + 1}: its time is before that of the row before")
        bad = np.flatnonzero(np.abs(np.linalg.norm(quaternions, axis=1) - 1.0) > 0.02)
        if len(bad):
            raise UserError(f"{table}, row {bad[0]}: {quaternions[bad[0]].tolist()} is not a rotation, whose norm is 1")
        apart = np.diff(times, prepend=-np.inf) >= MIN_STEP
        if apart.sum() < 2:
            raise UserError(f"{table} has {apart.sum()} poses at different times; at least 2 are needed")
        rotations = rotations_from_quaternions(quaternions[apart]) * FORWARD_RIGHT_DOWN
        return cls(times[apart], positions[apart], rotations)

    def rates(self) -> Rates:
        return rates_from_poses(self.times, self.positions, self.rotations)

    def locations(self, times: Array) -> Array:
        """x (m), y (m) and heading (rad, from x to y) at `times` (M,) s, interpolated, (M, 3)."""
        heading = np.unwrap(np.arctan2(self.rotations[:, 1, 0], self.rotations[:, 0, 0]))
        columns = [np.interp(times, self.times, c) for c in (*self.positions[:, :2].T, heading)]
        columns[2] = np.angle(np.exp(1j * columns[2]))
        return np.column_stack(columns)
