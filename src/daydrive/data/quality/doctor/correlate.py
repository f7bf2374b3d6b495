"""Cross-correlation of the commanded turn with the turn seen in the images.

A kinematic bicycle turns at speed · tan(wheel angle) / wheelbase, and distant objects move across the image in the
opposite direction by the same angle. Steering times speed, correlated with the image motion to the left, gives the
sign, lag and gain of the steering.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from daydrive.data.quality.doctor.features import DriveFeatures
from daydrive.data.quality.doctor.readings import Column, Flags

REACH_SECONDS = 1.0
"""Maximum lag in seconds, but at least `MIN_REACH` frames."""
MIN_REACH = 8
MIN_FRAMES = 12
UNCHANGED = 0.05
"""Change in grey levels below which two images count as identical, without information about motion."""


@dataclass(frozen=True)
class Correlogram:
    """r (2K+1,): correlation at lags -K to K frames; at positive lags the second signal comes later. weight: effective
    number of frames, reduced for the autocorrelation of the signals (Bartlett)."""

    r: Column
    weight: float

    @property
    def reach(self) -> int:
        return len(self.r) // 2

    @property
    def best(self) -> int:
        """Index of the strongest correlation in `r`."""
        return int(np.argmax(np.abs(self.r)))

    @property
    def peak(self) -> float:
        return float(self.r[self.best])

    @property
    def lag(self) -> float:
        """Lag (frames) of the strongest correlation, with parabolic interpolation."""
        k = self.best
        if k in (0, len(self.r) - 1):
            return float(k - self.reach)
        a, b, c = np.abs(self.r[k - 1 : k + 2])
        bend = a - 2 * b + c
        return float(k - self.reach + (0.5 * (a - c) / bend if bend < -1e-9 else 0.0))

    @property
    def certainty(self) -> float:
        """Significance of the peak in standard deviations (Fisher's z)."""
        return float(np.arctanh(min(abs(self.peak), 0.999)) * np.sqrt(max(self.weight - 3.0, 0.0)))


def commanded_turn(drive: DriveFeatures) -> Column:
    """(N-1,) commanded turn per frame: steering times speed (m/s; 1 if unknown), positive to the right."""
    speed = drive.speed
    if speed is None:
        speed = np.where(drive.actions[:, 3] < 0, -1.0, 1.0)
    return (drive.steering * speed / drive.hz)[:-1]


def image_turn(drive: DriveFeatures) -> tuple[Column, Flags]:
    """(N-1,) turn of the camera seen in the images, as a fraction of the width, positive to the right; and where it is
    known and the car moves, (N-1,)."""
    known = drive.valid[1:] & drive.valid[:-1] & (drive.change > UNCHANGED) & drive.moving[:-1]
    return -drive.right, known


def correlate(a: Column, b: Column, known: Flags, hz: float, reach: int | None = None) -> Correlogram | None:
    """Correlate a with b at lags by which b follows a; None with too few frames. known: where b is valid."""
    reach = reach if reach is not None else max(MIN_REACH, round(REACH_SECONDS * hz))
    reach = min(reach, len(a) // 3)
    finite = np.isfinite(a)
    if len(a) < MIN_FRAMES or (finite & known).sum() < MIN_FRAMES:
        return None
    a, b = np.where(finite, a, 0.0), np.where(known, b, 0.0)
    r = np.zeros(2 * reach + 1)
    for lag in range(-reach, reach + 1):
        left, right = (slice(0, len(a) - lag), slice(lag, None)) if lag >= 0 else (slice(-lag, None), slice(0, lag))
        both = finite[left] & known[right]
        if both.sum() >= MIN_FRAMES // 2:
            r[lag + reach] = correlation(a[left][both], b[right][both])
    if not np.abs(r).max() > 0:
        return None
    return Correlogram(r, _weight(a, b, int((finite & known).sum())))


def pooled(correlograms: list[Correlogram]) -> Correlogram:
    """Weighted mean of correlograms over their common lags."""
    reach = min(c.reach for c in correlograms)
    rows = np.stack([c.r[c.reach - reach : c.reach + reach + 1] for c in correlograms])
    weights = np.array([c.weight for c in correlograms])
    return Correlogram((rows * weights[:, None]).sum(0) / weights.sum(), float(weights.sum()))


def slope(a: Column, b: Column, known: Flags, lag: int) -> tuple[float, float]:
    """Regression slope of b on a at a lag, and its relative standard error; (0, inf) with too few frames."""
    if lag >= 0:
        a, b, known = a[: len(a) - lag], b[lag:], known[lag:]
    else:
        a, b, known = a[-lag:], b[:lag], known[:lag]
    both = np.isfinite(a) & known
    if both.sum() < MIN_FRAMES:
        return 0.0, np.inf
    a, b = a[both] - a[both].mean(), b[both] - b[both].mean()
    power = float(a @ a)
    if power < 1e-12:
        return 0.0, np.inf
    gain = float(a @ b) / power
    r = correlation(a, b)
    weight = _weight(a, b, len(a))
    error = np.sqrt(max(1.0 - r * r, 1e-6) / max(weight, 1.0)) / max(abs(r), 1e-6)
    return gain, float(error)


def correlation(a: Column, b: Column) -> float:
    """Pearson's correlation of two signals (N,); 0 if one of them is constant."""
    a, b = a - a.mean(), b - b.mean()
    power = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / power if power > 1e-12 else 0.0


def _weight(a: Column, b: Column, count: int) -> float:
    """Effective number of independent frames among `count`, from the autocorrelations (Bartlett 1935)."""
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
