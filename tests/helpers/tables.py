"""Writer for tables of CSV, Parquet and HDF5 beside images or a video of a car with known motion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from helpers.open_formats import write_video
from helpers.recordings import Truth

SIZE = (64, 96)
Columns = Mapping[str, np.ndarray | Sequence[str]]


def write_table(file: Path, columns: Columns, separator: str = ",") -> Path:
    """Writes a table in the format of the file's suffix; with decimal commas if the separator is a semicolon."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".parquet":
        pq.write_table(pa.table({name: pa.array(values) for name, values in columns.items()}), file)
    elif file.suffix == ".h5":
        import h5py

        with h5py.File(file, "w") as opened:
            for name, values in columns.items():
                data = np.array(values, h5py.string_dtype()) if isinstance(values[0], str) else values
                opened.create_dataset(name.replace(".", "/"), data=data)
    else:
        rows = [",".join(columns)] if separator == "," else [separator.join(columns)]
        for row in zip(*columns.values(), strict=True):
            comma = "," if separator == ";" else "."
            rows.append(separator.join(c if isinstance(c, str) else f"{c:.12g}".replace(".", comma) for c in row))
        file.write_text("\n".join(rows) + "\n")
    return file


def write_images(folder: Path, truth: Truth, names: Sequence[str] | None = None, size: tuple[int, int] = SIZE) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for k, image in enumerate(truth.images(size)):
        cv2.imwrite(str(folder / (names[k] if names else f"{k:05d}.png")), image[..., ::-1])
    return folder


def write_drive_video(file: Path, truth: Truth, size: tuple[int, int] = SIZE) -> Path:
    return write_video(file, (truth.times - truth.times[0]) * 1000, truth.images(size))


def signals(truth: Truth, times: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """steering (rad at the front wheels, positive to the right), throttle, brake, speed (m/s) at the times of the
    frames or at `times`."""
    slope = truth.at(np.gradient(truth.speed, truth.fine), times)
    return {
        "steering": truth.at(truth.wheel, times),
        "throttle": np.clip(slope / 4, 0, 1),
        "brake": np.clip(-slope / 8, 0, 1),
        "speed": truth.at(truth.speed, times),
    }
