"""The commands of docs/DASHCAM.md run on small videos, and their estimates match the known motion."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from daydrive.data.kinematics.dashcam import CAR, controls, yaw_rates
from daydrive.data.kinematics.track import EARTH_RADIUS, read_gpx
from daydrive.data.sources.table import read_actions
from daydrive.data.store.store import Store
from helpers.guide import blocks, run_here, small
from helpers.open_formats import write_video
from helpers.paths import REPO
from helpers.refusals import Refuse

GUIDE = REPO / "docs/DASHCAM.md"
START = datetime(2026, 5, 1, 12, 0, 0, tzinfo=UTC)
FOV = 70.0


def rotating_camera(yaw_rate: np.ndarray, hz: float, seed: int = 0) -> list[np.ndarray]:
    """Images uint8 (60, 80, 3) of a distant landscape from a camera that rotates at `yaw_rate` (N,) rad/s."""
    rng = np.random.default_rng(seed)
    hills = cv2.GaussianBlur(rng.uniform(0, 255, (60, 1200)).astype(np.float32), (0, 0), 4)
    hills = np.clip((hills - hills.mean()) * 6 + 128, 0, 255).astype(np.uint8)
    focal = 40 / np.tan(np.radians(FOV / 2))
    heading = np.concatenate([[0.0], np.cumsum(yaw_rate[:-1] / hz)])
    rows, columns = np.mgrid[:60, :80].astype(np.float32)
    views = []
    for angle in heading:
        at = 600 + focal * (angle + np.arctan((columns - 39.5) / focal))
        views.append(cv2.remap(hills, at.astype(np.float32), rows, cv2.INTER_LINEAR)[..., None].repeat(3, axis=2))
    return views


def write_gpx(file: Path, seconds: np.ndarray, east: np.ndarray, north: np.ndarray) -> Path:
    """Writes a GPX track at `seconds` (N,) since START. east, north: (N,) m from a point in Graz."""
    latitude = 47.07 + np.degrees(north / EARTH_RADIUS)
    longitude = 15.44 + np.degrees(east / (EARTH_RADIUS * np.cos(np.radians(47.07))))
    fixes = "".join(
        f'<trkpt lat="{a:.7f}" lon="{b:.7f}"><time>{(START + timedelta(seconds=float(s))).isoformat()}</time></trkpt>'
        for s, a, b in zip(seconds, latitude, longitude, strict=True)
    )
    file.write_text(f'<gpx xmlns="http://www.topografix.com/GPX/1/1"><trk><trkseg>{fixes}</trkseg></trk></gpx>')
    return file


def set_creation_time(file: Path, time: datetime) -> None:
    """Rewrites a video with a creation time in its metadata."""
    copy = file.with_name("copy.mp4")
    with av.open(str(file)) as source, av.open(str(copy), "w") as target:
        target.metadata["creation_time"] = time.isoformat()
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    copy.replace(file)


@pytest.mark.parametrize("hz", [10.0, 30.0])
def test_yaw_rate_from_image_motion(tmp_path: Path, hz: float) -> None:
    times = np.arange(int(6 * hz)) / hz
    truth = 0.3 * np.sin(2 * np.pi * times / 4)
    file = write_video(tmp_path / "drive.mp4", 1000 * times, rotating_camera(truth, hz))
    estimate = yaw_rates(file, FOV)
    assert np.corrcoef(estimate, truth)[0, 1] > 0.97
    assert 0.85 < np.polyfit(truth, estimate, 1)[0] < 1.15, "in rad/s"


def test_steering_without_speed_is_yaw_rate_over_largest_turn() -> None:
    actions = controls(np.radians([-60.0, -15.0, 0.0, 30.0]), None, None)
    assert np.allclose(actions[:, 0], [-1, -0.5, 0, 1]) and (actions[:, 1:] == [0, 0, 1]).all()


def test_speed_and_acceleration_from_a_track(tmp_path: Path) -> None:
    """A quarter circle at 10 m/s, then a straight line with an acceleration of 1 m/s²."""
    seconds = np.arange(0, 31.0)
    angle = np.minimum(seconds, 15.0) / 10
    along = np.maximum(seconds - 15, 0)
    along = 10 * along + along**2 / 2
    east = 100 * (1 - np.cos(angle)) + along * np.sin(1.5)
    north = 100 * np.sin(angle) + along * np.cos(1.5)
    track = read_gpx(write_gpx(tmp_path / "trip.gpx", seconds, east, north))
    assert track.start == START and len(track.times) == 31
    at = np.arange(3, 27, 0.1)
    speed, acceleration = track.speed(at)
    assert np.allclose(speed, 10 + np.maximum(at - 15, 0), atol=0.6)
    assert np.allclose(acceleration[at < 12], 0, atol=0.15) and np.allclose(acceleration[at > 18], 1, atol=0.15)
    actions = controls(np.full(len(at), 0.1), speed, acceleration)
    assert np.allclose(actions[at < 12, 0], np.arctan(2.7 * 0.1 / 10) / CAR.largest_angle, rtol=0.1)
    assert np.allclose(actions[at > 18, 1], 0.25, atol=0.05) and not actions[:, 2].max() > 0.05


def test_video_is_aligned_with_its_track(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After 20 s of the track the car brakes from 20 m/s at 2 m/s²."""
    seconds = np.arange(0, 41.0)
    braking = np.clip(seconds - 20, 0, 10)
    drive = here / "my_drives/monday"
    file = write_video(drive / "drive.mp4", 100 * np.arange(80), rotating_camera(np.zeros(80), 10))
    set_creation_time(file, START + timedelta(seconds=16))
    write_gpx(drive / "monday.gpx", seconds, seconds * 0, 20 * seconds - braking**2 - 20 * np.maximum(seconds - 30, 0))
    run_here(["daydrive", "data", "actions", "my_drives", "--fov", "70"], monkeypatch)
    written = read_actions(drive / "actions.csv")
    assert written.times is not None and written.speed is not None and len(written.times.seconds) == 80
    assert np.allclose(written.speed[:20], 20, atol=0.5) and written.speed[75] == pytest.approx(13, abs=0.7)
    assert written.actions[:20, 2].max() < 0.1 and np.allclose(written.actions[60:75, 2], 0.25, atol=0.05)
    (drive / "actions.csv").unlink()
    run_here(["daydrive", "data", "actions", str(drive), "--offset", "0"], monkeypatch)
    shifted = read_actions(drive / "actions.csv").speed
    assert shifted is not None and np.allclose(shifted, 20, atol=0.5)


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda drive: (drive / "drive.mp4").unlink(), "contains no videos"),
        (lambda drive: (drive / "actions.csv").touch(), "beside every video"),
        (lambda drive: (drive / "drive.mp4").write_bytes(b"not a video"), "cannot be read"),
        (lambda drive: (drive / "a.gpx").write_text("not XML"), r"a\.gpx is not GPX"),
        (lambda drive: (drive / "a.gpx").write_text("<gpx/>"), "has 0 fixes"),
        (lambda drive: (drive / "a.gpx").write_text('<gpx><trkpt lat="1"/></gpx>'), "fix 1: lat, lon and a time"),
        (lambda drive: write_gpx(drive / "a.gpx", np.array([9.0, 0]), np.zeros(2), np.zeros(2)), "is before that of"),
        (lambda drive: write_gpx(drive / "a.gpx", np.arange(9.0), np.zeros(9), np.full(9, 1e7)), "valid latitude"),
        (lambda drive: write_gpx(drive / "a.gpx", np.arange(9.0), np.zeros(9), np.zeros(9)), "has no creation time"),
        (lambda drive: [write_gpx(drive / f"{k}.gpx", np.arange(9.0), *np.zeros((2, 9))) for k in "ab"], "2 GPS track"),
    ],
)  # fmt: skip
def test_malformed_input(tmp_path: Path, refuse: Refuse, spoil, expected: str) -> None:
    drive = tmp_path / "drives/monday"
    write_video(drive / "drive.mp4", 100 * np.arange(12))
    spoil(drive)
    refuse("data", "actions", tmp_path / "drives", message=expected)


