"""Whether validation or test shows what training has shown: the same pictures, and the same places."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from daydrive.data.quality.doctor.features import BITS, DriveFeatures
from daydrive.data.quality.doctor.finding import Finding
from daydrive.data.quality.doctor.scale import METRES_OF_DEGREE

ALIKE = 4
"""of 143 bits may differ between two pictures of the same moment"""
LEAKS, GRAVE = 0.04, 0.2
"""share of the frames of a split that is seen in training"""
NEAR = 3.0
"""m"""
MOST = 20_000
"""frames of a split that are compared with each other's; more are thinned out evenly"""
BLOCK = 2048


def examine_leaks(drives: Sequence[DriveFeatures]) -> Iterator[Finding]:
    for split in ("val", "test"):
        found = _by_image(drives, split)
        if found is not None:
            yield found
        found = _by_place(drives, split)
        if found is not None:
            yield found


def _by_image(drives: Sequence[DriveFeatures], split: str) -> Finding | None:
    theirs, their_rows = _hashes(drives, split)
    ours, our_rows = _hashes(drives, "train")
    if len(theirs) == 0 or len(ours) == 0:
        return None
    nearest, distance = nearest_hashes(theirs, ours)
    alike = distance <= ALIKE
    share = float(alike.mean())
    if share <= LEAKS:
        return None
    at = int(np.flatnonzero(alike)[0])
    names = tuple(
        drive.name for drive in drives
        if drive.split == split and alike[(their_rows >= drive.start) & (their_rows < drive.start + len(drive))].any()
    )  # fmt: skip
    train = next(d for d in drives if d.start <= our_rows[nearest[at]] < d.start + len(d))
    return Finding(
        "warning", "leak",
        f"{share:.0%} of the pictures of '{split}' are almost the same as one of 'train', such as that of row "
        f"{their_rows[at]} (drive '{names[0]}') and row {our_rows[nearest[at]]} (drive '{train.name}')",
        "put drives of the same recording into one split: `daydrive data split`", names, size=share,
        unit=f"share of {split}", rows=(int(their_rows[at]), int(our_rows[nearest[at]])),
    )  # fmt: skip


def nearest_hashes(
    theirs: npt.NDArray[np.uint8], ours: npt.NDArray[np.uint8]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """For packed fingerprints (N, B) the place of the nearest of (M, B), and how many bits differ, (N,) each."""
    signs = np.unpackbits(ours, axis=1)[:, :BITS].astype(np.float32) * 2 - 1
    places, distances = [], []
    for first in range(0, len(theirs), BLOCK):
        block = np.unpackbits(theirs[first : first + BLOCK], axis=1)[:, :BITS].astype(np.float32) * 2 - 1
        agree = block @ signs.T
        best = agree.argmax(1)
        places.append(best)
        distances.append((BITS - agree[np.arange(len(block)), best]) / 2)
    return np.concatenate(places), np.concatenate(distances)


def _hashes(drives: Sequence[DriveFeatures], split: str) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    chosen = [drive for drive in drives if drive.split == split]
    if not chosen:
        return np.zeros((0, 1), np.uint8), np.zeros(0, np.int64)
    clear = [drive.seen & (drive.contrast > 3.0) for drive in chosen]
    hashes = np.concatenate([drive.hashes[ok] for drive, ok in zip(chosen, clear, strict=True)])
    rows = np.concatenate([drive.start + np.flatnonzero(ok) for drive, ok in zip(chosen, clear, strict=True)])
    thin = slice(None, None, -(-len(rows) // MOST) or 1)
    return hashes[thin], rows[thin]


def _by_place(drives: Sequence[DriveFeatures], split: str) -> Finding | None:
    """By `x` and `y`, or latitude and longitude, on a grid of `NEAR` and its neighbours."""
    theirs, ours = _places(drives, split), _places(drives, "train")
    if len(theirs) == 0 or len(ours) == 0:
        return None
    cells = np.floor(ours / NEAR).astype(np.int64)
    taken = {(x + dx, y + dy) for x, y in np.unique(cells, axis=0).tolist() for dx in (-1, 0, 1) for dy in (-1, 0, 1)}
    share = float(np.mean([cell in taken for cell in map(tuple, np.floor(theirs / NEAR).astype(np.int64).tolist())]))
    if share <= LEAKS:
        return None
    return Finding(
        "warning" if share > GRAVE else "note", "leak-place",
        f"{share:.0%} of the positions of '{split}' are within {2 * NEAR:.0f} m of one of 'train'",
        "put drives of one road into one split (`daydrive data split`), or know that the places are not new",
        size=share, unit=f"share of {split}",
    )  # fmt: skip


def _places(drives: Sequence[DriveFeatures], split: str) -> npt.NDArray[np.float64]:
    found = []
    for drive in drives:
        v = drive.values
        if drive.split != split:
            continue
        if "latitude" in v and "longitude" in v:
            y = v["latitude"] * METRES_OF_DEGREE
            found.append(np.stack([v["longitude"] * METRES_OF_DEGREE * np.cos(np.radians(v["latitude"])), y], 1))
        elif "x" in v and "y" in v:
            found.append(np.stack([v["x"], v["y"]], 1))
    places = np.concatenate(found) if found else np.zeros((0, 2))
    return np.asarray(places[np.isfinite(places).all(1)])
