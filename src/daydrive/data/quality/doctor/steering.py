"""Whether the picture turns where the driver steers, and when: inverted steering, a mirrored camera, a lag."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from daydrive.data.quality.doctor.correlate import Correlogram, commanded, correlate, pooled, turned
from daydrive.data.quality.doctor.features import DriveFeatures
from daydrive.data.quality.doctor.finding import Curve, Finding, named

CERTAIN, CORRELATED = 3.5, 0.4
"""Standard deviations and correlation from which a drive says something."""
ALONE, ALONE_CORRELATED = 4.0, 0.55
"""The same for what a drive says against all others: of many drives and lags one is unusual by chance."""
ALONE_INVERTED = 3.8
USUAL_SECONDS = 0.07
"""A car turns about so long after its wheel."""
EARLY, LATE_SECONDS, LATE = -0.7, 0.12, 1.3
"""Lags from `EARLY` frames to `LATE_SECONDS` and `LATE` frames are a car's own."""
GRAVE_SECONDS = 0.35
APART = 1.8
"""frames by which the lag of a drive may differ from the others'"""
DROP = 0.08
"""of correlation at the others' lag, that makes a drive's own one certain"""


def correlograms(drives: Sequence[DriveFeatures]) -> dict[str, Correlogram]:
    """Of the drives that have anything to say."""
    found = {drive.name: correlate(commanded(drive), *turned(drive), drive.hz) for drive in drives}
    return {name: c for name, c in found.items() if c is not None and c.weight > 0}


def is_certain(c: Correlogram, certain: float = CERTAIN) -> bool:
    return c.certainty >= certain and abs(c.peak) >= CORRELATED


def examine_steering(drives: Sequence[DriveFeatures], found: Mapping[str, Correlogram]) -> Iterator[Finding]:
    certain = {name: c for name, c in found.items() if is_certain(c)}
    yield from _sign(drives, found, certain)
    if certain:
        yield from _lag(drives, found, certain)


def _sign(
    drives: Sequence[DriveFeatures], found: Mapping[str, Correlogram], certain: Mapping[str, Correlogram]
) -> Iterator[Finding]:
    wrong = {name: c for name, c in certain.items() if c.peak < 0}
    if not certain and found and len(found) > 1:  # each too short, all together may do
        together = pooled(list(found.values()))
        if is_certain(together) and together.peak < 0:
            wrong = {name: c for name, c in found.items() if c.peak < 0}
    if not wrong:
        return
    weight = sum(c.weight for c in (certain or found).values())
    whole = sum(c.weight for c in wrong.values()) > 0.7 * weight
    by_name = {drive.name: drive for drive in drives}
    if not whole:
        wrong = {name: c for name, c in wrong.items() if c.certainty >= ALONE_INVERTED}
    others = [drive for drive in drives if drive.name in certain and drive.name not in wrong]
    kinds: dict[str, list[str]] = {}
    for name in wrong:
        kinds.setdefault(_faulty_file(by_name[name], others), []).append(name)
    if whole and len(kinds) > 1:  # the drives that can tell speak for those that can't
        said = max((kind for kind in kinds if kind != "unknown"), key=lambda kind: len(kinds[kind]), default="unknown")
        kinds = {said: [name for names in kinds.values() for name in names]}
    for kind, names in kinds.items():
        c = pooled([wrong[name] for name in names])
        evidence = f"the picture turns against the steering in {named(names, len(drives))}: correlation {c.peak:+.2f}"
        if others:
            evidence += f", {pooled([certain[drive.name] for drive in others]).peak:+.2f} in the others"
        code, reason, fix = _SIGNS[kind]
        drive = by_name[names[0]]
        rows = _widest_turn(drive)
        yield Finding(
            "fatal", code, f"{evidence}; {reason}", fix, tuple(names), whole=whole, size=c.peak,
            unit="correlation", rows=rows, curve=_curve(c, "this", drive.hz),
        )  # fmt: skip


_SIGNS = {
    "steering": (
        "steering-inverted",
        "what the store says of the car's turning agrees with the picture, so the steering is inverted",
        "negate the steering of these drives; it has to be positive to the right",
    ),
    "steering-look": (
        "steering-inverted",
        "left and right of the pictures are as in the other drives, so the steering is inverted",
        "negate the steering of these drives; it has to be positive to the right",
    ),
    "camera": (
        "camera-mirrored",
        "what the store says of the car's turning agrees with the steering, so the pictures are mirrored",
        "mirror the pictures of these drives",
    ),
    "camera-look": (
        "camera-mirrored",
        "left and right of the pictures are the other way round than in the other drives, so these are mirrored",
        "mirror the pictures of these drives",
    ),
    "unknown": (
        "steering-or-camera",
        "either the steering is inverted or the pictures are mirrored, and nothing in the store tells which",
        "look at the pictures: where writing or traffic is mirrored mirror them, else negate the steering",
    ),
}


def _faulty_file(drive: DriveFeatures, others: Sequence[DriveFeatures]) -> str:
    """A key of `_SIGNS`: by a measured turning of the car, else by how the drive looks beside the others."""
    truth = measured_turn(drive)
    if truth is not None:
        command = commanded(drive)
        with_image = correlate(truth, *turned(drive), drive.hz)
        with_steering = correlate(truth, command, np.isfinite(command), drive.hz)
        image = with_image.peak if with_image and is_certain(with_image, 2.0) else 0.0
        steering = with_steering.peak if with_steering and is_certain(with_steering, 2.0) else 0.0
        if image > 0 and steering <= 0:
            return "steering"
        if steering > 0 and image <= 0:
            return "camera"
    look = _likeness(drive, others)
    if look is None:
        return "unknown"
    return "steering-look" if look > 0 else "camera-look"


