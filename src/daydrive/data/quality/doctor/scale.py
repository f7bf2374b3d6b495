"""Checks of units and scales: steering, speed and frame rate against the image motion, the other drives, and physics.

The image turns by gain · steering · speed / frame rate, with a gain that is specific to camera and car. A drive with k
times the gain of the others has steering or speed that is k times too small, or frames that are k times as far apart.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from daydrive.data.quality.doctor import units
from daydrive.data.quality.doctor.clipping import (
    MIN_FACTOR,
    MIN_UNIT_FACTOR,
    Gain,
    clipped_drives,
    clipping_factor,
    limit_share,
)
from daydrive.data.quality.doctor.correlate import UNCHANGED, Correlogram, commanded_turn, image_turn, pooled, slope
from daydrive.data.quality.doctor.evidence import LOOK, evidence_of
from daydrive.data.quality.doctor.features import DriveFeatures
from daydrive.data.quality.doctor.finding import Curve, Finding, Severity, drives_text
from daydrive.data.quality.doctor.readings import STANDING, Column, Readings
from daydrive.data.quality.doctor.steering import judged

SIGMAS = 3.8
"""Number of standard errors by which the gain of a drive must differ from that of the others."""
MIN_GAIN, MAX_GAIN = 0.01, 0.6
"""Plausible gains in 1/m: focal length / image width · maximum wheel angle / wheelbase; usually 0.03 to 0.2."""
MAX_ACCELERATION, STRONG_BRAKING = 12.0, 6.5
"""m/s²: the limit of tyre grip, and strong braking."""
MAX_SPEED_RATIO = 1.12
"""Maximum ratio between the speed and the displacement per second."""
METRES_PER_DEGREE = 111_320.0


FAR, FAR_NEAR = 15.0, 2.0
"""Factors beyond `FAR` are matched with units within a ratio of `FAR_NEAR`, because small motions are imprecise."""
CERTAIN = 3.0
MIN_FRAMES_FOR_SPEED = 12
MIN_FRAMES, MIN_SECONDS, MIN_TURNS = 30, 3.0, 10
"""Minimum length of a drive whose gain is compared with the others, and of its turns in frames."""


MIN_DISTANCE = 1.3
"""Factor by which the gain of a drive must differ from that of every other drive."""
FIRM, MANY, FATAL_FACTOR = 8.0, 8, 2.3
"""Gains vary with the distance of the scene, by a third among short drives. A drive differs from the others beyond
doubt if all are measured with these standard errors, or from so many others by this factor."""
MAX_LIMIT_SHARE = 0.2
"""Share of the frames with turns at the limit, where tyres slide, up to which the gain does not depend on it."""

Kind = Literal["steering-scale", "speed-scale", "frame-rate"]


def check_scale(drives: Sequence[DriveFeatures], found: Mapping[str, Correlogram]) -> Iterator[Finding]:
    """Yield findings on units and scales. found: correlograms by drive, from `correlograms`."""
    measured = judged(drives, found, MIN_SECONDS, MIN_TURNS)
    gains = _gains(drives, measured)
    clipped = clipped_drives(drives, gains)
    sound = {name: gain for name, gain in gains.items() if name not in {drive.name for drive in clipped}}
    speeds = list(_displacements(drives)) or list(_accelerations(drives))
    yield from speeds
    if clipped:
        names = tuple(drive.name for drive in clipped)
        factor, reason = clipping_factor(clipped, sound)
        doubt = _doubt(drives, names, measured, steady=factor > MIN_UNIT_FACTOR)
        yield _scale_finding(
            "steering-scale", factor, names, len(clipped) == len(drives), len(drives), None, reason, clipped[0], doubt
        )  # fmt: skip
    if speeds:
        return
    implausible = list(_implausible_gain(drives, sound, measured))
    yield from implausible or _against_others(drives, sound, measured)


def _doubt(
    drives: Sequence[DriveFeatures], names: Sequence[str], found: Mapping[str, Correlogram], steady: bool
) -> str | None:
    """The end of a message about the gain of some drives that says how sure it is; None if it is beyond reasonable
    doubt. steady: whether the gain does not vary by itself, as it always does where the speed is not known."""
    own = evidence_of(drives, {name: found[name] for name in names if name in found})
    rest = evidence_of(drives, {name: c for name, c in found.items() if name not in names})
    if own is None:
        return " (not certain: the image motion of these drives shows nothing)"
    known = all(drive.speed_is_known for drive in drives if drive.name in names)
    return None if steady and known and (own.conclusive or own.conclusive_beside(rest)) else own.doubt


def _gains(drives: Sequence[DriveFeatures], found: Mapping[str, Correlogram]) -> dict[str, Gain]:
    certain = {name: c for name, c in found.items() if c.certainty > CERTAIN}
    if not certain:
        return {}
    lag = pooled([Correlogram(np.abs(c.r), c.weight) for c in certain.values()]).lag
    gains = {}
    for drive in drives:
        if drive.name in certain:
            own = certain[drive.name].lag
            value, error = slope(commanded_turn(drive), *image_turn(drive), round(own if abs(own - lag) > 1.2 else lag))
            if value != 0 and error < 0.5:
                gains[drive.name] = Gain(abs(value), error)
    return gains


def _against_others(
    drives: Sequence[DriveFeatures], gains: Mapping[str, Gain], found: Mapping[str, Correlogram]
) -> Iterator[Finding]:
    if len(gains) < 4:
        return
    by_name = {drive.name: drive for drive in drives}
    for name, own in gains.items():
        others = {key: gain for key, gain in gains.items() if key != name}
        usual, spread = _median_and_spread([math.log(gain.value) for gain in others.values()])
        ratio = math.exp(math.log(own.value) - usual)
        error = math.hypot(own.error, spread)
        nearest = min(max(gain.value / own.value, own.value / gain.value) for gain in others.values())
        if (
            nearest < MIN_DISTANCE
            or len(by_name[name]) < MIN_FRAMES
            or abs(math.log(ratio)) < max(math.log(MIN_FACTOR), min(SIGMAS * error, math.log(2.6) + 2 * own.error))
        ):
            continue
        drive, rest = by_name[name], [by_name[key] for key in others]
        observed = compare(drive, rest)
        kind, factor = attribute_gain(ratio, error, observed)
        reason = _gain_text(ratio)
        if kind == "steering-scale" and "pull" not in observed and _is_rate(ratio) and ratio > 1:
            reason += f" (using only every {round(ratio)}. frame at an unchanged frame rate would look the same)"
        limit = max(limit_share(drive), float(np.median([limit_share(other) for other in rest])))
        many = len(rest) >= MANY and abs(math.log(ratio)) > math.log(FATAL_FACTOR)
        firm = min(found[name].certainty, _median(found[key].certainty for key in others)) >= FIRM
        measured = {key: c for key, c in found.items() if key in gains}
        steady = limit < MAX_LIMIT_SHARE and (many or firm)
        doubt = _doubt(drives, [name], measured, steady)
        curve = _gains_curve(gains, name)
        yield _scale_finding(kind, factor, (name,), False, len(drives), curve, reason, drive, doubt)


class Comparison(NamedTuple):
    """Ratio of a quantity of a drive to that of the others, and the standard error of its logarithm."""

    ratio: float
    error: float


def attribute_gain(gain: float, error: float, observed: Mapping[str, Comparison]) -> tuple[Kind, float]:
    """Decide which of steering, speed and frame rate is wrong in a drive, and by what factor.

    gain: of the drive, relative to the others; error: of its logarithm. observed: from `compare`. A speed k times too
    large also shows in the speed level and its response to the pedals, frames k times too far apart in the response and
    in the image expansion, wrong steering in none of these.
    """
    kinds: dict[Kind, tuple[float, dict[str, float]]] = {
        "steering-scale": (1 / gain, {"level": 1.0, "pull": 1.0, "growth": 1.0}),
        "speed-scale": (1 / gain, {"level": 1 / gain, "pull": 1 / gain, "growth": gain}),
        "frame-rate": (gain, {"level": 1.0, "pull": gain, "growth": gain}),
    }
    costs = {
        kind: sum((math.log(e.ratio / expected[name]) / e.error) ** 2 for name, e in observed.items()) + _PRIOR[kind]
        for kind, (_, expected) in kinds.items()
    }
    kind = min(costs, key=costs.__getitem__)
    estimates = [(math.log(kinds[kind][0]), error)]
    exponents: Mapping[Kind, Mapping[str, float]] = {
        "steering-scale": {}, "speed-scale": {"level": 1.0, "pull": 1.0}, "frame-rate": {"pull": 1.0},
    }  # fmt: skip
    estimates += [
        (exponent * math.log(observed[name].ratio), observed[name].error)
        for name, exponent in exponents[kind].items()
        if name in observed
    ]
    weights = [1 / e**2 for _, e in estimates]
    return kind, math.exp(sum(w * x for w, (x, _) in zip(weights, estimates, strict=True)) / sum(weights))


_PRIOR: Mapping[Kind, float] = {"steering-scale": 0.0, "speed-scale": 1.0, "frame-rate": 2.0}


def compare(drive: DriveFeatures, rest: Sequence[DriveFeatures]) -> dict[str, Comparison]:
    """Compare a drive with the others: level of the speed, pull (acceleration for the same pedals), growth (image
    expansion for the same speed)."""
    found = {}
    pull = _pull(drive, rest)
    if pull is not None:
        found["pull"] = Comparison(pull, 0.3)
    for name, measure in (("level", _level), ("growth", _growth)):
        own, others = measure(drive), [m for m in map(measure, rest) if m is not None]
        if own is not None and len(others) >= 3:
            usual, spread = _median_and_spread([math.log(m) for m in others])
            found[name] = Comparison(own / math.exp(usual), 0.12 + 1.5 * spread)
    return found


def _median(values: Iterable[float]) -> float:
    return float(np.median(list(values)))


def _median_and_spread(logs: Sequence[float]) -> tuple[float, float]:
    """Median, and the standard deviation estimated from the median absolute deviation."""
    middle = float(np.median(logs))
    return middle, float(np.median(np.abs(np.asarray(logs) - middle))) * 1.4826


def _pull(drive: DriveFeatures, rest: Sequence[DriveFeatures]) -> float | None:
    """Acceleration for the same pedals, relative to the others; None if the pedals do not predict it."""
    own, others = _pedals(drive), [p for p in map(_pedals, rest) if p is not None]
    if own is None or not others:
        return None
    x, y = np.concatenate([p[0] for p in others]), np.concatenate([p[1] for p in others])
    if len(y) < 30 or y.std() < 0.2:
        return None
    weights, *_ = np.linalg.lstsq(np.column_stack([x, np.ones(len(x))]), y, rcond=None)
    fitted = np.column_stack([x, np.ones(len(x))]) @ weights
    expected = np.column_stack([own[0], np.ones(len(own[1]))]) @ weights
    if np.corrcoef(fitted, y)[0, 1] < 0.6 or expected.std() < 0.1 or own[1].std() < 1e-6:
        return None
    if np.corrcoef(expected, own[1])[0, 1] < 0.5:
        return None
    return float(own[1].std() / expected.std())


def _pedals(drive: Readings) -> tuple[Column, Column] | None:
    """Throttle and brake (M, 2), and acceleration (M,) in m/s², of the frames where both are known."""
    if drive.speed is None or len(drive) < 12:
        return None
    change = np.diff(drive.speed) * drive.hz
    pedals = drive.actions[:-1, 1:3]
    finite = np.isfinite(change) & np.isfinite(pedals).all(1) & (np.abs(change) < 60)
    return (pedals[finite], change[finite]) if finite.sum() >= 12 else None


def _level(drive: DriveFeatures) -> float | None:
    """Median speed, m/s."""
    level = float(np.nanmedian(np.abs(drive.speed))) if drive.speed is not None else 0.0
    return level if level > 0.05 else None


def _growth(drive: DriveFeatures) -> float | None:
    """Median image expansion per frame, relative to the speed."""
    if len(drive) < 12 or drive.speed is None:
        return None
    moves = (np.abs(drive.speed[:-1]) > STANDING) & (drive.change > UNCHANGED)
    growth = float(np.median(drive.growth[moves] / np.abs(drive.speed[:-1][moves]))) if moves.sum() > 8 else 0.0
    return growth if growth > 1e-5 else None


def _implausible_gain(
    drives: Sequence[DriveFeatures], gains: Mapping[str, Gain], found: Mapping[str, Correlogram]
) -> Iterator[Finding]:
    """Check the gain of the whole store against the range possible for cameras on cars."""
    known = [drive for drive in drives if drive.name in gains and drive.speed is not None and drive.speed_is_known]
    if len(known) < max(1, len(drives) // 4):
        return
    values = np.array([gains[drive.name].value for drive in known])
    gain = float(np.exp(np.average(np.log(values), weights=[len(drive) for drive in known])))
    certain = math.log(2.0) > min(gains[drive.name].error for drive in known)
    if MIN_GAIN <= gain <= MAX_GAIN or not certain or MIN_GAIN <= np.median(values) <= MAX_GAIN:
        return
    usual = math.sqrt(MIN_GAIN * MAX_GAIN)
    factor = usual / gain
    unit = units.match_mix_up(factor, units.STEERING, near=4.5)
    factor = unit.factor if unit else factor
    names = tuple(drive.name for drive in known)
    reason = f"the image turns by {gain:.2g} of its width per second for steering 1 at 1 m/s; 0.01 to 0.6 is possible"
    doubt = _doubt(drives, names, found, steady=True)
    yield _scale_finding("steering-scale", factor, names, True, len(drives), None, reason, known[0], doubt)


def _displacements(drives: Sequence[DriveFeatures]) -> Iterator[Finding]:
    """Compare the speed with the distance between positions."""
    ratios = {drive.name: ratio for drive in drives if (ratio := speed_by_position(drive)) is not None}
    off = {name: r for name, r in ratios.items() if max(r, 1 / r) > MAX_SPEED_RATIO}
    if not off:
        return
    ratio = float(np.median(list(off.values())))
    unit = units.match_mix_up(ratio, units.SPEED, near=1.1)
    reason = f"the speed is {ratio:.3g} times the distance between positions per second"
    drive = next(drive for drive in drives if drive.name in off)
    kind: Kind = "speed-scale" if unit else "frame-rate" if _is_rate(ratio) else "speed-scale"
    size = 1 / ratio if kind == "frame-rate" else ratio
    yield _scale_finding(kind, size, tuple(off), len(off) == len(drives), len(drives), None, reason, drive)


def _is_rate(ratio: float) -> bool:
    """Whether a factor is close to an integer k >= 2 or 1 / k, as if only every k-th frame was used."""
    larger = max(ratio, 1 / ratio)
    return abs(larger - round(larger)) < 0.12 and round(larger) >= 2


def speed_by_position(drive: Readings) -> float | None:
    """Ratio of the speed to the distance per second between positions (`x`, `y` in m, or `latitude`, `longitude`); None
    without positions."""
    v = drive.values
    if "speed" not in v or drive.speed is None:
        return None
    if "x" in v and "y" in v:
        x, y = v["x"], v["y"]
    elif "latitude" in v and "longitude" in v:
        y = v["latitude"] * METRES_PER_DEGREE
        x = v["longitude"] * METRES_PER_DEGREE * np.cos(np.radians(v["latitude"]))
    else:
        return None
    travelled = np.hypot(np.diff(x), np.diff(y)) * drive.hz
    speed = np.abs((drive.speed[1:] + drive.speed[:-1]) / 2)
    moves = np.isfinite(travelled) & np.isfinite(speed) & (travelled > 0.5) & (speed > 0.05)
    return float(np.median(speed[moves]) / np.median(travelled[moves])) if moves.sum() >= 8 else None


def _accelerations(drives: Sequence[DriveFeatures]) -> Iterator[Finding]:
    """Check that accelerations over the whole store stay within the grip of tyres."""
    changes = {
        d.name: np.abs(np.diff(d.speed)) * d.hz
        for d in drives
        if d.speed is not None and d.speed_is_known and len(d) > MIN_FRAMES_FOR_SPEED
    }
    changes = {name: c[np.isfinite(c)] for name, c in changes.items()}
    if not changes:
        return
    values = np.concatenate(list(changes.values()))
    if len(values) < 30:
        return
    peak = float(np.quantile(values, 0.998))
    implausible = [name for name, c in changes.items() if len(c) and float(np.quantile(c, 0.98)) > MAX_ACCELERATION]
    if peak <= MAX_ACCELERATION or len(implausible) < max(1, len(changes) // 5):
        return
    if len(implausible) <= len(changes) // 2 and _rest_is_plausible(changes, implausible):
        return  # single drives are compared with the others
    factor = max(peak / STRONG_BRAKING, 1.0)
    unit = units.match_mix_up(factor, units.TOO_FAST, near=2.0)
    names = tuple(changes)
    reason = (
        f"it changes by up to {peak:.0f} m/s², and tyres allow at most {MAX_ACCELERATION:.0f} (frames further "
        "apart than the stored rate would look the same)"
    )
    drive = next(drive for drive in drives if drive.name in changes)
    yield _scale_finding("speed-scale", unit.factor if unit else factor, names, True, len(drives), None, reason, drive)


def _rest_is_plausible(changes: Mapping[str, Column], implausible: Sequence[str]) -> bool:
    rest = [float(np.quantile(c, 0.98)) for name, c in changes.items() if name not in implausible and len(c)]
    return len(rest) >= 2 and max(rest) < MAX_ACCELERATION / 1.5 and len(implausible) <= len(rest) // 2


def _gain_text(ratio: float) -> str:
    return f"the image turns {ratio:.2g} times as much as in the other drives for the same steering and speed"


_QUANTITIES: Mapping[str, tuple[str, str]] = {
    "steering-scale": ("steering", "divide the steering by this factor, or set the right unit in the source"),
    "speed-scale": ("speed", "divide the speed by this factor, or set the right unit in the source"),
    "frame-rate": ("frame rate", "prepare the drive again with its true frame rate (--hz)"),
}


def _scale_finding(
    kind: Kind, factor: float, names: tuple[str, ...], whole: bool, count: int, curve: Curve | None, reason: str,
    drive: DriveFeatures, doubt: str | None = None,
) -> Finding:  # fmt: skip
    quantity, fix = _QUANTITIES[kind]
    if kind == "frame-rate":
        factor = float(round(factor)) if factor > 1.6 and abs(factor - round(factor)) < 0.2 * factor else factor
        message = f"the frames of {drives_text(names, count)} are {factor:.3g} times as far apart as stored: {reason}"
    else:
        near = FAR_NEAR if abs(math.log(factor)) > math.log(FAR) else units.NEAR
        unit = units.match_mix_up(factor, units.STEERING if kind == "steering-scale" else units.SPEED, near)
        factor = unit.factor if unit else factor
        guess = f" ({unit.description}?)" if unit else ""
        size = f"{factor:.3g} times too large" if factor > 1 else f"{1 / factor:.3g} times too small"
        message = f"the {quantity} of {drives_text(names, count)} is {size}{guess}: {reason}"
    fatal = doubt is None and kind != "speed-scale"
    rows = tuple(drive.start + k for k in range(0, min(len(drive), 8), 2))
    fix = fix if doubt is None else f"{LOOK}; if so, {fix}"
    severity: Severity = "fatal" if fatal else "warning"
    return Finding(severity, kind, message + (doubt or ""), fix, names, whole, factor, "times", rows=rows, curve=curve)


def _gains_curve(gains: Mapping[str, Gain], name: str) -> Curve:
    values = tuple(round(gain.value, 5) for gain in gains.values())
    index = float(list(gains).index(name))
    return Curve("drive", "gain", tuple(map(float, range(len(values)))), {"gain": values}, {"this": index})