def test_video_outside_its_track(tmp_path: Path, refuse: Refuse) -> None:
    drive = tmp_path / "monday"
    write_video(drive / "drive.mp4", 100 * np.arange(12))
    write_gpx(drive / "a.gpx", np.arange(9.0), *np.zeros((2, 9)))
    refuse("data", "actions", drive, "--offset", "60", message="covers 60 to 61 s of a track that covers 0 to 8 s")


def test_commands_of_the_guide(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight videos of four seconds replace the reader's videos."""
    for name in ("configs", "scripts"):
        (here / name).symlink_to(REPO / name)
    for k in range(8):
        times = np.arange(40) / 10
        images = rotating_camera(0.3 * np.sin(times + k), 10, seed=k)
        write_video(here / f"my_drives/trip_{k}/drive.mp4", 1000 * times, images)
    commands = [command for block in blocks("bash", GUIDE) if not block.reason for command in block.commands]
    assert {"actions", "prepare_dataset.py", "doctor", "train.py", "evaluate.py"} <= {
        word.rsplit("/", 1)[-1] for command in commands for word in command.split()
    }
    for command in filter(str.strip, commands):
        run_here(small(command), monkeypatch)
    store = Store.open(here / "data/processed/folder")
    assert len(store.drives) == 8 and store.read_actions(np.arange(store.rows))[:, 0].std() > 0.05
    result = json.loads((here / "runs/mine/evaluation/evaluation.json").read_text())
    assert result["split"] == "test" and (here / "runs/mine/evaluation/report.html").is_file()
