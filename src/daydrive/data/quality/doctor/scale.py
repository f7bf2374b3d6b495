"""Units and scales: steering, speed and rate against the picture's turning, against the other drives, against physics.

The picture turns by gain · steering · speed / rate, with a gain that is one camera's and one car's. A drive whose gain
is k times the others' has a steering or a speed that is k times too small, or frames that are k times as far apart.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from daydrive.data.quality.doctor import units
from daydrive.data.quality.doctor.correlate import UNSEEN, Correlogram, commanded, pooled, slope, turned
from daydrive.data.quality.doctor.features import DriveFeatures
from daydrive.data.quality.doctor.finding import Curve, Finding, named
from daydrive.data.quality.doctor.numbers import LIMIT
from daydrive.data.quality.doctor.readings import STANDING, Column, Readings

APART, SIGMAS = 1.7, 4.0
"""A drive's gain differs when it does by this factor, and by so many standard errors and spreads of the others."""
LEAST_GAIN, LARGEST_GAIN = 0.01, 0.6
"""1/m: focal length / picture width · largest wheel angle / wheelbase, of any camera on any car; about 0.03 to 0.2"""
LARGEST_ACCELERATION, STRONG = 12.0, 6.5
"""m/s²: more than tyres hold, and what strong braking is"""
AS_TRAVELLED = 1.12
METRES_OF_DEGREE = 111_320.0


BENT, CUT_OFF, SURELY_A_UNIT = 0.05, 0.45, 4.0
"""Steering that is not straight; its share at the limit that was cut off; factor from which a unit is mixed up."""
FAR, FAR_NEAR = 15.0, 2.0
"""A factor beyond `FAR` is taken for a unit that is `FAR_NEAR` away: little motion is measured roughly."""
CERTAIN = 3.0
SHORTEST_FOR_SPEED = 12
LEAST_FRAMES = 30
"""of a drive whose gain is held against the others'"""


class Gain(NamedTuple):
    """Turning of the picture for the commanded turning, 1/m, and its relative standard error."""

    value: float
    error: float


Kind = Literal["steering-scale", "speed-scale", "frame-rate"]


def examine_scale(drives: Sequence[DriveFeatures], found: Mapping[str, Correlogram]) -> Iterator[Finding]:
    seen = {name for name, c in found.items() if c.certainty > CERTAIN}
    cut = [drive for drive in drives if _is_cut_off(drive)]
    told = [drive for drive in cut if drive.name in seen]  # it does show in the picture: no stuck signal
    cut = cut if 2 * len(told) > len(cut) else told
    gains = _gains(drives, found, {drive.name for drive in cut})
    speeds = list(_travelled(drives)) or list(_accelerations(drives))
    yield from speeds
    yield from _cut_off(cut, drives, gains)
    if speeds:
        return
    implausible = list(_plausible(drives, gains))
    yield from implausible or _against_others(drives, gains)


def _gains(drives: Sequence[DriveFeatures], found: Mapping[str, Correlogram], left_out: set[str]) -> dict[str, Gain]:
    certain = {name: c for name, c in found.items() if c.certainty > CERTAIN and name not in left_out}
    if not certain:
        return {}
    lag = pooled([Correlogram(np.abs(c.r), c.weight) for c in certain.values()]).lag
    gains = {}
    for drive in drives:
        if drive.name in certain:
            own = certain[drive.name].lag
            value, error = slope(commanded(drive), *turned(drive), round(own if abs(own - lag) > 1.5 else lag))
            if value != 0 and error < 0.5:
                gains[drive.name] = Gain(abs(value), error)
    return gains


def _against_others(drives: Sequence[DriveFeatures], gains: Mapping[str, Gain]) -> Iterator[Finding]:
    if len(gains) < 4:
        return
    by_name = {drive.name: drive for drive in drives}
    for name, mine in gains.items():
        others = {key: gain for key, gain in gains.items() if key != name}
        usual, spread = _middle([math.log(gain.value) for gain in others.values()])
        ratio = math.exp(math.log(mine.value) - usual)
        error = math.hypot(mine.error, spread)
        if len(by_name[name]) < LEAST_FRAMES or abs(math.log(ratio)) < max(
            math.log(APART), min(SIGMAS * error, math.log(2.6) + 2 * mine.error)
        ):
            continue
        drive, rest = by_name[name], [by_name[key] for key in others]
        seen = evidence(drive, rest)
        kind, factor = explain(ratio, error, seen)
        how = _gain_words(ratio)
        if kind == "steering-scale" and "pull" not in seen and _is_rate(ratio) and ratio > 1:
            how += f" (every {round(ratio)}. frame under a clock of all would look the same)"
        yield _scale_finding(kind, factor, (name,), False, len(drives), _gains_curve(gains, name), how, drive)


