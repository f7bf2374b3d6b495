"""A finding is fatal only if it is conclusive: short drives, standing cars, keyboards and walls prove nothing."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from daydrive.data.prepare.prepare import prepare
from daydrive.data.quality.doctor.correlate import commanded_turn, correlate, image_turn
from daydrive.data.quality.doctor.examine import diagnose
from daydrive.data.quality.doctor.features import DriveFeatures
from daydrive.data.quality.doctor.finding import Finding
from daydrive.data.store.store import Store
from helpers.doctor import CAMERA, STEERING, Recordings, without_notes
from helpers.paths import SHARED
from helpers.planted_faults import (
    features_of,
    steering,
)

DEGREES = 180 / np.pi


def cut(drive: DriveFeatures, first: int, last: int) -> DriveFeatures:
    """Frames [first, last) of a drive as a drive of its own."""
    per_step = ("right", "growth", "fit", "change")
    per_frame = ("actions", "level", "contrast", "sharpness", "blueness", "hashes", "valid")
    parts = {name: getattr(drive, name)[first : last - 1] for name in per_step}
    parts |= {name: getattr(drive, name)[first:last] for name in per_frame}
    values = {name: column[first:last] for name, column in drive.values.items()}
    values["time"] = np.arange(last - first) / drive.hz
    return replace(drive, name=f"{drive.name}_{first}", start=drive.start + first, values=values, **parts)


def pieces(drives: Sequence[DriveFeatures], seconds: float) -> list[DriveFeatures]:
    """The drives cut into pieces of this length."""
    found = []
    for drive in drives:
        length = round(seconds * drive.hz)
        found += [cut(drive, k, k + length) for k in range(0, len(drive) - length + 1, length)]
    return found


STEERING_CODES = {"steering-inverted", "camera-mirrored", "steering-or-camera", "lag", "steering-scale"}


def on_steering(findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.code in STEERING_CODES]


@pytest.mark.parametrize("seconds", [1.0, 2.0, 3.0])
def test_short_drives_say_nothing_about_the_steering(recordings: Recordings, seconds: float) -> None:
    short = pieces(recordings.drives, seconds)
    for group in [[drive] for drive in short[::7]] + [short[k : k + 4] for k in range(0, len(short) - 3, 12)]:
        assert not on_steering(diagnose(group))


def test_many_short_drives_together_show_inverted_steering(recordings: Recordings) -> None:
    short = [steering(np.negative)(drive) for drive in pieces(recordings.drives, 3.0)]
    (finding,) = (f for f in on_steering(diagnose(short)) if f.code != "steering-scale")
    assert finding.severity == "fatal" and finding.whole


def test_standing_and_carried_cars_say_nothing_about_the_steering(recordings: Recordings) -> None:
    """The wheel turns while the car stands, and the image turns by itself; both slowly, so that chance correlates."""
    rng = np.random.default_rng(0)

    def slow(count: int) -> np.ndarray:
        return np.convolve(rng.normal(size=count + 20), np.ones(20), "valid")[:count]

    for _ in range(20):
        drive = cut(recordings.drive, 0, 90)
        actions = drive.actions.copy()
        actions[:, 0], actions[:, 1] = np.clip(slow(90) / 5, -1, 1), 0.0
        actions[0, 1] = 0.5
        still = {name: values for name, values in drive.values.items() if name != "speed"}
        for values in (still, {**drive.values, "speed": np.full(90, 0.01)}):
            standing = replace(drive, actions=actions, right=slow(89) / 100, values=values)
            assert not on_steering(diagnose([standing]))


def keyboard(drive: DriveFeatures, share: float = 1.0) -> DriveFeatures:
    """Steering by a keyboard: -1, 0 or 1, for as long as it takes to turn like the sound drive."""
    actions, owed = drive.actions.copy(), 0.0
    for k, value in enumerate(drive.steering):
        owed += 3.0 * value * share
        actions[k, 0] = np.sign(owed) if abs(owed) >= 1.0 else 0.0
        owed -= actions[k, 0]
    right = drive.right * np.where(drive.steering[:-1] != 0, 1.0, 0.0)
    turn = np.convolve(actions[:-1, 0], [0.6, 0.4])[: len(right)] * np.abs(drive.speed[:-1]) / drive.hz
    return replace(drive, actions=actions, right=-0.06 * turn + 0.1 * right)


@pytest.mark.parametrize("known", [True, False], ids=["speed", "no speed"])
def test_keyboards_are_not_taken_for_degrees(recordings: Recordings, known: bool) -> None:
    drives = [keyboard(drive) for drive in recordings.drives if len(drive) > 30]
    if not known:
        drives = [replace(d, values={n: v for n, v in d.values.items() if n != "speed"}) for d in drives]
    limited = np.concatenate([drive.steering for drive in drives])
    assert set(np.unique(limited)) == {-1.0, 0.0, 1.0}
    assert not on_steering(diagnose(drives))
    assert not [f for drive in drives for f in on_steering(diagnose([drive])) if f.severity == "fatal"]


def test_doubtful_findings_say_how_sure_they_are(road: Recordings) -> None:
    finding = next(f for f in on_steering(diagnose([steering(np.negative)(road.drive)])))
    assert finding.severity == "warning" and finding.code in STEERING | CAMERA
    assert re.search(
        r"\(not certain: \d+\.\d standard errors, \d+ frames with turns, \d+% of \d pieces agree\)", finding.message
    )
    assert "first compare the images with the wheel" in finding.fix


def test_indoor_walls_are_not_swapped_colours(recordings: Recordings) -> None:
    for above, below in ((-0.03, -0.01), (-0.05, 0.06), (-0.07, -0.25)):
        walls = np.array([above, below])
        indoors = [replace(d, blueness=np.tile(walls, (len(d), 1))) for d in recordings.drives]
        assert "colours-swapped" not in {f.code for f in diagnose(indoors)}


REAL = ["udacity_crash", "donkeycar_indoor", "donkeycar_stalls", "donkeycar_converted"]


@pytest.mark.parametrize("name", REAL)
def test_real_recordings_have_no_fatal_finding_whole_or_in_pieces(tmp_path: Path, name: str) -> None:
    if not (SHARED / name).is_dir():
        pytest.skip(f"there is no recording {SHARED / name}")
    options = {"recorded_hz": 20} if name == "donkeycar_converted" else {}
    source = name.split("_")[0]
    store = Store.open(prepare(source, SHARED / name, tmp_path / "store", (64, 64), workers=1, **options))
    drives = features_of(store)
    groups = [drives, *([drive] for drive in drives)]
    for seconds in (2.0, 10.0, 30.0):
        short = pieces(drives, seconds)
        groups += [short, *([drive] for drive in short[::5])]
    for group in filter(None, groups):
        found = diagnose(group)
        assert not [f for f in found if f.severity == "fatal"] and "colours-swapped" not in {f.code for f in found}


def test_straight_roads_are_inconclusive(road: Recordings) -> None:
    drive = road.drive
    rng = np.random.default_rng(0)
    noise = replace(drive, right=rng.normal(0, 0.002, len(drive) - 1))
    relation = correlate(commanded_turn(noise), *image_turn(noise), noise.hz)
    assert relation is not None and relation.certainty < 3.5
    calm = [replace(d, right=rng.normal(0, 0.002, len(d) - 1)) for d in road.drives]
    assert not without_notes(diagnose(calm))
