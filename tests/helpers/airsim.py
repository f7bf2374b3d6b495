"""Writer for recordings of AirSim with known motion."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from helpers.recordings import Truth, quaternions

POSE = ("POS_X", "POS_Y", "POS_Z", "Q_W", "Q_X", "Q_Y", "Q_Z")
COMMANDS = ("Throttle", "Steering", "Brake", "Gear", "Handbrake", "RPM", "Speed")
HEADERS = {
    "2020": ("VehicleName", "TimeStamp", *POSE, *COMMANDS, "ImageFile"),
    "2018": ("TimeStamp", *POSE, *COMMANDS, "ImageFile"),
    "2017": ("Timestamp", "Speed (kmph)", "Throttle", "Steering", "Brake", "Gear", "ImageName"),
    "poses": ("VehicleName", "TimeStamp", *POSE, "ImageFile"),
}
"""Columns of car recordings by version; 2017: AirSim for Unity, too; `poses`: those of vehicles without commands."""


def write_airsim(
    folder: Path,
    truth: Truth,
    version: str = "2020",
    vehicles: tuple[str, ...] = ("PhysXCar",),
    size: tuple[int, int] = (24, 32),
    cameras: tuple[str, ...] = ("front_center",),
    unit: float = 1e-3,
    sideways: float = 0.0,
) -> Path:
    """Writes airsim_rec.txt and images/; images of the second camera are inverted, those of type 5 black.

    unit: of TimeStamp, s. sideways: yaw of the pose relative to the car's direction of travel, rad.
    """
    (folder / "images").mkdir(parents=True)
    header = HEADERS[version]
    rows = [header]
    for k, image in enumerate(truth.images(size)):
        for vehicle in vehicles:
            values = {
                **_reading(truth, k, sideways),
                "VehicleName": vehicle,
                "TimeStamp": f"{truth.times[k] / unit:.0f}",
            }
            start = f"img_{vehicle}" if "VehicleName" in header else "img"
            files = []
            if version == "2017":
                files.append(f"img_{k}_{truth.times[k] * 1e3:.0f}.png")
                cv2.imwrite(str(folder / "images" / files[-1]), image[..., ::-1])
            for number, camera in enumerate(cameras if version != "2017" else ()):
                for kind, shown in ((5, 0 * image), (0, 255 - image if number else image)):
                    files.append(f"{start}_{camera}_{kind}_{truth.times[k] * 1e9:.0f}.png")
                    cv2.imwrite(str(folder / "images" / files[-1]), shown[..., ::-1])
            values["ImageFile"] = values["ImageName"] = ";".join(files)
            values["Timestamp"] = values["TimeStamp"]
            rows.append(tuple(values[name] for name in header))
    (folder / "airsim_rec.txt").write_text("".join("\t".join(row) + "\n" for row in rows))
    return folder


def commands(truth: Truth) -> np.ndarray:
    """Throttle, steering, brake of each row, (N, 3); throttle is negative while the car drives backwards."""
    count = np.arange(truth.frames)
    throttle = np.where(truth.backwards, -1.0, 1.0) * (0.2 + count / 1000)
    return np.column_stack([throttle, truth.at(truth.wheel) / 0.3, (count % 5 == 0) * 0.25])


def _reading(truth: Truth, k: int, sideways: float) -> dict[str, str]:
    positions, axes = truth.camera(ahead=0.0)
    c, s = np.cos(sideways), np.sin(sideways)
    turned = axes[k] @ np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
    pose = [*positions[k], *quaternions(turned[None])[0]]
    throttle, steering, brake = commands(truth)[k]
    speed = truth.at(truth.speed)[k]
    numbers = dict(zip(POSE, pose, strict=True)) | {
        "Throttle": throttle, "Steering": steering, "Brake": brake, "RPM": 900.0, "Speed": speed,
        "Speed (kmph)": speed * 3.6,
    }  # fmt: skip
    return {**{name: f"{value:f}" for name, value in numbers.items()}, "Gear": "3", "Handbrake": "0"}
