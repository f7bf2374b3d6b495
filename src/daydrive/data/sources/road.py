"""Drives in the built-in road environment, rendered during preparation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from daydrive.data.sources.base import Option, Options, action
from daydrive.types import Drive, Frame

HZ = 10.0
VALUES = {
    "lane_offset": "m from the middle of the lane, positive to the right",
    "heading_error": "rad from the direction of the lane, positive to the right",
    "curvature": "1/m, positive bends to the right",
    "speed": "m/s",
    "off_road": "1 where the car has left the road, else 0",
}


@dataclass(frozen=True)
class _Frames:
    seed: int
    frames: int
    image_size: tuple[int, int]

    def __call__(self) -> Iterator[Frame]:
        from daydrive.envs.road import drive

        for k, (image, act, info) in enumerate(drive(self.seed, self.frames, self.image_size)):
            yield Frame(image, act, k / HZ, {name: float(info[name]) for name in VALUES})


class RoadSource:
    name = "road"
    needs_root = False
    split: Literal["drive", "time"] = "drive"
    options: tuple[Option, ...] = (
        Option("drives", int, 72, "number of drives", minimum=1),
        Option("frames", int, 200, "frames per drive, at 10 Hz", minimum=2),
        Option("seed", int, 0, "seed of roads, weather, drivers and split", minimum=0),
    )

    def describe(self, options: Options) -> dict[str, Any]:
        same = "as it is; it holds from a frame to the next"
        return {
            "actions": {
                "steering": action("share of full lock", "positive to the right", "[-1, 1]", same),
                "throttle": action("share of full throttle", "positive forwards", "[0, 1]", same),
                "brake": action("share of full brake", "positive slows down", "[0, 1]", same),
                "gear": action("direction", "1 forwards, -1 backwards, 0 neutral", "{-1, 0, 1}", same),
            },
            "values": VALUES,
        }

    def drives(self, root: Path, options: Options, image_size: tuple[int, int]) -> list[Drive]:
        from daydrive.envs.road.camera import check_image_size

        check_image_size(image_size)
        frames = int(options["frames"])
        return [
            Drive(f"road_{i:05d}", HZ, _Frames(drive_seed(options["seed"], i), frames, image_size), length=frames)
            for i in range(options["drives"])
        ]


def drive_seed(seed: int, drive: int) -> int:
    """A 32-bit seed derived from `seed` and the index of the drive."""
    return int(np.random.SeedSequence([seed, drive]).generate_state(1)[0])