class Evidence(NamedTuple):
    """What a drive has `ratio` times as much of as the others; error: of its logarithm."""

    ratio: float
    error: float


def explain(gain: float, error: float, seen: Mapping[str, Evidence]) -> tuple[Kind, float]:
    """Which of steering, speed and rate is off in a drive, and by what factor.

    gain: of the drive, against the others'; error: of its logarithm. seen: by `evidence`. A speed k times too large
    shows in the speed itself and in how it answers the pedals, frames k times too far apart in that and in how the
    picture grows, a steering in none of these.
    """
    kinds: dict[Kind, tuple[float, dict[str, float]]] = {
        "steering-scale": (1 / gain, {"level": 1.0, "pull": 1.0, "growth": 1.0}),
        "speed-scale": (1 / gain, {"level": 1 / gain, "pull": 1 / gain, "growth": gain}),
        "frame-rate": (gain, {"level": 1.0, "pull": gain, "growth": gain}),
    }
    costs = {
        kind: sum((math.log(e.ratio / expected[name]) / e.error) ** 2 for name, e in seen.items()) + _PRIOR[kind]
        for kind, (_, expected) in kinds.items()
    }
    kind = min(costs, key=costs.__getitem__)
    told = [(math.log(kinds[kind][0]), error)]
    sides: Mapping[Kind, Mapping[str, float]] = {
        "steering-scale": {}, "speed-scale": {"level": 1.0, "pull": 1.0}, "frame-rate": {"pull": 1.0},
    }  # fmt: skip
    told += [
        (side * math.log(seen[name].ratio), seen[name].error) for name, side in sides[kind].items() if name in seen
    ]
    weights = [1 / e**2 for _, e in told]
    return kind, math.exp(sum(w * x for w, (x, _) in zip(weights, told, strict=True)) / sum(weights))


_PRIOR: Mapping[Kind, float] = {"steering-scale": 0.0, "speed-scale": 1.0, "frame-rate": 2.0}


def evidence(drive: DriveFeatures, rest: Sequence[DriveFeatures]) -> dict[str, Evidence]:
    """level: of the speed; pull: acceleration for the same pedals; growth: of the picture for the speed."""
    found = {}
    pull = _pull(drive, rest)
    if pull is not None:
        found["pull"] = Evidence(pull, 0.3)
    for name, measure in (("level", _level), ("growth", _growth)):
        mine, theirs = measure(drive), [m for m in map(measure, rest) if m is not None]
        if mine is not None and len(theirs) >= 3:
            usual, spread = _middle([math.log(m) for m in theirs])
            found[name] = Evidence(mine / math.exp(usual), 0.12 + 1.5 * spread)
    return found


def _middle(logs: Sequence[float]) -> tuple[float, float]:
    """Median, and the standard deviation by the median deviation from it."""
    middle = float(np.median(logs))
    return middle, float(np.median(np.abs(np.asarray(logs) - middle))) * 1.4826


def _pull(drive: DriveFeatures, rest: Sequence[DriveFeatures]) -> float | None:
    """Acceleration for the same pedals against the others'; None where the pedals don't tell it."""
    mine, theirs = _pedals(drive), [p for p in map(_pedals, rest) if p is not None]
    if mine is None or not theirs:
        return None
    x, y = np.concatenate([p[0] for p in theirs]), np.concatenate([p[1] for p in theirs])
    if len(y) < 30 or y.std() < 0.2:
        return None
    weights, *_ = np.linalg.lstsq(np.column_stack([x, np.ones(len(x))]), y, rcond=None)
    fitted = np.column_stack([x, np.ones(len(x))]) @ weights
    expected = np.column_stack([mine[0], np.ones(len(mine[1]))]) @ weights
    if np.corrcoef(fitted, y)[0, 1] < 0.6 or expected.std() < 0.1 or mine[1].std() < 1e-6:
        return None
    if np.corrcoef(expected, mine[1])[0, 1] < 0.5:
        return None
    return float(mine[1].std() / expected.std())


def _pedals(drive: Readings) -> tuple[Column, Column] | None:
    """throttle and brake (M, 2), and acceleration (M,) m/s², of frames where both are known."""
    if drive.speed is None or len(drive) < 12:
        return None
    change = np.diff(drive.speed) * drive.hz
    pedals = drive.actions[:-1, 1:3]
    fine = np.isfinite(change) & np.isfinite(pedals).all(1) & (np.abs(change) < 60)
    return (pedals[fine], change[fine]) if fine.sum() >= 12 else None


def _level(drive: DriveFeatures) -> float | None:
    """Median speed, m/s."""
    level = float(np.nanmedian(np.abs(drive.speed))) if drive.speed is not None else 0.0
    return level if level > 0.05 else None