def measured_turn(drive: DriveFeatures) -> np.ndarray | None:
    """(N-1,) yaw a frame, positive right, from the column `yaw_rate` or `curvature` where its meaning says a side."""
    speed = drive.speed
    for name in ("yaw_rate", "curvature"):
        column, meaning = drive.values.get(name), drive.meanings.get(name, "")
        side = 1.0 if "right" in meaning else -1.0 if "left" in meaning else 0.0
        if column is None or not side or (name == "curvature" and speed is None):
            continue
        along = np.ones(len(column)) if name == "yaw_rate" or speed is None else speed
        turn = np.asarray(side * column * along / drive.hz)[:-1]
        if np.isfinite(turn).sum() > 10 and np.nanstd(turn) > 1e-6:
            return turn
    return None


ALIKE = 0.45
"""correlation of the one-sided part of two mean pictures that tells a mirrored one"""


def _likeness(drive: DriveFeatures, others: Sequence[DriveFeatures]) -> float | None:
    """Correlation of left-against-right of a drive's mean picture with the other drives'; None where there is none."""
    if len(others) < 2:
        return None
    sides = [_one_sided(other.mean) for other in others]
    reference = np.mean(sides, axis=0)
    mine = _one_sided(drive.mean)
    agree = [_cosine(side, np.mean([s for s in sides if s is not side], axis=0)) for side in sides]
    if np.median(agree) < ALIKE:
        return None
    alike = _cosine(mine, reference)
    return alike if abs(alike) > ALIKE else None


def _one_sided(mean: np.ndarray) -> np.ndarray:
    return np.asarray((mean - mean[:, ::-1]) / (mean.std() + 1.0))


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float((a * b).sum() / (np.sqrt((a * a).sum() * (b * b).sum()) + 1e-9))


def _lag(
    drives: Sequence[DriveFeatures], found: Mapping[str, Correlogram], certain: Mapping[str, Correlogram]
) -> Iterator[Finding]:
    together = pooled([_upright(c) for c in certain.values()])
    hz = drives[0].hz
    usual = USUAL_SECONDS * hz
    low, high = EARLY, LATE_SECONDS * hz + LATE
    whole = not low <= together.lag <= high
    if whole:
        yield _lag_finding(tuple(certain), together, usual, hz, len(drives), True, _row(drives, next(iter(certain))))
    if len(certain) < 3:
        return
    for name, c in certain.items():
        if c.certainty < ALONE or abs(c.peak) < ALONE_CORRELATED:
            continue
        rest = pooled([_upright(other) for key, other in certain.items() if key != name])
        mine = _upright(c)
        expected = mine.r[int(np.clip(round(rest.lag) + mine.reach, 0, len(mine.r) - 1))]
        apart = mine.lag - rest.lag
        spread = np.median([abs(_upright(other).lag - rest.lag) for key, other in certain.items() if key != name])
        sure = mine.r[mine.best] - expected > max(DROP, 1.5 / np.sqrt(c.weight) * (1 - mine.peak**2))
        if abs(apart) > max(APART, 4 * spread) and sure and not (whole and low <= mine.lag <= high):
            yield _lag_finding((name,), mine, rest.lag, hz, len(drives), False, _row(drives, name), rest)


def _lag_finding(
    names: tuple[str, ...], c: Correlogram, usual: float, hz: float, count: int, whole: bool, row: tuple[int, ...],
    rest: Correlogram | None = None,
) -> Finding:  # fmt: skip
    late = c.lag - usual
    grave = c.lag < EARLY or late / hz > GRAVE_SECONDS
    how = "before" if c.lag < 0 else "after"
    said = (
        f"the picture turns {abs(c.lag):.1f} frames {how} the steering in {named(names, count)} (correlation "
        f"{abs(c.peak):.2f}), where {'a car does after about' if rest is None else 'the other drives do after'} "
        f"{usual:.1f}"
    )
    move = "earlier" if late < 0 else "later"
    return Finding(
        "fatal" if grave else "warning", "lag",
        f"{said}: {'commands come' if late < 0 else 'pictures come'} {abs(late):.0f} frames too late",
        f"shift the actions of these drives by {abs(late):.0f} frames {move}, or find the clock that is off",
        names, whole=whole, size=late, unit="frames", rows=row,
        curve=_curve(c, "this", hz, None if rest is None else rest, usual),
    )  # fmt: skip


def _upright(c: Correlogram) -> Correlogram:
    """As if its strongest correlation were positive."""
    return Correlogram(c.r * np.sign(c.peak), c.weight)


def _curve(c: Correlogram, label: str, hz: float, rest: Correlogram | None = None, usual: float | None = None) -> Curve:
    reach = c.reach if rest is None else min(c.reach, rest.reach)

    def cut(x: Correlogram) -> tuple[float, ...]:
        return tuple(np.round(x.r[x.reach - reach : x.reach + reach + 1], 4).tolist())

    lines = {label: cut(c)} if rest is None else {label: cut(c), "the others": cut(rest)}
    marks = {"found": c.lag} if usual is None else {"found": c.lag, "usual": usual}
    x = tuple(float(k) for k in range(-reach, reach + 1))
    return Curve("frames by which the picture turns after the steering", "correlation", x, lines, marks)


def _row(drives: Sequence[DriveFeatures], name: str) -> tuple[int, ...]:
    return _widest_turn(next(drive for drive in drives if drive.name == name))


def _widest_turn(drive: DriveFeatures) -> tuple[int, ...]:
    """Rows of frames around the largest steering."""
    at = int(np.nanargmax(np.abs(np.where(np.isfinite(drive.steering), drive.steering, 0.0))))
    places = np.clip(at + np.array([-2, 0, 2, 4]), 0, len(drive) - 1)
    return tuple(dict.fromkeys((drive.start + places).tolist()))
