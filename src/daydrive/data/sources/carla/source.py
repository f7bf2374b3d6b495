"""The CARLA source: finds recordings, determines their rate and lists their drives."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from daydrive.data.kinematics import clock
from daydrive.data.sources.base import Option, Options, action
from daydrive.data.sources.carla.leaderboard import LeaderboardRoute
from daydrive.data.sources.carla.own import OwnRecording
from daydrive.data.sources.carla.readings import VALUES, Recording
from daydrive.data.sources.files import find_folders
from daydrive.data.sources.frame_counts import CountedDrives, FrameCounts
from daydrive.errors import UserError
from daydrive.types import Drive, Frame

DEPTH = 5
SPLITS = ("by-route", "by-town")

BENCH2DRIVE_HZ = 10.0
RATES = (20.0, 10.0, 5.0, 4.0, 2.0, 1.0)
"""Plausible recording rates, Hz: fractions of CARLA's usual 20 ticks per second."""
STRIDE, MAX_FRAMES, MAX_ROUTES = 4, 200, 16
"""Frames between two positions, frames per route and routes used to estimate the rate."""
MOVING_SPEED = 2.0
"""m/s; above this a frame is used to estimate the rate."""
TOLERANCE = 0.12
"""Maximum relative deviation of the estimated rate from a plausible one."""


@dataclass(frozen=True)
class _Frames:
    """The frames of run number `run` of a recording, resampled to `hz`."""

    recording: Recording
    hz: float
    run: int
    image_size: tuple[int, int]

    def __call__(self) -> Iterator[Frame]:
        times = self.recording.times()
        chosen = clock.resample(times, self.hz)[self.run]
        read = self.recording.read()
        actions = clock.held_mean(read.actions, times, chosen)
        actions[:-1, 3] = read.actions[np.maximum(chosen[1:] - 1, chosen[:-1]), 3]
        read_frame = self.recording.image_reader(self.image_size)
        for k, index in enumerate(chosen.tolist()):
            values = dict(zip(VALUES, read.values[index].tolist(), strict=True))
            yield Frame(read_frame(index), actions[k].astype(np.float32), k / self.hz, values)


class CarlaSource:
    name = "carla"
    needs_root = True
    split: Literal["drive", "time"] = "drive"
    options: tuple[Option, ...] = (
        Option("camera", str, None, "view or image folder, such as rgb_left; default: front"),
        Option("hz", float, None, "frames per second; default: the recordings' native rate", 0.1),
        Option("recorded_hz", float, None, "rate of recordings without times, if it cannot be estimated", 0.1),
        Option("split", str, SPLITS[0], "by-route (a road is in one split, in any weather) or by-town"),
        Option("seed", int, 0, "seed of the split", minimum=0),
    )

    def describe(self, options: Options) -> dict[str, Any]:
        made = (
            "as commanded; of daydrive's recordings read back from the vehicle after the tick, of Bench2Drive's the "
            "next frame's, which was read back; mean up to the next frame"
        )
        return {
            "actions": {
                "steering": action("share of the largest", "positive to the right", "[-1, 1]", made),
                "throttle": action("share of the largest", "positive forwards", "[0, 1]", made),
                "brake": action("share of the largest", "positive slows down", "[0, 1]", made),
                "gear": action("reverse", "1 forwards, -1 backwards", "{-1, 1}", "-1 in reverse; the last one"),
            },
            "values": VALUES,
        }

    def drives(self, root: Path, options: Options, image_size: tuple[int, int]) -> list[Drive]:
        if options["split"] not in SPLITS:
            raise UserError(f"--split {options['split']}: must be by-route or by-town")
        recordings = _recordings(root, options["camera"], options["recorded_hz"])
        times = [recording.times() for recording in recordings]
        clocks = [(r.folder, t) for r, t in zip(recordings, times, strict=True)]
        rates = clock.shared_hz(clocks, options["hz"], options["recorded_hz"])
        drives, counts = [], FrameCounts()
        for recording, moments, hz in zip(recordings, times, rates, strict=True):
            folder = recording.folder
            name = folder.relative_to(root).as_posix() if folder != root else folder.resolve().name
            group = recording.town if options["split"] == "by-town" else recording.group
            if group is None:
                raise UserError(f"--split by-town: the town of {folder} is unknown; use by-route")
            runs = clock.resample(moments, hz)
            counts.recorded += len(moments)
            for run, chosen in counts.usable(runs, len(moments), hz):
                label = name if len(runs) == 1 else f"{name}.{run}"
                read = _Frames(recording, hz, run, image_size)
                drives.append(Drive(label, hz, read, None, len(chosen), group))
        if not drives:
            raise UserError(f"{root} has no {clock.MIN_RUN_SECONDS:g} s of images without a gap{counts.why_none()}")
        return CountedDrives(drives, counts)


def _recordings(root: Path, camera: str | None, recorded_hz: float | None) -> list[Recording]:
    folders = find_folders(root, lambda f: LeaderboardRoute.matches(f) or OwnRecording.matches(f), DEPTH)
    own = [OwnRecording(root, folder) for folder in folders if OwnRecording.matches(folder)]
    routes = [LeaderboardRoute(root, folder, 1.0, camera) for folder in folders if not OwnRecording.matches(folder)]
    found: list[Recording] = [*own, *routes]
    if not found:
        raise UserError(
            f"{root} has no CARLA recordings; a recording has actions.csv, drive.json and images/, or measurements/ "
            "and rgb/, or anno/ and camera/"
        )
    layouts = {recording.layout: recording.folder for recording in reversed(found)}
    if len(layouts) > 1:
        (first, first_folder), (second, second_folder), *_ = layouts.items()
        raise UserError(
            f"{root} mixes layouts, {first} ({first_folder}) and {second} ({second_folder}); prepare them separately"
        )
    if own:
        if camera is not None or recorded_hz is not None:
            raise UserError("recordings of daydrive have a single camera and times; omit camera and recorded_hz")
        return list(own)
    hz = recorded_hz or (BENCH2DRIVE_HZ if "Bench2Drive" in layouts else _estimate_rate(routes, root))
    return [replace(route, hz=hz) for route in routes]


def _estimate_rate(routes: Sequence[LeaderboardRoute], root: Path) -> float:
    """Frames per second, estimated from the speed and the distance between images."""
    rates = []
    for route in routes[:: max(1, len(routes) // MAX_ROUTES)][:MAX_ROUTES]:
        speed, x, y = route.trajectory(MAX_FRAMES).T
        if len(speed) > STRIDE:
            distance = np.hypot(x[STRIDE:] - x[:-STRIDE], y[STRIDE:] - y[:-STRIDE])
            mean = np.stack([speed[k : len(speed) - STRIDE + k] for k in range(STRIDE)]).mean(axis=0)
            usable = (mean > MOVING_SPEED) & (distance > 0.1)
            rates.append(STRIDE * mean[usable] / distance[usable])
    estimates = np.concatenate(rates) if rates else np.empty(0)
    if len(estimates):
        rate = float(np.median(estimates))
        nearest = min(RATES, key=lambda hz: abs(np.log(hz / rate)))
        if abs(nearest / rate - 1.0) < TOLERANCE:
            return nearest
        problem = f"speed over distance gives {rate:.1f} Hz"
    else:
        problem = "the car never moves while its speed is known"
    raise UserError(f"{root}: the frame rate cannot be estimated ({problem}); set it with --set recorded_hz=…")
