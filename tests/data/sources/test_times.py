"""Units of time: recognized and said where they are unmistakable, rejected with the cure otherwise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from daydrive.data import sources
from daydrive.data.prepare.prepare import prepare
from daydrive.data.store.store import Store
from daydrive.types import Drive
from helpers.drives import CountedSource, write_drive, write_udacity
from helpers.open_formats import write_tub, write_video
from helpers.paths import SHARED
from helpers.refusals import refuses

HEADER = "time,steering,throttle,brake,gear"
CONVERTED = SHARED / "donkeycar_converted"
FRAMES = 30
START = datetime(2024, 5, 31, 14, 59, 59)
"""The hour changes a second later."""

Write = Callable[[float], str]


def folder(root: Path, write: Write, step: float = 0.05) -> Path:
    """A drive whose steering is proportional to the time, which `write` writes from seconds."""
    rows = [f"{write(k * step)},{k / 100},0.5,0,1" for k in range(FRAMES)]
    write_drive(root / "raw" / "a", FRAMES, rows=rows, header=HEADER, size=(16, 16))
    return root / "raw"


def moment(layout: str) -> Write:
    return lambda seconds: (START + timedelta(seconds=seconds)).strftime(layout)


def scaled(unit: float, start: float = 0.0) -> Write:
    return lambda seconds: f"{round((start + seconds) * unit)}"


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (lambda s: f"{s:.3f}", None),
        (lambda s: f"{1.7e9 + s:.3f}", None),
        (scaled(1e3), "milliseconds"),
        (scaled(1e6), "microseconds"),
        (scaled(1e9), "nanoseconds"),
        (scaled(1e3, 1.7e9), "milliseconds"),
        (scaled(1e6, 1.7e9), "microseconds"),
        (scaled(1e9, 1.7e9), "nanoseconds"),
        (moment("%Y-%m-%dT%H:%M:%S.%f"), "ISO 8601 dates"),
        (moment("%Y-%m-%d %H:%M:%S.%f+02:00"), "ISO 8601 dates"),
        (moment("%Y-%m-%dT%H:%M:%S.%fZ"), "ISO 8601 dates"),
        (moment("%d.%m.%Y %H:%M:%S.%f"), "dates with the day first"),
        (moment("%d/%m/%Y %H:%M:%S.%f"), "dates with the day first"),
        (moment("%m/%d/%Y %H:%M:%S.%f"), "dates with the month first"),
        (moment("%H:%M:%S.%f"), "times of day"),
    ],
)
def test_times_of_a_folder(write: Write, said: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = folder(tmp_path, write)
    store = Store.open(prepare("folder", root, tmp_path / "store", (16, 16), workers=1, hz=10))
    assert store.hz == 10.0 and sum(drive.frames for drive in store.drives) >= FRAMES // 2 - 3
    assert np.allclose(store.read_actions([0, 1, 2])[:, 0], [0.005, 0.025, 0.045])
    out = capsys.readouterr().out
    assert ("were read as" in out) == (said is not None)
    assert said is None or f"The times in {root / 'a' / 'actions.csv'} were read as {said}." in out


@pytest.mark.parametrize(
    ("write", "step", "expected"),
    [
        (lambda s: f"{100 * s:.3f}", 0.05, "the unit of time is unclear: its median step of 5 is 0.2 Hz in seconds"),
        (lambda s: f"{s:.6f}", 0.001, "its median step of 0.001 is 1e+03 Hz in seconds"),
        (lambda s: (START - timedelta(days=27) + timedelta(seconds=s)).strftime("%d/%m/%Y %H:%M:%S.%f"), 0.05,
         "row 2: time is '04/05/2024 14:59:59.000000', in which day and month could be exchanged; write dates as "
         "2024-05-04 or 2024-04-05 (ISO 8601)"),
        (lambda s: f"at {s}", 0.05, "row 2: time is 'at 0.0', expected a number or a date and time such as 2024-05"),
        (lambda s: "31/02/2024 14:00:00", 0.05, "row 2: time is '31/02/2024 14:00:00', expected a number or a date"),
        (lambda s: "nan", 0.05, "row 2: time is nan, which is not a finite number"),
        (lambda s: f"{s:.3f}" if s < 0.5 else moment("%H:%M:%S.%f")(s), 0.05, "unlike the rows before"),
        (lambda s: moment("%H:%M:%S")(s), 0.05, "row 3: time 53999 is not after 53999"),
    ],
)  # fmt: skip
def test_unclear_times_are_refused(write: Write, step: float, expected: str, tmp_path: Path) -> None:
    root = folder(tmp_path, write, step)
    message = refuses(lambda: prepare("folder", root, tmp_path / "out" / "store", (16, 16), workers=1), tmp_path)
    assert expected in message, message
    assert "is unclear:" not in message or "--set time_scale=0.001" in message


def test_a_given_unit_and_a_stated_rate_take_precedence(tmp_path: Path) -> None:
    root = folder(tmp_path, lambda s: f"{100 * s:.3f}")  # hundredths of a second
    store = Store.open(prepare("folder", root, tmp_path / "a", (16, 16), workers=1, time_scale=0.01))
    assert store.hz == 20.0
    stated = Store.open(prepare("folder", root, tmp_path / "b", (16, 16), workers=1, recorded_hz=5))
    assert stated.hz == 5.0 and stated.rows >= FRAMES - 9
    message = refuses(
        lambda: prepare("folder", root, tmp_path / "out" / "store", (16, 16), workers=1, time_scale=1), tmp_path
    )
    assert "has 0.2 frames per second by its times, outside 0.5 to 120; set the unit of the times" in message


@pytest.mark.parametrize("write", [scaled(1e3), scaled(1e6), scaled(1e9), lambda s: f"{s:.3f}"])
@pytest.mark.parametrize("rows_hz", [10, 100])
def test_times_of_a_table_beside_a_video(
    write: Write, rows_hz: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_video(tmp_path / "raw" / "a.mp4", 100 * np.arange(40))
    seconds = np.arange(int(4 * rows_hz)) / rows_hz
    lines = ["time,steering", *(f"{write(s)},{s / 10:.4f}" for s in seconds.tolist())]
    (tmp_path / "raw" / "a.csv").write_text("\n".join(lines) + "\n")
    store = Store.open(prepare("video", tmp_path / "raw", tmp_path / "store", (16, 16), workers=1))
    first = store.drives[0]
    steering = store.read_actions(first.start + np.arange(first.frames))[:, 0]
    assert np.allclose(np.diff(steering), 0.01, atol=0.002) and store.hz == 10.0
    assert ("were read as" in capsys.readouterr().out) == (write(1.0) != "1.000")


@pytest.mark.parametrize("period", [3, 2500])
@pytest.mark.parametrize("hz", [None, 0.3])
def test_rates_that_no_recording_has_are_refused(period: int, hz: float | None, tmp_path: Path) -> None:
    write_udacity(tmp_path / "udacity", [period * k for k in range(60)])
    write_tub(tmp_path / "tub", [60], period=period)
    for source, root in (("udacity", tmp_path / "udacity"), ("donkeycar", tmp_path / "tub")):
        message = refuses(
            lambda s=source, r=root: prepare(s, r, tmp_path / "out" / "store", (16, 16), workers=1, hz=hz), tmp_path
        )
        assert "frames per second by its times, outside 0.5 to 120" in message and "--set recorded_hz=20" in message
        store = Store.open(prepare(source, root, tmp_path / source / "store", (16, 16), workers=1, recorded_hz=20))
        assert store.hz == 20.0 and 50 <= store.rows <= 60


def test_rates_of_any_source_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Fast(CountedSource):
        def drives(self, *arguments: Any) -> list[Drive]:
            return [replace(drive, hz=300.0) for drive in super().drives(*arguments)]

    monkeypatch.setitem(sources.SOURCES, "counted", Fast())
    message = refuses(lambda: prepare("counted", None, tmp_path / "out" / "store", (16, 16), workers=1), tmp_path)
    assert "has 300 frames per second by its times, outside 0.5 to 120; correct the times of the recording" in message


@pytest.mark.skipif(not CONVERTED.is_dir(), reason=f"there is no recording {CONVERTED}")
def test_a_real_tub_with_the_times_of_its_conversion(tmp_path: Path) -> None:
    message = refuses(lambda: prepare("donkeycar", CONVERTED, tmp_path / "out" / "store", workers=1), tmp_path)
    assert "frames per second by its times, outside 0.5 to 120; if the times are not those of the recording" in message
    store = Store.open(prepare("donkeycar", CONVERTED, tmp_path / "store", (16, 16), workers=1, recorded_hz=20))
    assert store.hz == 20.0 and store.rows > 900
