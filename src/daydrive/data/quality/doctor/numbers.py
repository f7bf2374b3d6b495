"""Checks of the actions: not finite, out of range, constant, stuck, saturated, one-sided; drives that are too short."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from daydrive.data.quality.doctor.finding import Finding, drives_text, frames_text
from daydrive.data.quality.doctor.readings import Column, Readings, longest_interval
from daydrive.types import ACTION_HIGH, ACTION_LOW, ACTION_NAMES

LIMIT = 0.99
"""Absolute steering from which it counts as saturated."""
SATURATED = 0.2
"""Share of saturated frames above which a drive is reported."""
STUCK_SECONDS = 3.0
STRAIGHT = 0.02
MOSTLY_STRAIGHT, ALL_STRAIGHT = 0.7, 0.98
ONE_SIDED, VERY_ONE_SIDED = 4.0, 12.0
"""Ratio of the mean steering to one side over the other that is reported, and that is a warning."""
MIN_FRAMES = 1000
"""Minimum size of a store for a warning about one-sided steering."""
MIN_LENGTH = 8
"""Minimum length of a drive in frames; shorter drives hardly contain a clip."""


def check_numbers(drives: Sequence[Readings]) -> Iterator[Finding]:
    """Yield findings on the values of the actions."""
    yield from _invalid(drives)
    yield from _constant(drives)
    yield from _stuck(drives)
    yield from _saturated(drives)


def check_amounts(drives: Sequence[Readings]) -> Iterator[Finding]:
    """Yield findings on short drives and unbalanced steering."""
    short = [drive for drive in drives if len(drive) < MIN_LENGTH]
    if short:
        names = tuple(drive.name for drive in short)
        yield Finding(
            "warning", "short-drive",
            f"{drives_text(names, len(drives))}: fewer than {MIN_LENGTH} frames (the shortest {min(map(len, short))}), "
            "too short for a clip", "leave them out, or find out why the recording is cut into short drives", names,
            whole=len(short) == len(drives), size=float(min(map(len, short))), unit="frames",
        )  # fmt: skip
    steering = np.concatenate([drive.steering for drive in drives])
    steering = steering[np.isfinite(steering)]
    if len(steering) == 0 or _is_constant(steering):
        return
    straight = float((np.abs(steering) < STRAIGHT).mean())
    if straight > MOSTLY_STRAIGHT:
        yield Finding(
            "warning" if straight > ALL_STRAIGHT else "note", "unbalanced",
            f"steering is within ±{STRAIGHT} in {straight:.0%} of the frames: curves are rare",
            "set data.balance, which samples clips with curves more often, or record more curves",
            whole=True, size=straight, unit="share straight",
        )  # fmt: skip
    left, right = float(np.maximum(-steering, 0).mean()), float(np.maximum(steering, 0).mean())
    ratio = (max(left, right) + 1e-6) / (min(left, right) + 1e-6)
    if ratio > ONE_SIDED and max(left, right) > STRAIGHT / 4:
        side = "left" if left > right else "right"
        yield Finding(
            "warning" if ratio > VERY_ONE_SIDED and len(steering) > MIN_FRAMES else "note", "unbalanced",
            f"steering to the {side} is {ratio:.1f} times as much as to the other side",
            "also record the opposite direction, or mirror clips with data.augmentation",
            whole=True, size=ratio, unit=f"times more to the {side}",
        )  # fmt: skip


def _is_constant(values: Column) -> bool:
    return bool(values.max() - values.min() < 1e-6) if np.isfinite(values).all() else False


def _invalid(drives: Sequence[Readings]) -> Iterator[Finding]:
    for k, name in enumerate(ACTION_NAMES):
        for code, bad_of, problem in (
            ("not-finite", lambda x: ~np.isfinite(x), f"{name} is not a finite number"),
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
            first, end = longest_interval(flags)
            count = sum(int(flags.sum()) for _, flags in found)
            names = tuple(drive.name for drive, _ in found)
            yield Finding(
                "fatal", code,
                f"{problem} in {frames_text(count)} of {drives_text(names, len(drives))}, first in '{drive.name}', "
                f"frame {first}",
                "repair the recording and prepare it again; `daydrive find-nan` lists all of them", names,
                whole=len(names) == len(drives), size=float(count), unit="frames",
                frames=(first, end - 1), rows=(drive.start + first,),
            )  # fmt: skip


def _constant(drives: Sequence[Readings]) -> Iterator[Finding]:
    constant = [drive for drive in drives if len(drive) >= MIN_LENGTH and _is_constant(drive.steering)]
    if not constant:
        return
    names = tuple(drive.name for drive in constant)
    whole = len(constant) == len(drives)
    turned = [drive for drive in constant if abs(drive.steering[0]) > STRAIGHT]
    if not whole and not turned:
        longer = [drive for drive in constant if len(drive) >= 2 * STUCK_SECONDS * drive.hz]
        if not longer:
            return
        names = tuple(drive.name for drive in longer)
    yield Finding(
        "warning", "constant",
        f"steering is constantly {constant[0].steering[0]:.3g} in {drives_text(names, len(drives))}",
        "check that the right column was read, or record the steering; a model cannot learn steering from this",
        names, whole=whole, size=float(constant[0].steering[0]), unit="steering",
    )  # fmt: skip


def _stuck(drives: Sequence[Readings]) -> Iterator[Finding]:
    for drive in drives:
        steering = drive.steering
        if len(drive) < MIN_LENGTH or _is_constant(steering):
            continue
        same = (steering[1:] == steering[:-1]) & (np.abs(steering[1:]) > STRAIGHT) & (np.abs(steering[1:]) < LIMIT)
        speed = drive.speed
        if speed is not None:
            same &= np.abs(speed[1:]) > 0.5
        first, end = longest_interval(same)
        if end - first >= STUCK_SECONDS * drive.hz:
            yield Finding(
                "warning", "stuck",
                f"steering stays at exactly {steering[first + 1]:.3f} for {end - first + 1} frames of drive "
                f"'{drive.name}' while the car moves, from frame {first}",
                "check whether the sensor stopped sending, and cut that part out", (drive.name,),
                size=float(end - first + 1), unit="frames", frames=(first, end), rows=(drive.start + first,),
            )  # fmt: skip


def _saturated(drives: Sequence[Readings]) -> Iterator[Finding]:
    shares = {
        drive.name: float((np.abs(drive.steering) >= LIMIT).mean()) for drive in drives if len(drive) >= MIN_LENGTH
    }
    names = tuple(name for name, share in shares.items() if share > SATURATED)
    if names:
        worst = max(names, key=shares.__getitem__)
        yield Finding(
            "warning", "saturated", f"steering is at its limit in {shares[worst]:.0%} of the frames of drive '{worst}'"
            + (f" and in more than {SATURATED:.0%} in {drives_text(names, len(drives))}" if len(names) > 1 else ""),
            "check the unit and scale of the steering: values above 1 were clipped", names,
            whole=len(names) == len(drives), size=shares[worst], unit="share of the frames",
        )  # fmt: skip
