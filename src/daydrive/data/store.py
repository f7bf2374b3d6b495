"""The prepared drives on disk: a Lance table of frames and `store.json`, which says what the rows mean.

    <store>/frames.lance   image (JPEG), action float32[4], time, drive, frame, the source's own values
    <store>/store.json     metadata; the store is valid when this file is there

A row is a frame; the rows of a drive are contiguous and in order. `action` of a row is what the driver did from its
frame to the next.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from daydrive.errors import UserError, did_you_mean
from daydrive.types import ACTION_NAMES

if TYPE_CHECKING:
    import lance
    import pyarrow as pa

FORMAT_VERSION = 1
METADATA_FILE = "store.json"
TABLE = "frames.lance"
SPLITS = ("train", "val", "test")
AGAIN = "prepare it again with --overwrite"

Rows = npt.NDArray[np.int64]
Actions = npt.NDArray[np.float32]


@dataclass(frozen=True)
class DriveInfo:
    """An uninterrupted run of rows: `frames` of them from row `start`, `hz` apart."""

    name: str
    split: str
    start: int
    frames: int


class Store:
    """A prepared data set. Opening reads `store.json` alone; the table is opened at the first read, in the process
    that reads, and other processes get the path only."""

    def __init__(self, path: Path, metadata: dict[str, Any]) -> None:
        self.path = path
        self.metadata = metadata
        self.hz = float(metadata["hz"])
        self.image_size: tuple[int, int] = (int(metadata["image_size"][0]), int(metadata["image_size"][1]))
        self.pixel_aspect = float(metadata.get("pixel_aspect", 1.0))
        self.source = str(metadata["source"])
        self.fingerprint = str(metadata["fingerprint"])
        self.drives = [DriveInfo(d["name"], d["split"], int(d["start"]), int(d["frames"])) for d in metadata["drives"]]
        self.rows = sum(drive.frames for drive in self.drives)
        self._starts = np.array([drive.start for drive in self.drives], dtype=np.int64)
        if not all(0 < value < math.inf for value in (self.hz, self.pixel_aspect, *self.image_size)):
            raise ValueError("hz, pixel_aspect and image_size are positive")
        if any(drive.start < 0 or drive.frames < 1 or drive.split not in SPLITS for drive in self.drives):
            raise ValueError("a drive has rows and a split")

    @classmethod
    def open(cls, path: str | Path) -> Store:
        path = Path(path)
        metadata = read_metadata(path)
        if not (path / TABLE).is_dir():
            raise UserError(f"the store {path} has lost its table {TABLE}; {AGAIN}")
        try:
            return cls(path, metadata)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise UserError(f"{path / METADATA_FILE} is not a store's metadata ({error!r}); {AGAIN}") from error

    def __reduce__(self) -> tuple[Any, ...]:
        return (Store.open, (str(self.path),))

    def split(self, name: str) -> list[DriveInfo]:
        """The drives of a split; UserError for a split's name that does not exist."""
        if name not in SPLITS:
            raise UserError(f"there is no split '{name}'{did_you_mean(name, SPLITS)}")
        return [drive for drive in self.drives if drive.split == name]

    def locate(self, row: int) -> tuple[DriveInfo, int]:
        """The drive that a row belongs to, and its frame's index in that drive."""
        drive = self.drives[int(np.searchsorted(self._starts, row, side="right")) - 1]
        return drive, row - drive.start

    @cached_property
    def dataset(self) -> lance.LanceDataset:
        """The Lance table, opened here and now in this process."""
        import lance

        with self._reading():
            dataset = lance.dataset(str(self.path / TABLE))
            rows = dataset.count_rows()
        if rows != self.rows:
            raise UserError(
                f"the store {self.path} is truncated: its table has {rows} rows where {METADATA_FILE} "
                f"says {self.rows}; {AGAIN}"
            )
        return dataset

    def read(self, rows: npt.ArrayLike) -> tuple[list[bytes], Actions]:
        """JPEG bytes and actions, float32 (N, 4), of rows in any order, repeats allowed, with one read of the table."""
        table, back = self._take(rows, ["image", "action"])
        images = table.column("image").to_pylist()
        return [images[i] for i in back], _actions(table)[back]

    def read_actions(self, rows: npt.ArrayLike) -> Actions:
        """Actions alone, float32 (N, 4), without touching the pictures."""
        table, back = self._take(rows, ["action"])
        return _actions(table)[back]

    def read_values(self, rows: npt.ArrayLike, names: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
        """The named columns of rows: `time` (s), `drive`, `frame`, or any of the source's own values."""
        known = self.dataset.schema.names
        for name in names:
            if name not in known:
                raise UserError(f"the store {self.path} has no column '{name}'{did_you_mean(name, known)}")
        table, back = self._take(rows, list(names))
        return {name: table.column(name).to_numpy()[back] for name in names}

    def _take(self, rows: npt.ArrayLike, columns: list[str]) -> tuple[pa.Table, npt.NDArray[np.int64]]:
        unique, back = np.unique(np.asarray(rows, dtype=np.int64).reshape(-1), return_inverse=True)
        if len(unique) and (unique[0] < 0 or unique[-1] >= self.rows):
            raise UserError(f"the store {self.path} has rows 0 to {self.rows - 1}, not {unique[0]} to {unique[-1]}")
        dataset = self.dataset
        with self._reading():
            return dataset.take(unique, columns=columns), back

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # Lance's panics are no Exceptions
            reason = str(error).split("\n")[0].split(", /")[0].strip()[:200]
            raise UserError(f"the table of the store {self.path} is damaged ({reason}); {AGAIN}") from error


def read_metadata(path: Path) -> dict[str, Any]:
    """`store.json` of a store; UserError where the folder is missing, foreign, damaged or of a newer version."""
    if not path.exists():
        raise UserError(
            f"there is no store at {path}; make one with "
            f"`python scripts/prepare_dataset.py --dataset <name> --data-root <folder> --output {path}`"
        )
    file = path / METADATA_FILE
    if not file.is_file():
        raise UserError(
            f"{path} is not a prepared store (it has no {METADATA_FILE}); make one from it with "
            f"`python scripts/prepare_dataset.py --dataset <name> --data-root {path} --output <store>`"
        )
    try:
        metadata = json.loads(file.read_text(encoding="utf-8"))
        version = int(metadata["format_version"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} cannot be read as a store's metadata; {AGAIN}") from error
    if version > FORMAT_VERSION:
        raise UserError(
            f"the store {path} has format version {version} and this daydrive reads up to {FORMAT_VERSION}; "
            f"update daydrive, or {AGAIN}"
        )
    return dict(metadata)


def _actions(table: pa.Table) -> Actions:
    column = table.column("action").combine_chunks()
    flat = column.flatten().to_numpy(zero_copy_only=False)
    return np.asarray(flat, dtype=np.float32).reshape(-1, len(ACTION_NAMES))
