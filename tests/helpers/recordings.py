"""Drives with known motion, and writers for the formats of comma2k19 and KITTI."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path

import av
import cv2
import numpy as np
import simplejpeg

from daydrive.data.prepare.prepare import prepare
from daydrive.data.store.store import Store

WHEELBASE = 2.71
STEERING_RATIO = 15.0
ORIGIN = (37.5, -122.3)
"""Latitude and longitude at the start of the comma2k19 drive, degrees."""
FINE = 0.002
"""Time step of the ground truth, s."""


@dataclass(frozen=True)
class Truth:
    """Ground truth of a car that accelerates, brakes and steers. hz: camera rate. start: time of the first frame, s."""

    frames: int = 120
    hz: float = 20.0
    seed: int = 0
    start: float = 46000.0
    backwards: bool = False

    @cached_property
    def times(self) -> np.ndarray:
        """(N,) s of the frames."""
        return self.start + np.arange(self.frames) / self.hz

    @cached_property
    def fine(self) -> np.ndarray:
        """(K,) s, from shortly before the first frame to shortly after the last."""
        return np.arange(-0.1, self.frames / self.hz + 0.1, FINE) + self.start

    @cached_property
    def speed(self) -> np.ndarray:
        t = self.fine - self.start
        return (9.0 + 3.0 * np.sin(0.7 * t + self.seed)) * (-1.0 if self.backwards else 1.0)

    @cached_property
    def wheel(self) -> np.ndarray:
        """Angle of the front wheels, (K,) rad, positive to the right."""
        t = self.fine - self.start
        return 0.12 * np.sin(0.9 * t + 2.0 * self.seed) + 0.05 * np.sin(2.1 * t)

    @cached_property
    def yaw_rate(self) -> np.ndarray:
        return self.speed * np.tan(self.wheel) / WHEELBASE

    @cached_property
    def yaw(self) -> np.ndarray:
        return np.cumsum(self.yaw_rate) * FINE

    @cached_property
    def position(self) -> np.ndarray:
        """(K, 2) m of the rear axle: forward and right in the initial vehicle axes."""
        return np.cumsum(np.stack([self.speed * np.cos(self.yaw), self.speed * np.sin(self.yaw)], 1) * FINE, axis=0)

    def at(self, values: np.ndarray, times: np.ndarray | None = None) -> np.ndarray:
        return np.interp(self.times if times is None else times, self.fine, values)

    def mean(self, values: np.ndarray, times: np.ndarray | None = None) -> np.ndarray:
        """Means from each of `times` to the next, (len(times) - 1,)."""
        edges = self.times if times is None else times
        total = np.cumsum(values) * FINE
        return np.diff(np.interp(edges, self.fine, total)) / np.diff(edges)

    def camera(self, ahead: float = 1.5) -> tuple[np.ndarray, np.ndarray]:
        """Positions (N, 3) m of a camera `ahead` m in front of the rear axle, and its axes (forward, right, down) as
        columns (N, 3, 3), both in the initial vehicle axes."""
        yaw, zero = self.at(self.yaw), np.zeros(self.frames)
        c, s = np.cos(yaw), np.sin(yaw)
        axes = np.moveaxis(np.array([[c, -s, zero], [s, c, zero], [zero, zero, zero + 1.0]]), -1, 0)
        positions = np.stack([self.at(self.position[:, 0]), self.at(self.position[:, 1]), zero], 1)
        return positions + ahead * axes[:, :, 0], axes

    def images(self, size: tuple[int, int]) -> list[np.ndarray]:
        """uint8 (H, W, 3): 60 degrees of a panorama around the car, which moves left when the car turns right."""
        height, width = size
        rng = np.random.default_rng(self.seed)
        around = cv2.resize(rng.integers(0, 255, (3, 48, 3), dtype=np.uint8), (6 * width, height))
        shifts = np.round(self.at(self.yaw) / (2 * np.pi) * 6 * width).astype(int)
        return [np.ascontiguousarray(np.roll(around, -shift, axis=1)[:, :width]) for shift in shifts]


def write_video(file: Path, images: list[np.ndarray], codec: str = "libx265", rate: int = 20) -> None:
    """Writes a video in the container given by the file's suffix; a raw stream for .hevc."""
    with av.open(str(file), "w") as container:
        quiet = {"preset": "ultrafast", "x265-params": "log-level=none:pools=1", "crf": "18"}
        stream = container.add_stream(codec, rate=rate, options=quiet if codec == "libx265" else {})
        stream.height, stream.width, stream.pix_fmt = *images[0].shape[:2], "yuv420p"
        for image in images:
            for packet in stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def save(file: Path, values: np.ndarray, **options: object) -> None:
    """A .npy file without an extension."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("wb") as stream:
        np.save(stream, values, **options)


def write_comma2k19(segment: Path, truth: Truth, size: tuple[int, int] = (48, 64), video: bool = True) -> Path:
    """Writes a comma2k19 segment that starts at `ORIGIN`."""
    rng = np.random.default_rng(truth.seed)
    latitude, longitude = np.radians(ORIGIN)
    up = np.array([np.cos(latitude) * np.cos(longitude), np.cos(latitude) * np.sin(longitude), np.sin(latitude)])
    east = np.array([-np.sin(longitude), np.cos(longitude), 0.0])
    world = np.stack([np.cross(up, east), east, -up], axis=1)
    camera_positions, axes = truth.camera()
    prime_vertical = 6378137.0 / np.sqrt(1.0 - 0.00669437999014 * np.sin(latitude) ** 2)
    positions = camera_positions @ world.T + prime_vertical * up * [1.0, 1.0, 1.0 - 0.00669437999014]
    save(segment / "global_pose/frame_times", truth.times)
    save(segment / "global_pose/frame_positions", positions)
    save(segment / "global_pose/frame_orientations", quaternions(world @ axes))
    for name, values in (("speed", np.abs(truth.speed)[:, None]), ("steering_angle", wheel_degrees(truth.wheel))):
        times = np.sort(rng.uniform(truth.times[0] - 0.05, truth.times[-1] + 0.05, round(83 * truth.frames / truth.hz)))
        columns = [np.interp(times, truth.fine, column) for column in np.atleast_2d(values.T)]
        save(segment / f"processed_log/CAN/{name}/t", times)
        save(segment / f"processed_log/CAN/{name}/value", np.stack(columns, 1) if values.ndim == 2 else columns[0])
    if video:
        write_video(segment / "video.hevc", truth.images(size))
    return segment


def wheel_degrees(wheel: np.ndarray) -> np.ndarray:
    """Steering wheel angle, degrees, positive to the left, from the front wheels' angle, rad, positive to the right."""
    return -np.degrees(wheel) * STEERING_RATIO


