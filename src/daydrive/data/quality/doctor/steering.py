"""Checks of the steering against the image motion: inverted steering, a mirrored camera, a lag."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from daydrive.data.quality.doctor.correlate import Correlogram, commanded_turn, correlate, image_turn, pooled
from daydrive.data.quality.doctor.evidence import LOOK, SUGGESTIVE_TURNS, Evidence, evidence_of, turning
from daydrive.data.quality.doctor.features import DriveFeatures
from daydrive.data.quality.doctor.finding import Curve, Finding, drives_text

CERTAIN, CORRELATED = 3.5, 0.4
"""Significance (standard deviations) and correlation from which a drive is used."""
SINGLE_CERTAIN, SINGLE_CORRELATED = 3.9, 0.55
"""The same for a single drive that differs from all others: among many drives and lags one is unusual by chance."""
SINGLE_INVERTED = 3.8
MIN_SECONDS = 4.0
"""Length (s) from which a drive is judged on its own."""
MAX_DELAY_SECONDS = 0.4
"""Delay (s) of the images behind the steering up to which a correlation of the wrong sign is taken for inversion."""
USUAL_SECONDS = 0.07
"""Typical delay (s) between the steering wheel and the turning of a car."""
EARLY, LATE_SECONDS, LATE = -0.7, 0.12, 1.3
"""Plausible lags: from `EARLY` frames to `LATE_SECONDS` plus `LATE` frames."""
UNKNOWN_LATE_SECONDS = 0.25
"""`LATE_SECONDS` where the speed was not recorded, as on model cars, whose images follow after 0.15 to 0.2 s."""
FATAL_SECONDS = 0.35
"""Excess lag (s) from which the finding is fatal."""
MAX_LAG_DIFFERENCE = 1.75
"""Maximum difference (frames) between the lag of a drive and that of the others."""
MIN_DROP = 0.08
"""Drop in correlation at the lag of the others from which the lag of a drive is certain."""


def correlograms(drives: Sequence[DriveFeatures]) -> dict[str, Correlogram]:
    """Correlograms of the drives with enough motion, by name."""
    found = {drive.name: correlate(commanded_turn(drive), *image_turn(drive), drive.hz) for drive in drives}
    return {name: c for name, c in found.items() if c is not None and c.weight > 0}


def is_certain(c: Correlogram, certain: float = CERTAIN) -> bool:
    """Whether the peak of a correlogram is significant."""
    return c.certainty >= certain and abs(c.peak) >= CORRELATED


def judged(
    drives: Sequence[DriveFeatures], found: Mapping[str, Correlogram], seconds: float, turns: int
) -> dict[str, Correlogram]:
    """The correlograms of the drives that are long enough (s) and have enough frames with turns to be judged alone."""
    long = {drive.name for drive in drives if len(drive) >= seconds * drive.hz and turning(drive).sum() >= turns}
    return {name: c for name, c in found.items() if name in long}


def check_steering(drives: Sequence[DriveFeatures], found: Mapping[str, Correlogram]) -> Iterator[Finding]:
    """Yield findings on the sign and the lag of the steering. found: from `correlograms`."""
    certain = {name: c for name, c in judged(drives, found, MIN_SECONDS, SUGGESTIVE_TURNS).items() if is_certain(c)}
    yield from _sign(drives, found, certain)
    yield from _lag(drives, certain)


def _is_plausible(lag: float, hz: float) -> bool:
    return EARLY - 1.0 <= lag <= MAX_DELAY_SECONDS * hz + 1.0


class _Inverted(NamedTuple):
    """Drives whose images turn against the steering, whether they stand for the whole store, and their evidence."""

    names: list[str]
    whole: bool
    certain: bool
    evidence: Evidence


def _sign(
    drives: Sequence[DriveFeatures], found: Mapping[str, Correlogram], certain: Mapping[str, Correlogram]
) -> Iterator[Finding]:
    by_name = {drive.name: drive for drive in drives}
    for inverted in _inverted(drives, found, certain):
        others = [by_name[name] for name in certain if certain[name].peak > 0] if not inverted.whole else []
        kinds: dict[str, list[str]] = {}
        doubt = "" if inverted.certain else inverted.evidence.doubt
        for name in inverted.names:
            kinds.setdefault(_inverted_signal(by_name[name], others), []).append(name)
        if inverted.whole and len(kinds) > 1:  # drives with evidence decide for those without
            decided = max((kind for kind in kinds if kind != "unknown"), key=lambda kind: len(kinds[kind]))
            kinds = {decided: inverted.names}
        for kind, names in kinds.items():
            c = pooled([found[name] for name in names])
            message = (
                f"the image turns against the steering in {drives_text(names, len(drives))}: correlation {c.peak:+.2f}"
            )
            if others:
                message += f", {pooled([certain[drive.name] for drive in others]).peak:+.2f} in the others"
            code, reason, fix = _SIGNS[kind]
            drive = by_name[names[0]]
            yield Finding(
                "fatal" if inverted.certain else "warning", code, f"{message}; {reason}{doubt}",
                fix if inverted.certain else f"{LOOK}; if so, {fix}", tuple(names), whole=inverted.whole, size=c.peak,
                unit="correlation", rows=_widest_turn(drive), curve=_curve(c, "this", drive.hz),
            )  # fmt: skip


def _inverted(
    drives: Sequence[DriveFeatures], found: Mapping[str, Correlogram], certain: Mapping[str, Correlogram]
) -> Iterator[_Inverted]:
    everything, hz = evidence_of(drives, found), drives[0].hz
    if everything is None:
        return
    against = [name for name, c in certain.items() if c.peak < 0]
    conclusive = everything.conclusive and everything.correlation < 0
    if conclusive and not certain:  # each drive is too short, but together they suffice
        against = [name for name, c in found.items() if c.peak < 0]
    weight = {name: found[name].weight for name in against}
    if conclusive or sum(weight.values()) > 0.7 * sum(c.weight for c in certain.values()):
        evidence = evidence_of(drives, {name: found[name] for name in against})
        if evidence is None:
            return
        delay = pooled([found[name] for name in against]).lag
        if conclusive or (evidence.suggestive and _is_plausible(delay, hz)):
            yield _Inverted(against, True, conclusive, everything if conclusive else evidence)
        return
    rest = evidence_of(drives, {name: c for name, c in certain.items() if c.peak > 0})
    for name in against:
        own = evidence_of(drives, {name: found[name]})
        if own and own.suggestive and own.certainty >= SINGLE_INVERTED and _is_plausible(found[name].lag, hz):
            yield _Inverted([name], False, own.conclusive_beside(rest), own)


_SIGNS = {
    "steering": (
        "steering-inverted",
        "the recorded yaw rate or curvature agrees with the images, so the steering is inverted",
        "negate the steering of these drives; it must be positive to the right",
    ),
    "steering-mean": (
        "steering-inverted",
        "left and right of the images are as in the other drives, so the steering is inverted",
        "negate the steering of these drives; it must be positive to the right",
    ),
    "camera": (
        "camera-mirrored",
        "the recorded yaw rate or curvature agrees with the steering, so the images are mirrored",
        "mirror the images of these drives",
    ),
    "camera-mean": (
        "camera-mirrored",
        "left and right of the images are reversed compared with the other drives, so the images are mirrored",
        "mirror the images of these drives",
    ),
    "unknown": (
        "steering-or-camera",
        "either the steering is inverted or the images are mirrored or upside down; the store does not show which",
        "look at the images: if they are upside down, turn them; if text or traffic is mirrored, mirror them; "
        "otherwise negate the steering",
    ),
}


def _inverted_signal(drive: DriveFeatures, others: Sequence[DriveFeatures]) -> str:
    """A key of `_SIGNS`, from the measured turn of the car, or else from the mean image compared with the others."""
    turn = measured_turn(drive)
    if turn is not None:
        command = commanded_turn(drive)
        with_image = correlate(turn, *image_turn(drive), drive.hz)
        with_steering = correlate(turn, command, np.isfinite(command), drive.hz)
        image = with_image.peak if with_image and is_certain(with_image, 2.0) else 0.0
        steering = with_steering.peak if with_steering and is_certain(with_steering, 2.0) else 0.0
        if image > 0 and steering <= 0:
            return "steering"
        if steering > 0 and image <= 0:
            return "camera"
    similarity = _mean_image_similarity(drive, others)
    if similarity is None:
        return "unknown"
    return "steering-mean" if similarity > 0 else "camera-mean"


def measured_turn(drive: DriveFeatures) -> np.ndarray | None:
    """(N-1,) yaw per frame, positive right, from `yaw_rate` or `curvature` if the description states the side."""
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


MIN_SIMILARITY = 0.45
"""Correlation of the antisymmetric parts of two mean images from which mirroring can be decided."""


def _mean_image_similarity(drive: DriveFeatures, others: Sequence[DriveFeatures]) -> float | None:
    """Correlation of the antisymmetric part of the mean image with that of the other drives; None if undecided."""
    if len(others) < 2:
        return None
    sides = [_antisymmetric(other.mean) for other in others]
    reference = np.mean(sides, axis=0)
    own = _antisymmetric(drive.mean)
    agreement = [_cosine(side, np.mean([s for s in sides if s is not side], axis=0)) for side in sides]
    if np.median(agreement) < MIN_SIMILARITY:
        return None
    similarity = _cosine(own, reference)
    return similarity if abs(similarity) > MIN_SIMILARITY else None


def _antisymmetric(mean: np.ndarray) -> np.ndarray:
    return np.asarray((mean - mean[:, ::-1]) / (mean.std() + 1.0))


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float((a * b).sum() / (np.sqrt((a * a).sum() * (b * b).sum()) + 1e-9))


def _lag(drives: Sequence[DriveFeatures], certain: Mapping[str, Correlogram]) -> Iterator[Finding]:
    everything, hz = evidence_of(drives, certain), drives[0].hz
    if everything is None:
        return
    if not everything.conclusive:  # a negative correlation at an odd lag is chance
        certain = {name: c for name, c in certain.items() if c.peak > 0}
        if not certain:
            return
    together = pooled([_with_positive_peak(c) for c in certain.values()])
    delay = LATE_SECONDS if any(drive.speed_is_known for drive in drives) else UNKNOWN_LATE_SECONDS
    low, high = EARLY, delay * hz + LATE
    whole = everything.suggestive and not low <= together.lag <= high
    if whole:
        yield _lag_finding(
            tuple(certain), together, USUAL_SECONDS * hz, hz, len(drives), everything, everything.conclusive,
            _rows_of(drives, next(iter(certain))),
        )  # fmt: skip
    if len(certain) < 3:
        return
    for name, c in certain.items():
        if c.certainty < SINGLE_CERTAIN or abs(c.peak) < SINGLE_CORRELATED:
            continue
        rest = pooled([_with_positive_peak(other) for key, other in certain.items() if key != name])
        own = _with_positive_peak(c)
        expected = own.r[int(np.clip(round(rest.lag) + own.reach, 0, len(own.r) - 1))]
        difference = own.lag - rest.lag
        spread = np.median(
            [abs(_with_positive_peak(other).lag - rest.lag) for key, other in certain.items() if key != name]
        )
        clear = own.r[own.best] - expected > max(MIN_DROP, 1.5 / np.sqrt(c.weight) * (1 - own.peak**2))
        if abs(difference) > max(MAX_LAG_DIFFERENCE, 4 * spread) and clear and not (whole and low <= own.lag <= high):
            evidence = evidence_of(drives, {name: c})
            if evidence is None or not evidence.suggestive:
                continue
            others = evidence_of(drives, {key: other for key, other in certain.items() if key != name})
            conclusive = evidence.conclusive_beside(others)
            yield _lag_finding(
                (name,), own, rest.lag, hz, len(drives), evidence, conclusive, _rows_of(drives, name), rest
            )  # fmt: skip


def _lag_finding(
    names: tuple[str, ...], c: Correlogram, usual: float, hz: float, count: int, evidence: Evidence, conclusive: bool,
    row: tuple[int, ...], rest: Correlogram | None = None,
) -> Finding:  # fmt: skip
    excess = c.lag - usual
    fatal = conclusive and (c.lag < EARLY or excess / hz > FATAL_SECONDS)
    order = "before" if c.lag < 0 else "after"
    expected = (
        "about {:.1f} frames after it are normal" if rest is None else "in the other drives {:.1f} frames after it"
    )
    message = (
        f"the image turns {abs(c.lag):.1f} frames {order} the steering in {drives_text(names, count)} (correlation "
        f"{abs(c.peak):.2f}; {expected.format(usual)}): {'actions' if excess < 0 else 'images'} are {abs(excess):.0f} "
        f"frames late{'' if conclusive else evidence.doubt}"
    )
    direction = "earlier" if excess < 0 else "later"
    return Finding(
        "fatal" if fatal else "warning", "lag", message,
        f"{'' if conclusive else f'{LOOK}; if so, '}shift the actions of these drives by {abs(excess):.0f} frames "
        f"{direction}, or correct the wrong clock",
        names, whole=rest is None, size=excess, unit="frames", rows=row,
        curve=_curve(c, "this", hz, None if rest is None else rest, usual),
    )  # fmt: skip


def _with_positive_peak(c: Correlogram) -> Correlogram:
    """The correlogram, negated if its strongest correlation is negative."""
    return Correlogram(c.r * np.sign(c.peak), c.weight)


def _curve(c: Correlogram, label: str, hz: float, rest: Correlogram | None = None, usual: float | None = None) -> Curve:
    reach = c.reach if rest is None else min(c.reach, rest.reach)

    def crop(x: Correlogram) -> tuple[float, ...]:
        return tuple(np.round(x.r[x.reach - reach : x.reach + reach + 1], 4).tolist())

    lines = {label: crop(c)} if rest is None else {label: crop(c), "the others": crop(rest)}
    marks = {"found": c.lag} if usual is None else {"found": c.lag, "usual": usual}
    x = tuple(float(k) for k in range(-reach, reach + 1))
    return Curve("lag of the image motion behind the steering (frames)", "correlation", x, lines, marks)


def _rows_of(drives: Sequence[DriveFeatures], name: str) -> tuple[int, ...]:
    return _widest_turn(next(drive for drive in drives if drive.name == name))


def _widest_turn(drive: DriveFeatures) -> tuple[int, ...]:
    """Store rows of frames around the largest steering."""
    peak = int(np.nanargmax(np.abs(np.where(np.isfinite(drive.steering), drive.steering, 0.0))))
    frames = np.clip(peak + np.array([-2, 0, 2, 4]), 0, len(drive) - 1)
    return tuple(dict.fromkeys((drive.start + frames).tolist()))
