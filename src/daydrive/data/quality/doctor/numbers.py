"""Examinations of numbers alone: no numbers, out of range, constant, at their limit, one-sided; drives too short."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from daydrive.data.quality.doctor.finding import Finding, frames_text, named
from daydrive.data.quality.doctor.readings import Column, Readings, longest_run
from daydrive.types import ACTION_HIGH, ACTION_LOW, ACTION_NAMES

LIMIT = 0.99
"""of steering: from here on it is at its end"""
SATURATED = 0.2
"""share of the frames at the limit that is a warning"""
STUCK_SECONDS = 3.0
STRAIGHT = 0.02
MOSTLY_STRAIGHT, ALL_STRAIGHT = 0.7, 0.98
ONE_SIDED, VERY_ONE_SIDED = 4.0, 12.0
"""turning to one side / to the other, mean steering of each side"""
FEW_FRAMES = 1000
"""of a store, too few to call it one-sided"""
SHORTEST = 8
"""frames; shorter drives give hardly a clip"""


def examine_numbers(drives: Sequence[Readings]) -> Iterator[Finding]:
    yield from _not_numbers(drives)
    yield from _constant(drives)
    yield from _stuck(drives)
    yield from _saturated(drives)


def examine_amounts(drives: Sequence[Readings]) -> Iterator[Finding]:
    """What the drives hold too little of."""
    short = [drive for drive in drives if len(drive) < SHORTEST]
    if short:
        names = tuple(drive.name for drive in short)
        yield Finding(
            "warning", "short-drive",
            f"{named(names, len(drives))}: fewer than {SHORTEST} frames (the shortest {min(map(len, short))}), so "
            f"that no "
            "clip fits in", "leave them out, or find what cuts the recording into such pieces", names,
            whole=len(short) == len(drives), size=float(min(map(len, short))), unit="frames",
        )  # fmt: skip
    steering = np.concatenate([drive.steering for drive in drives])
    steering = steering[np.isfinite(steering)]
    if len(steering) == 0 or _is_flat(steering):
        return
    straight = float((np.abs(steering) < STRAIGHT).mean())
    if straight > MOSTLY_STRAIGHT:
        yield Finding(
            "warning" if straight > ALL_STRAIGHT else "note", "unbalanced",
            f"steering is within ±{STRAIGHT} in {straight:.0%} of the frames: curves are rare",
            "set data.balance, which draws clips with curves more often, or record more curves",
            whole=True, size=straight, unit="share straight",
        )  # fmt: skip
    left, right = float(np.maximum(-steering, 0).mean()), float(np.maximum(steering, 0).mean())
    ratio = (max(left, right) + 1e-6) / (min(left, right) + 1e-6)
    if ratio > ONE_SIDED and max(left, right) > STRAIGHT / 4:
        side = "left" if left > right else "right"
        yield Finding(
            "warning" if ratio > VERY_ONE_SIDED and len(steering) > FEW_FRAMES else "note", "unbalanced",
            f"steering goes to the {side} {ratio:.1f} times as much as to the other side",
            "record the other direction too, or mirror clips with data.augmentation",
            whole=True, size=ratio, unit=f"times more to the {side}",
        )  # fmt: skip


def _is_flat(values: Column) -> bool:
    return bool(values.max() - values.min() < 1e-6) if np.isfinite(values).all() else False


def _not_numbers(drives: Sequence[Readings]) -> Iterator[Finding]:
    for k, name in enumerate(ACTION_NAMES):
        for code, bad_of, what in (
            ("not-finite", lambda x: ~np.isfinite(x), f"{name} is no finite number"),
            (
                "out-of-range",
                lambda x, k=k: np.isfinite(x) & ((x < ACTION_LOW[k] - 1e-6) | (x > ACTION_HIGH[k] + 1e-6)),
                f"{name} is outside [{ACTION_LOW[k]:g}, {ACTION_HIGH[k]:g}]",
            ),
        ):
            found = [(drive, flags) for drive in drives if (flags := bad_of(drive.actions[:, k])).any()]
            if not found:
                continue
            drive, flags = found[0]
            first, end = longest_run(flags)
            count = sum(int(flags.sum()) for _, flags in found)
            names = tuple(drive.name for drive, _ in found)
            yield Finding(
                "fatal", code,
                f"{what} in {frames_text(count)} of {named(names, len(drives))}, first in '{drive.name}', frame "
                f"{first}",
                "repair the recording and prepare it again; `daydrive find-nan` lists all of them", names,
                whole=len(names) == len(drives), size=float(count), unit="frames",
                frames=(first, end - 1), rows=(drive.start + first,),
            )  # fmt: skip


def _constant(drives: Sequence[Readings]) -> Iterator[Finding]:
    flat = [drive for drive in drives if len(drive) >= SHORTEST and _is_flat(drive.steering)]
    if not flat:
        return
    names = tuple(drive.name for drive in flat)
    whole = len(flat) == len(drives)
    turned = [drive for drive in flat if abs(drive.steering[0]) > STRAIGHT]
    if not whole and not turned:
        longer = [drive for drive in flat if len(drive) >= 2 * STUCK_SECONDS * drive.hz]
        if not longer:
            return
        names = tuple(drive.name for drive in longer)
    yield Finding(
        "warning", "constant",
        f"steering is {flat[0].steering[0]:.3g} from beginning to end of {named(names, len(drives))}",
        "see whether the column of the steering was read, or record it; a model learns nothing about steering here",
        names, whole=whole, size=float(flat[0].steering[0]), unit="steering",
    )  # fmt: skip


def _stuck(drives: Sequence[Readings]) -> Iterator[Finding]:
    for drive in drives:
        steering = drive.steering
        if len(drive) < SHORTEST or _is_flat(steering):
            continue
        same = (steering[1:] == steering[:-1]) & (np.abs(steering[1:]) > STRAIGHT) & (np.abs(steering[1:]) < LIMIT)
        speed = drive.speed
        if speed is not None:
            same &= np.abs(speed[1:]) > 0.5
        first, end = longest_run(same)
        if end - first >= STUCK_SECONDS * drive.hz:
            yield Finding(
                "warning", "stuck",
                f"steering stays at exactly {steering[first + 1]:.3f} for {end - first + 1} frames of drive "
                f"'{drive.name}' while the car moves, from frame {first}",
                "see whether the sensor stopped sending, and cut that part out", (drive.name,),
                size=float(end - first + 1), unit="frames", frames=(first, end), rows=(drive.start + first,),
            )  # fmt: skip


def _saturated(drives: Sequence[Readings]) -> Iterator[Finding]:
    shares = {drive.name: float((np.abs(drive.steering) >= LIMIT).mean()) for drive in drives if len(drive) >= SHORTEST}
    names = tuple(name for name, share in shares.items() if share > SATURATED)
    if names:
        worst = max(names, key=shares.__getitem__)
        yield Finding(
            "warning", "saturated", f"steering is at its limit in {shares[worst]:.0%} of the frames of drive '{worst}'"
            + (f" and over {SATURATED:.0%} in {named(names, len(drives))}" if len(names) > 1 else ""),
            "see unit and scale of the steering: what is larger than 1 was cut off", names,
            whole=len(names) == len(drives), size=shares[worst], unit="share of the frames",
        )  # fmt: skip