def quaternions(rotations: np.ndarray) -> np.ndarray:
    """Hamilton quaternions (N, 4), real part first, of rotation matrices (N, 3, 3)."""
    found = []
    for r in rotations:
        values, vectors = np.linalg.eigh(
            np.array(
                [
                    [np.trace(r), r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1]],
                    [r[2, 1] - r[1, 2], r[0, 0] - r[1, 1] - r[2, 2], r[0, 1] + r[1, 0], r[0, 2] + r[2, 0]],
                    [r[0, 2] - r[2, 0], r[0, 1] + r[1, 0], r[1, 1] - r[0, 0] - r[2, 2], r[1, 2] + r[2, 1]],
                    [r[1, 0] - r[0, 1], r[0, 2] + r[2, 0], r[1, 2] + r[2, 1], r[2, 2] - r[0, 0] - r[1, 1]],
                ]
            )
        )
        found.append(vectors[:, np.argmax(values)])
    return np.array(found)


def write_images(folder: Path, images: list[np.ndarray], grey: bool = False, digits: int = 6) -> None:
    folder.mkdir(parents=True)
    for k, rgb in enumerate(images):
        image = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY) if grey else rgb[..., ::-1]
        cv2.imwrite(str(folder / f"{k:0{digits}d}.png"), image)