def _growth(drive: DriveFeatures) -> float | None:
    """How the picture grows from frame to frame, for the speed."""
    if len(drive) < 12 or drive.speed is None:
        return None
    moves = (np.abs(drive.speed[:-1]) > STANDING) & (drive.change > UNSEEN)
    grown = float(np.median(drive.grows[moves] / np.abs(drive.speed[:-1][moves]))) if moves.sum() > 8 else 0.0
    return grown if grown > 1e-5 else None


def _plausible(drives: Sequence[DriveFeatures], gains: Mapping[str, Gain]) -> Iterator[Finding]:
    """Of the store as a whole: whether the picture turns by as much as any camera on any car does."""
    known = [drive for drive in drives if drive.name in gains and drive.speed is not None and drive.speed_is_known]
    if len(known) < max(1, len(drives) // 4):
        return
    values = np.array([gains[drive.name].value for drive in known])
    gain = float(np.exp(np.average(np.log(values), weights=[len(drive) for drive in known])))
    sure = math.log(2.0) > min(gains[drive.name].error for drive in known)
    if LEAST_GAIN <= gain <= LARGEST_GAIN or not sure or LEAST_GAIN <= np.median(values) <= LARGEST_GAIN:
        return
    usual = math.sqrt(LEAST_GAIN * LARGEST_GAIN)
    factor = usual / gain
    unit = units.known(factor, units.STEERING, near=4.5)
    factor = unit.factor if unit else factor
    names = tuple(drive.name for drive in known)
    how = (
        f"the picture turns by {gain:.2g} of its width for steering 1 at 1 m/s, where cameras on cars have 0.01 to 0.6"
    )
    yield _scale_finding("steering-scale", factor, names, True, len(drives), None, how, known[0])


def _is_cut_off(drive: DriveFeatures) -> bool:
    """Whether steering is mostly at its limit where it isn't straight, as what is far too large and was cut off."""
    bent = np.abs(drive.steering) > BENT
    return bool(bent.sum() > 10 and bent.mean() > 0.08 and (np.abs(drive.steering[bent]) >= LIMIT).mean() > CUT_OFF)


def _cut_off(
    cut: Sequence[DriveFeatures], drives: Sequence[DriveFeatures], gains: Mapping[str, Gain]
) -> Iterator[Finding]:
    """By how much too large it was, from how many frames were cut off, against what the picture's turning asks for by
    the others' gain; noise in that makes it a lower bound, so that a large one is taken for the unit above."""
    if not cut:
        return
    degrees = units.STEERING[0]
    factors = []
    for drive in cut if gains else ():
        speed = drive.speed if drive.speed is not None else np.ones(len(drive))
        right, known = turned(drive)
        gain = float(np.median([gain.value for gain in gains.values()]))
        asked = np.abs(right) / (gain * np.maximum(np.abs(speed[:-1]), 1.0) / drive.hz)
        share = float((np.abs(drive.steering) >= LIMIT).mean())
        factors.append(1.0 / max(float(np.quantile(asked[known], 1.0 - share)), 1e-3))
    factor = float(np.median(factors)) if factors else degrees.factor
    bent = np.concatenate([drive.steering[np.abs(drive.steering) > BENT] for drive in cut])
    how = (
        f"steering is cut off at its limit in {(np.abs(bent) >= LIMIT).mean():.0%} of the frames that are not straight"
    )
    yield _scale_finding(
        "steering-scale", degrees.factor if factor > SURELY_A_UNIT else factor, tuple(drive.name for drive in cut),
        len(cut) == len(drives), len(drives), None, how, cut[0],
    )  # fmt: skip


def _travelled(drives: Sequence[DriveFeatures]) -> Iterator[Finding]:
    """Speed against the way between positions."""
    ratios = {drive.name: ratio for drive in drives if (ratio := speed_by_position(drive)) is not None}
    off = {name: r for name, r in ratios.items() if max(r, 1 / r) > AS_TRAVELLED}
    if not off:
        return
    ratio = float(np.median(list(off.values())))
    unit = units.known(ratio, units.SPEED, near=1.1)
    how = f"the speed is {ratio:.3g} times the way between positions in a second"
    drive = next(drive for drive in drives if drive.name in off)
    kind: Kind = "speed-scale" if unit else "frame-rate" if _is_rate(ratio) else "speed-scale"
    size = 1 / ratio if kind == "frame-rate" else ratio
    yield _scale_finding(kind, size, tuple(off), len(off) == len(drives), len(drives), None, how, drive)


def _is_rate(ratio: float) -> bool:
    """Whether a factor is a whole number or one of these, as where every k-th frame was taken."""
    larger = max(ratio, 1 / ratio)
    return abs(larger - round(larger)) < 0.12 and round(larger) >= 2


def speed_by_position(drive: Readings) -> float | None:
    """Speed over the way between neighbouring positions (`x`, `y` in m, or `latitude`, `longitude`)."""
    v = drive.values
    if "speed" not in v or drive.speed is None:
        return None
    if "x" in v and "y" in v:
        x, y = v["x"], v["y"]
    elif "latitude" in v and "longitude" in v:
        y = v["latitude"] * METRES_OF_DEGREE
        x = v["longitude"] * METRES_OF_DEGREE * np.cos(np.radians(v["latitude"]))
    else:
        return None
    way = np.hypot(np.diff(x), np.diff(y)) * drive.hz
    speed = np.abs((drive.speed[1:] + drive.speed[:-1]) / 2)
    moves = np.isfinite(way) & np.isfinite(speed) & (way > 0.5) & (speed > 0.05)
    return float(np.median(speed[moves]) / np.median(way[moves])) if moves.sum() >= 8 else None


def _accelerations(drives: Sequence[DriveFeatures]) -> Iterator[Finding]:
    """The store's speeds as a whole: a car doesn't speed up or brake by more than its tyres hold."""
    changes = {
        d.name: np.abs(np.diff(d.speed)) * d.hz
        for d in drives
        if d.speed is not None and d.speed_is_known and len(d) > SHORTEST_FOR_SPEED
    }
    changes = {name: c[np.isfinite(c)] for name, c in changes.items()}
    if not changes:
        return
    every = np.concatenate(list(changes.values()))
    if len(every) < 30:
        return
    hardest = float(np.quantile(every, 0.998))
    beyond = [name for name, c in changes.items() if len(c) and float(np.quantile(c, 0.98)) > LARGEST_ACCELERATION]
    if hardest <= LARGEST_ACCELERATION or len(beyond) < max(1, len(changes) // 5):
        return
    if len(beyond) <= len(changes) // 2 and _rest_is_calm(changes, beyond):
        return  # single drives: told by the others
    factor = max(hardest / STRONG, 1.0)
    unit = units.known(factor, units.TOO_FAST, near=2.0)
    names = tuple(changes)
    how = (
        f"it changes by up to {hardest:.0f} m/s², and tyres hold {LARGEST_ACCELERATION:.0f} at most (frames "
        "further apart than the store says would look the same)"
    )
    drive = next(drive for drive in drives if drive.name in changes)
    yield _scale_finding("speed-scale", unit.factor if unit else factor, names, True, len(drives), None, how, drive)


def _rest_is_calm(changes: Mapping[str, Column], beyond: Sequence[str]) -> bool:
    rest = [float(np.quantile(c, 0.98)) for name, c in changes.items() if name not in beyond and len(c)]
    return len(rest) >= 2 and max(rest) < LARGEST_ACCELERATION / 1.5 and len(beyond) <= len(rest) // 2


def _gain_words(ratio: float) -> str:
    return f"the picture turns {ratio:.2g} times as much for the same steering and speed as in the other drives"


_FIXES: Mapping[str, tuple[str, str]] = {
    "steering-scale": ("steering", "divide the steering by it, or give the source the right unit"),
    "speed-scale": ("speed", "divide the speed by it, or give the source the right unit"),
    "frame-rate": ("rate", "prepare the drive again with its true rate (--hz)"),
}


def _scale_finding(
    kind: Kind, factor: float, names: tuple[str, ...], whole: bool, count: int, curve: Curve | None, how: str,
    drive: DriveFeatures,
) -> Finding:  # fmt: skip
    what, fix = _FIXES[kind]
    if kind == "frame-rate":
        factor = float(round(factor)) if factor > 1.6 and abs(factor - round(factor)) < 0.2 * factor else factor
        says = f"the frames of {named(names, count)} are {factor:.3g} times as far apart as the store says: {how}"
    else:
        near = FAR_NEAR if abs(math.log(factor)) > math.log(FAR) else units.NEAR
        unit = units.known(factor, units.STEERING if kind == "steering-scale" else units.SPEED, near)
        factor = unit.factor if unit else factor
        guess = f" ({unit.said}?)" if unit else ""
        size = f"{factor:.3g} times too large" if factor > 1 else f"{1 / factor:.3g} times too small"
        says = f"the {what} of {named(names, count)} is {size}{guess}: {how}"
    severity: Literal["warning", "fatal"] = "warning" if kind == "speed-scale" else "fatal"
    rows = tuple(drive.start + k for k in range(0, min(len(drive), 8), 2))
    return Finding(severity, kind, says, fix, names, whole, factor, "times", rows=rows, curve=curve)


def _gains_curve(gains: Mapping[str, Gain], name: str) -> Curve:
    values = tuple(round(gain.value, 5) for gain in gains.values())
    place = float(list(gains).index(name))
    return Curve("drive", "gain", tuple(map(float, range(len(values)))), {"gain": values}, {"this": place})
