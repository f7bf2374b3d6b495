"""Donkeycar (donkeycar.com) tubs, versions 1 and 2; the root is a tub or a folder of tubs.

    v2  <tub>/manifest.json              5 lines of JSON, the last with the catalogs' `paths` and `deleted_indexes`
        <tub>/catalog_N.catalog          one record per line: user/angle, user/throttle, cam/image_array,
                                         _timestamp_ms, _session_id
        <tub>/images/N_cam_image_array_.jpg
    v1  <tub>/record_N.json              user/angle, user/throttle, cam/image_array, milliseconds or timestamp
        <tub>/N_cam-image_array_.jpg

Angles range from -1 (left) to 1 (right) (`LEFT_ANGLE` and `RIGHT_ANGLE` in its parts/actuator.py), throttle from -1 to
1; negative throttle brakes or, at a standstill, reverses. Deleted records are skipped; they and the end of a session
end a drive.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from daydrive.data.images import read_image
from daydrive.data.kinematics import clock
from daydrive.data.sources.base import Option, Options, action
from daydrive.data.sources.donkeycar.tubs import find_tubs, image_folder, joined_times, read_runs
from daydrive.data.sources.frame_counts import CountedDrives, FrameCounts
from daydrive.data.sources.mapping import interval_means, pedals
from daydrive.data.sources.timestamps import RECORDED_HZ
from daydrive.errors import UserError
from daydrive.types import Drive, Frame

GAP = 0.5
"""Seconds; by default a longer interval ends a drive. The drive loop of a small computer stalls for some tenths of a
second now and then."""

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Frames:
    folder: Path
    images: list[str]
    where: list[str]
    actions: npt.NDArray[np.float32]
    values: Array
    hz: float
    image_size: tuple[int, int]

    def __call__(self) -> Iterator[Frame]:
        for k, name in enumerate(self.images):
            image = read_image(self.folder / name, self.where[k], self.image_size, shrink=True)
            frame_values = dict(zip(VALUES, self.values[k].tolist(), strict=True))
            yield Frame(image, self.actions[k], k / self.hz, frame_values)


VALUES = {
    "user_angle": "as recorded, [-1, 1], positive to the right, mean up to the next frame",
    "user_throttle": "as recorded, [-1, 1], negative brakes or reverses, mean up to the next frame",
    "record": "number of the record in its tub",
}


class DonkeycarSource:
    name = "donkeycar"
    needs_root = True
    split: Literal["drive", "time"] = "drive"
    options: tuple[Option, ...] = (
        Option("hz", float, None, "frames per second; default: the tubs' native rate", 0.1),
        Option("seed", int, 0, "seed of the split by tub", minimum=0),
        Option("gap", float, None, f"s; a longer interval ends a drive; default: {GAP:g}, at least two periods", 0.01),
        RECORDED_HZ,
    )

    def describe(self, options: Options) -> dict[str, Any]:
        held = "mean up to the next frame; a record's reading holds until the next one"
        range_ = "user/throttle of [-1, 1]"
        return {
            "actions": {
                "steering": action("share of the largest angle", "positive to the right", "[-1, 1]", held),
                "throttle": action(range_, "positive forwards", "[0, 1]", f"the positive part; {held}"),
                "brake": action(range_, "positive slows down", "[0, 1]", f"the negative part, negated; {held}"),
                "gear": action("not recorded", "1 forwards", "-", "always 1, in reverse too, which looks like braking"),
            },
            "values": VALUES,
        }

    def drives(self, root: Path, options: Options, image_size: tuple[int, int]) -> list[Drive]:
        counts, stated = FrameCounts(), options["recorded_hz"]
        read = [(tub, read_runs(tub, root, counts, stated)) for tub in find_tubs(root)]
        read = [(tub, runs) for tub, runs in read if runs]
        rates = clock.shared_hz([(tub, joined_times(runs)) for tub, runs in read], options["hz"], stated)
        drives: dict[str, Drive] = {}
        for tub, run, hz in ((tub, run, hz) for (tub, runs), hz in zip(read, rates, strict=True) for run in runs):
            times, readings = np.array(run.times), np.array(run.readings)
            throttle, brake = pedals(readings[:, 1])
            recorded = np.column_stack([readings[:, 0], throttle, brake, np.ones(len(times))])
            gap = options["gap"] or max(GAP, 2.0 / hz)
            pieces = clock.resample(times, hz, gap)
            for _, chosen in counts.usable(pieces, len(times), hz, gap, "a larger --set gap=SECONDS keeps more"):
                actions, values = interval_means(recorded, readings[:, :2], times, chosen)
                rows = chosen.tolist()
                frames = _Frames(
                    image_folder(tub), [run.images[k] for k in rows], [run.where[k] for k in rows],
                    actions, np.column_stack([values, readings[chosen, 2]]), hz, image_size,
                )  # fmt: skip
                group = tub.resolve().name if tub == root else tub.relative_to(root).as_posix()
                name = "/".join(filter(None, [group, run.session, str(int(readings[chosen[0], 2]))]))
                name = name if name not in drives else f"{name}.{len(drives)}"
                drives[name] = Drive(name, hz, frames, None, len(chosen), group)
        if not drives:
            raise UserError(f"{root} has no {clock.MIN_RUN_SECONDS:g} s of records without a gap{counts.why_none()}")
        return CountedDrives(drives.values(), counts)
