"""How what the driver commands shows in what the picture does: cross-correlation of steering and the picture's turning.

A kinematic bicycle turns by speed · tan(wheel) / wheelbase, and things far away then move across the picture the other
way by the same angle. So steering times speed, against the picture's motion to the left, gives sign, lag and gain.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from daydrive.data.quality.doctor.features import DriveFeatures
from daydrive.data.quality.doctor.readings import Column, Flags

REACH_SECONDS = 1.0
"""Lags of up to this, and at least `LEAST_REACH` frames, are looked at."""
LEAST_REACH = 8
LEAST_FRAMES = 12
UNSEEN = 0.05
"""Grey levels; where the picture changes by less it is the same one, and says nothing about motion."""


@dataclass(frozen=True)
class Correlogram:
    """r (2K+1,): correlation at lags -K to K frames, positive where the second comes later. weight: frames that count,
    fewer than there are since neighbours are alike (Bartlett)."""

    r: Column
    weight: float

    @property
    def reach(self) -> int:
        return len(self.r) // 2

    @property
    def best(self) -> int:
        """Place of the strongest correlation."""
        return int(np.argmax(np.abs(self.r)))

    @property
    def peak(self) -> float:
        return float(self.r[self.best])

    @property
    def lag(self) -> float:
        """Frames at the strongest correlation, between frames by a parabola."""
        k = self.best
        if k in (0, len(self.r) - 1):
            return float(k - self.reach)
        a, b, c = np.abs(self.r[k - 1 : k + 2])
        bend = a - 2 * b + c
        return float(k - self.reach + (0.5 * (a - c) / bend if bend < -1e-9 else 0.0))

    @property
    def certainty(self) -> float:
        """Peak in standard deviations of what chance gives (Fisher's z)."""
        return float(np.arctanh(min(abs(self.peak), 0.999)) * np.sqrt(max(self.weight - 3.0, 0.0)))


def commanded(drive: DriveFeatures) -> Column:
    """(N-1,) steering times speed (m/s; 1 where unknown) a frame: what the driver asks to turn by, positive right."""
    speed = drive.speed
    if speed is None:
        speed = np.where(drive.actions[:, 3] < 0, -1.0, 1.0)
    return (drive.steering * speed / drive.hz)[:-1]


def turned(drive: DriveFeatures) -> tuple[Column, Flags]:
    """(N-1,) what the picture turned by, share of its width, positive right; and where that is known."""
    known = drive.seen[1:] & drive.seen[:-1] & (drive.change > UNSEEN)
    return -drive.right, known


def correlate(a: Column, b: Column, known: Flags, hz: float, reach: int | None = None) -> Correlogram | None:
    """a leads b by the lags; None where there is too little. known: of b."""
    reach = reach if reach is not None else max(LEAST_REACH, round(REACH_SECONDS * hz))
    reach = min(reach, len(a) // 3)
    fine = np.isfinite(a)
    if len(a) < LEAST_FRAMES or (fine & known).sum() < LEAST_FRAMES:
        return None
    a, b = np.where(fine, a, 0.0), np.where(known, b, 0.0)
    r = np.zeros(2 * reach + 1)
    for lag in range(-reach, reach + 1):
        left, right = (slice(0, len(a) - lag), slice(lag, None)) if lag >= 0 else (slice(-lag, None), slice(0, lag))
        both = fine[left] & known[right]
        if both.sum() >= LEAST_FRAMES // 2:
            r[lag + reach] = _correlation(a[left][both], b[right][both])
    if not np.abs(r).max() > 0:
        return None
    return Correlogram(r, _weight(a, b, int((fine & known).sum())))


def pooled(found: list[Correlogram]) -> Correlogram:
    """Of all drives, each with its weight; over the lags that all have."""
    reach = min(c.reach for c in found)
    rows = np.stack([c.r[c.reach - reach : c.reach + reach + 1] for c in found])
    weights = np.array([c.weight for c in found])
    return Correlogram((rows * weights[:, None]).sum(0) / weights.sum(), float(weights.sum()))


def slope(a: Column, b: Column, known: Flags, lag: int) -> tuple[float, float]:
    """b for one of a, at a lag; and its standard error relative to it. (0, inf) where there is too little."""
    if lag >= 0:
        a, b, known = a[: len(a) - lag], b[lag:], known[lag:]
    else:
        a, b, known = a[-lag:], b[:lag], known[:lag]
    both = np.isfinite(a) & known
    if both.sum() < LEAST_FRAMES:
        return 0.0, np.inf
    a, b = a[both] - a[both].mean(), b[both] - b[both].mean()
    power = float(a @ a)
    if power < 1e-12:
        return 0.0, np.inf
    gain = float(a @ b) / power
    r = _correlation(a, b)
    weight = _weight(a, b, len(a))
    error = np.sqrt(max(1.0 - r * r, 1e-6) / max(weight, 1.0)) / max(abs(r), 1e-6)
    return gain, float(error)


def _correlation(a: Column, b: Column) -> float:
    a, b = a - a.mean(), b - b.mean()
    power = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / power if power > 1e-12 else 0.0


def _weight(a: Column, b: Column, count: int) -> float:
    """Independent frames among `count`, by the autocorrelations (Bartlett 1935)."""
    a, b = a - a.mean(), b - b.mean()
    powers = float(a @ a), float(b @ b)
    if min(powers) < 1e-12:
        return 0.0
    total = 1.0
    for lag in range(1, len(a) // 4):
        product = float(a[lag:] @ a[:-lag]) / powers[0] * float(b[lag:] @ b[:-lag]) / powers[1]
        if product < 0.02:
            break
        total += 2.0 * product
    return count / total
