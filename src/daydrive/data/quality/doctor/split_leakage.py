"""Checks for leakage of training data into the validation and test splits: same images, same locations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from daydrive.data.quality.doctor.features import HASH_BITS, DriveFeatures
from daydrive.data.quality.doctor.finding import Finding
from daydrive.data.quality.doctor.scale import METRES_PER_DEGREE

MAX_DISTANCE = 4
"""Maximum Hamming distance (of 143 bits) between hashes of almost identical images."""
REPORTED, WARNING = 0.04, 0.2
"""Share of leaked frames of a split from which it is reported, and from which leaked locations are a warning."""
CELL_SIZE = 3.0
"""Size (m) of the grid cells in which locations are compared."""
MAX_FRAMES = 20_000
"""Maximum number of frames compared per split; larger splits are subsampled evenly."""
BLOCK = 2048


def check_leakage(drives: Sequence[DriveFeatures]) -> Iterator[Finding]:
    """Yield findings on overlap between the training split and the other splits."""
    for split in ("val", "test"):
        found = _by_image(drives, split)
        if found is not None:
            yield found
        found = _by_location(drives, split)
        if found is not None:
            yield found


def _by_image(drives: Sequence[DriveFeatures], split: str) -> Finding | None:
    held_out, held_rows = _hashes(drives, split)
    training, training_rows = _hashes(drives, "train")
    if len(held_out) == 0 or len(training) == 0:
        return None
    nearest, distance = nearest_hashes(held_out, training)
    similar = distance <= MAX_DISTANCE
    share = float(similar.mean())
    if share <= REPORTED:
        return None
    first = int(np.flatnonzero(similar)[0])
    names = tuple(
        drive.name for drive in drives
        if drive.split == split and similar[(held_rows >= drive.start) & (held_rows < drive.start + len(drive))].any()
    )  # fmt: skip
    train = next(d for d in drives if d.start <= training_rows[nearest[first]] < d.start + len(d))
    return Finding(
        "warning", "leak",
        f"{share:.0%} of the images of '{split}' are almost identical to one of 'train', such as those of row "
        f"{held_rows[first]} (drive '{names[0]}') and row {training_rows[nearest[first]]} (drive '{train.name}')",
        "assign drives of the same recording to the same split: `daydrive data split`", names, size=share,
        unit=f"share of {split}", rows=(int(held_rows[first]), int(training_rows[nearest[first]])),
    )  # fmt: skip


def nearest_hashes(
    held_out: npt.NDArray[np.uint8], training: npt.NDArray[np.uint8]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """For packed hashes (N, B), the index of the nearest of (M, B) and its Hamming distance, (N,) each."""
    signs = np.unpackbits(training, axis=1)[:, :HASH_BITS].astype(np.float32) * 2 - 1
    indices, distances = [], []
    for first in range(0, len(held_out), BLOCK):
        block = np.unpackbits(held_out[first : first + BLOCK], axis=1)[:, :HASH_BITS].astype(np.float32) * 2 - 1
        agree = block @ signs.T
        best = agree.argmax(1)
        indices.append(best)
        distances.append((HASH_BITS - agree[np.arange(len(block)), best]) / 2)
    return np.concatenate(indices), np.concatenate(distances)


def _hashes(drives: Sequence[DriveFeatures], split: str) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    chosen = [drive for drive in drives if drive.split == split]
    if not chosen:
        return np.zeros((0, 1), np.uint8), np.zeros(0, np.int64)
    usable = [drive.valid & (drive.contrast > 3.0) for drive in chosen]
    hashes = np.concatenate([drive.hashes[ok] for drive, ok in zip(chosen, usable, strict=True)])
    rows = np.concatenate([drive.start + np.flatnonzero(ok) for drive, ok in zip(chosen, usable, strict=True)])
    every = slice(None, None, -(-len(rows) // MAX_FRAMES) or 1)
    return hashes[every], rows[every]


def _by_location(drives: Sequence[DriveFeatures], split: str) -> Finding | None:
    """Compare locations (`x` and `y`, or latitude and longitude) on a grid, including neighbouring cells."""
    held_out, training = _locations(drives, split), _locations(drives, "train")
    if len(held_out) == 0 or len(training) == 0:
        return None
    cells = np.floor(training / CELL_SIZE).astype(np.int64)
    occupied = {
        (x + dx, y + dy) for x, y in np.unique(cells, axis=0).tolist() for dx in (-1, 0, 1) for dy in (-1, 0, 1)
    }
    share = float(
        np.mean([cell in occupied for cell in map(tuple, np.floor(held_out / CELL_SIZE).astype(np.int64).tolist())])
    )
    if share <= REPORTED:
        return None
    return Finding(
        "warning" if share > WARNING else "note", "leak-place",
        f"{share:.0%} of the positions of '{split}' are within {2 * CELL_SIZE:.0f} m of one of 'train'",
        "assign drives on the same road to the same split (`daydrive data split`), or accept the overlap",
        size=share, unit=f"share of {split}",
    )  # fmt: skip


def _locations(drives: Sequence[DriveFeatures], split: str) -> npt.NDArray[np.float64]:
    found = []
    for drive in drives:
        v = drive.values
        if drive.split != split:
            continue
        if "latitude" in v and "longitude" in v:
            y = v["latitude"] * METRES_PER_DEGREE
            found.append(np.stack([v["longitude"] * METRES_PER_DEGREE * np.cos(np.radians(v["latitude"])), y], 1))
        elif "x" in v and "y" in v:
            found.append(np.stack([v["x"], v["y"]], 1))
    locations = np.concatenate(found) if found else np.zeros((0, 2))
    return np.asarray(locations[np.isfinite(locations).all(1)])
