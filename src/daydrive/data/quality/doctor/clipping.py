"""Steering that is clipped at its limit because it is far too large, such as degrees taken for radians.

Keyboards and joysticks go to the limit as well. The difference shows in the images: at full lock they turn much, but
where small angles were clipped they turn little.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from daydrive.data.quality.doctor import units
from daydrive.data.quality.doctor.correlate import image_turn
from daydrive.data.quality.doctor.evidence import TURN
from daydrive.data.quality.doctor.features import DriveFeatures
from daydrive.data.quality.doctor.numbers import LIMIT

CLIPPED_SHARE = 0.45
"""Share of the frames with turns at the limit that may mean clipping."""
MIN_FACTOR = 1.7
"""Factor by which the gain of a drive must differ from that of the others."""
CLIPPED_GAIN = 0.025
"""Gain in 1/m below which steering at the limit was clipped. With degrees taken for radians it is 0.002 to 0.015, with
keyboards 0.06 to 0.1."""
MIN_UNIT_FACTOR = 4.0
"""Factor that means a wrong unit."""


class Gain(NamedTuple):
    """Ratio of the image turn to the commanded turn (1/m), and its relative standard error."""

    value: float
    error: float


def clipped_drives(drives: Sequence[DriveFeatures], gains: Mapping[str, Gain]) -> list[DriveFeatures]:
    """The drives whose steering was clipped. gains: by drive, of those where it can be measured."""
    limited = [drive for drive in drives if _is_at_the_limit(drive)]
    measured = [drive for drive in limited if drive.name in gains]
    others = [gain.value for name, gain in gains.items() if name not in {drive.name for drive in limited}]
    if len(others) >= 3:
        lowest = float(np.median(others)) / MIN_FACTOR
        clipped = [drive for drive in measured if gains[drive.name].value < lowest]
    else:
        clipped = [drive for drive in measured if drive.speed_is_known and gains[drive.name].value < CLIPPED_GAIN]
    return limited if len(others) == 0 and 2 * len(clipped) > len(measured) else clipped


def clipping_factor(clipped: Sequence[DriveFeatures], gains: Mapping[str, Gain]) -> tuple[float, str]:
    """By what factor the steering of clipped drives is too large, and the reason.

    The factor follows from the share of clipped frames and the steering that the image motion implies with the gain of
    the other drives. Noise makes this a lower bound, so large values are taken for degrees.
    """
    degrees = units.STEERING[0].factor
    factors = []
    for drive in clipped if gains else ():
        right, known = image_turn(drive)
        if not known.any():
            continue
        speed = drive.speed if drive.speed is not None else np.ones(len(drive))
        gain = float(np.median([gain.value for gain in gains.values()]))
        implied = np.abs(right) / (gain * np.maximum(np.abs(speed[:-1]), 1.0) / drive.hz)
        share = float((np.abs(drive.steering) >= LIMIT).mean())
        factors.append(1.0 / max(float(np.quantile(implied[known], 1.0 - share)), 1e-3))
    factor = float(np.median(factors)) if factors else degrees
    turns = np.concatenate([drive.steering[np.abs(drive.steering) > TURN] for drive in clipped])
    reason = (
        f"steering is at its limit in {(np.abs(turns) >= LIMIT).mean():.0%} of the frames with turns, where the image "
        "turns little"
    )
    return degrees if factor > MIN_UNIT_FACTOR else factor, reason


def limit_share(drive: DriveFeatures) -> float:
    """Share of the frames with turns in which steering is at its limit."""
    turning = np.abs(drive.steering) > TURN
    return float((np.abs(drive.steering[turning]) >= LIMIT).mean()) if turning.any() else 0.0


def _is_at_the_limit(drive: DriveFeatures) -> bool:
    turning = np.abs(drive.steering) > TURN
    return bool(turning.sum() > 10 and turning.mean() > 0.08 and limit_share(drive) > CLIPPED_SHARE)