def write_odometry(
    root: Path, name: str, truth: Truth, size: tuple[int, int] = (30, 100), cameras: tuple[int, ...] = (0, 2)
) -> Path:
    """Writes sequences/NAME and poses/NAME.txt below `root`."""
    folder = root / "sequences" / name
    images = truth.images(size)
    for camera in cameras:
        write_images(folder / f"image_{camera}", images, grey=camera < 2)
    (folder / "times.txt").write_text("".join(f"{t:.6e}\n" for t in truth.times - truth.times[0]))
    (root / "poses").mkdir(exist_ok=True)
    positions, axes = truth.camera()
    to_camera = [1, 2, 0]
    matrices = np.concatenate(
        [axes[:, to_camera][:, :, to_camera], (positions - positions[0])[:, to_camera, None]], axis=2
    )
    lines = [" ".join(f"{value:e}" for value in matrix.reshape(-1)) for matrix in matrices]
    (root / "poses" / f"{name}.txt").write_text("\n".join(lines) + "\n")
    return folder


def write_raw(
    root: Path, number: int, truth: Truth, size: tuple[int, int] = (30, 100), gap: tuple[int, int] | None = None
) -> Path:
    """Writes a synced raw drive with one color camera; the readings in `gap` (first, last) are missing."""
    folder = root / "2011_09_26" / f"2011_09_26_drive_{number:04d}_sync"
    write_images(folder / "image_02" / "data", truth.images(size), digits=10)
    (folder / "image_02" / "timestamps.txt").write_text(_stamps(truth.times))
    moments = truth.times + 0.003
    present = [k for k in range(truth.frames) if gap is None or not gap[0] <= k <= gap[1]]
    (folder / "oxts" / "data").mkdir(parents=True)
    (folder / "oxts" / "timestamps.txt").write_text(_stamps(moments[present]))
    position = [truth.at(column, moments) for column in truth.position.T]
    for k in present:
        row = np.zeros(30)
        row[0], row[1] = 49.0 + position[0][k] / 111_000, 8.4 + position[1][k] / 73_000
        row[8], row[22] = truth.at(truth.speed, moments)[k], -truth.at(truth.yaw_rate, moments)[k]
        text = " ".join(f"{value:.14g}" for value in row[:25]) + " 4 10 4 4 0\n"
        (folder / "oxts" / "data" / f"{k:010d}.txt").write_text(text)
    return folder


def _stamps(times: np.ndarray) -> str:
    start = datetime(2011, 9, 26, 13, 2, 25)
    moments = [start + timedelta(seconds=float(t)) for t in times - 46000.0]
    return "".join(f"{moment:%Y-%m-%d %H:%M:%S}.{moment.microsecond:06d}375\n" for moment in moments)


def prepared(dataset: str, tmp_path: Path, root: Path | None = None, size: tuple[int, int] = (48, 64), **more) -> Store:
    """A new store from the recordings in `root`, by default `tmp_path`/raw."""
    target = tmp_path / "stores" / str(len(list(tmp_path.glob("stores/*"))))
    return Store.open(prepare(dataset, root or tmp_path / "raw", target, size, workers=1, **more))


def shown(store: Store, rows: np.ndarray) -> np.ndarray:
    """The images of these rows, float64 (N, H, W, 3)."""
    return np.stack([simplejpeg.decode_jpeg(jpeg) for jpeg in store.read(rows)[0]]).astype(np.float64)


def columns(store: Store, rows: np.ndarray) -> dict[str, np.ndarray]:
    return store.read_values(rows, ["time", *store.metadata["values"]])


def intervals(truth: Truth, chosen: np.ndarray) -> np.ndarray:
    """Times of the chosen frames and the end of the last one's interval, (len(chosen) + 1,) s."""
    times = truth.times[chosen]
    return np.append(times, 2 * times[-1] - times[-2])
