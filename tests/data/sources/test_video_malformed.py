"""Malformed videos and CSVs: a one-line error with file and row, and no files left behind."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from daydrive.data import video
from daydrive.data.prepare.prepare import prepare
from helpers.open_formats import write_csv, write_video
from helpers.refusals import Refuse, refuses

Spoil = Callable[[Path], object]
HEADER = "time,steering,throttle,brake"
ROWS = [(k / 10, k / 100, 0.5, 0.0) for k in range(30)]


def csv(header: str = HEADER, row: int = 0, *cells: object, rows: Sequence[Sequence[float]] = ROWS) -> Spoil:
    """Replaces the CSV, and optionally the cells of a row (the header is row 1)."""

    def apply(root: Path) -> None:
        write_csv(root / "a b.csv", header, rows)
        if row:
            lines = (root / "a b.csv").read_text().splitlines()
            lines[row - 1] = ",".join(map(str, cells))
            (root / "a b.csv").write_text("\n".join(lines) + "\n")

    return apply


def write(name: str, content: bytes) -> Spoil:
    return lambda root: (root / name).write_bytes(content)


def moved_out(name: str) -> Spoil:
    def apply(root: Path) -> None:
        shutil.move(root / name, root.parent / "elsewhere")
        (root / name).symlink_to(root.parent / "elsewhere")

    return apply


def both(*spoils: Spoil) -> Spoil:
    return lambda root: [spoil(root) for spoil in spoils]


@pytest.mark.parametrize(
    ("spoil", "options", "expected"),
    [
        (write("a b.mp4", b""), {}, "a b.mp4 cannot be read"),
        (write("a b.mp4", b"no video" * 99), {}, "a b.mp4 cannot be read"),
        (lambda root: (root / "a b.mp4").write_bytes((root / "a b.mp4").read_bytes()[:900]), {}, "cannot be read"),
        (lambda root: write_video(root / "a b.mp4", [0]), {}, "a b.mp4 has 1 frames; a drive needs at least 2"),
        (lambda root: write_video(root / "a b.mp4", [0, 100, 200, 300]), {}, "has no 1 s of video without a gap"),
        (lambda root: (root / "a b.mp4").unlink(), {}, "has no videos (.mp4, .mkv, .avi, .mov)"),
        (moved_out("a b.mp4"), {}, "a b.mp4 is a link out of the data root"),
        (moved_out("a b.csv"), {}, "a b.csv is a link out of the data root"),
        (lambda root: (root / "loop").symlink_to(root.parent), {}, "loop is a link out of the data root"),
        (write("a b.csv", b""), {}, "a b.csv is empty; its first row must contain the column names"),
        (write("a b.csv", b"\x80\x05K\x00" * 50), {}, "a b.csv has no column called steering, throttle, brake, gear"),
        (
            csv("time,wheel,gas,stop"),
            {},
            "its columns: time, wheel, gas, stop; map them with --set steering=NAME",
        ),
        (csv("time|steering|gas|stop"), {}, "row 1: the columns 'time|steering|gas|stop' are separated by '|'"),
        (csv("time,steering,steering,brake"), {}, "row 1: there are two columns 'steering'"),
        (csv(HEADER, 5, 0.3, "left", 0, 0), {}, "a b.csv, row 5: steering is 'left', expected a number"),
        (csv(HEADER, 5, 0.3, "nan", 0, 0), {}, "a b.csv, row 5: steering is nan, which is not a finite number"),
        (csv(HEADER, 5, 0.3, 0, 0), {}, "a b.csv, row 5: there are 3 cells, but the header has 4"),
        (csv(HEADER, 5), {}, "a b.csv, row 5: empty row before other rows"),
        (csv(HEADER, 5, 0.3, 25, 0, 0), {}, "row 5: steering is 25, outside [-1, 1] of the steering; set a factor"),
        (csv(HEADER, 5, 0.3, 0, -0.5, 0), {}, "row 5: throttle is -0.5, outside [0, 1] of the throttle"),
        (csv(HEADER, 6, 0.1, 0, 0, 0), {}, "a b.csv, row 6: time 0.1 is not after 0.3"),
        (csv(rows=ROWS[:1]), {}, "a b.csv has 1 rows below its header"),
        (csv("when,steering,throttle,brake", rows=ROWS[:20]), {}, "has 20 rows for the 30 frames of a b.mp4"),
        (csv(rows=[(1.7e9 + k, 0, 0, 0) for k in range(9)]), {}, "--set time_offset=1700000000"),
        (
            csv(),
            {"steering": "sterring"},
            "has no column 'sterring' for --set steering=sterring; did you mean 'steering'?",
        ),
        (csv(), {"time": "clock"}, "has no column 'clock' for --set time=clock"),
        (csv(), {"steering_scale": 0}, "--set steering_scale=0 must be finite and not 0"),
        (csv(), {"gear_scale": 2}, "--set gear_scale=2: "),
        (csv(), {"steering_scale": "left"}, "--set steering_scale must be a number, not 'left'"),
        (csv(), {"hz": 30}, "has 10 frames per second, too few for --hz 30"),
        (csv(), {"camera": "front"}, "the dataset 'video' does not take --camera"),
        (
            both(lambda root: write_video(root / "c.mp4", 100 * np.arange(20)), write("d.csv", b"steering\n0\n")),
            {},
            "d.csv does not match a video beside it; give it the name of its video",
        ),
    ],
)
def test_videos(spoil: Spoil, options: dict[str, object], expected: str, tmp_path: Path) -> None:
    root = tmp_path / "déjà vu"
    write_video(root / "a b.mp4", 100 * np.arange(30))
    csv()(root)
    spoil(root)
    message = refuses(
        lambda: prepare("video", root, tmp_path / "out" / "store", (16, 16), workers=1, **options), tmp_path
    )
    assert expected in message, message


def test_missing_and_too_large_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_video(tmp_path / "a.mp4", 100 * np.arange(10))
    assert "a.mp4 has no frame at 3.000 s" in refuses(
        lambda: list(video.frames_at(file, np.array([3.0]), 0.1)), tmp_path
    )
    monkeypatch.setattr(video, "MAX_PIXELS", 700)
    message = refuses(lambda: list(video.frames_at(file, np.array([0.0]), 0.1)), tmp_path)
    assert "has frames of 24x32, too large to decode" in message


def test_the_command_line_exits_with_2(tmp_path: Path, refuse: Refuse) -> None:
    write_video(tmp_path / "raw" / "a.mp4", [0, 100])
    (tmp_path / "raw" / "a.csv").write_text("left,right\n1,2\n3,4\n")
    arguments = ("prepare-dataset", "--dataset", "video", "--data-root", tmp_path / "raw", "--set", "steering=lft")
    refuse(*arguments, message="a.csv has no column 'lft' for --set steering=lft; did you mean 'left'")
