"""Difficulty scores per frame, added as columns to an existing store."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import cv2
import numpy as np
import numpy.typing as npt

from daydrive.data.prepare.writer import VERSION_RETENTION, current_table
from daydrive.data.sampling.clips import read_images
from daydrive.data.store.store import DriveInfo, Store, read_metadata, write_metadata
from daydrive.errors import UserError
from daydrive.progress import DriveProgress
from daydrive.workspace import exclusive_lock

Scores = npt.NDArray[np.float32]

CHUNK = 256
"""Number of frames held in memory at a time."""

MOTION = "mean absolute difference to the frame before, grey, 0 to 255"


def motion(store: Store, drive: DriveInfo) -> Iterator[Scores]:
    """Mean absolute difference of each frame to the previous one, grey levels 0 to 255; NaN for the first."""
    yield np.full(1, np.nan, dtype=np.float32)
    for first in range(1, drive.frames, CHUNK):
        last = min(first + CHUNK, drive.frames)
        images, _ = read_images(store, drive.start + np.arange(first - 1, last))
        count, height, width, _ = images.shape
        grey = cv2.cvtColor(images.reshape(count * height, width, 3), cv2.COLOR_RGB2GRAY)
        levels = grey.reshape(count, height, width).astype(np.int16)
        yield np.abs(np.diff(levels, axis=0)).mean(axis=(1, 2), dtype=np.float32)


def add_score(store: Store, name: str, meaning: str, score: Callable[[DriveInfo], Iterator[Scores]]) -> str:
    """Add or replace the float32 column `name`; return a one-line summary of its values.

    score: maps a drive to the scores of its frames, in chunks, NaN for frames without a score. meaning: description
    stored in the metadata. Only the scores are held in memory, and the table is modified after all of them are
    computed: an interruption leaves the store unchanged, or at worst without the column. Raises UserError if the
    store cannot be written.
    """
    store.require_single_store("has no columns of its own; score each member store")
    scores = np.full(store.rows, np.nan, dtype=np.float32)
    lengths = [drive.frames for drive in store.drives]
    with exclusive_lock(store.path, lambda holder: f"{holder} is scoring {store.path} at this moment"):
        with DriveProgress(lengths, lengths) as progress:
            for drive in store.drives:
                row = drive.start
                for chunk in score(drive):
                    scores[row : row + len(chunk)] = chunk
                    row += len(chunk)
                    progress.frames_done(len(chunk))
                assert row == drive.start + drive.frames, f"{row - drive.start} scores for '{drive.name}'"
                progress.drive_done()
        try:
            _write(store, name, meaning, scores)
        except OSError as error:
            reason = error.strerror or str(error).split("\n")[0].split(", /")[0][:200]
            raise UserError(f"cannot add the column '{name}' to the store {store.path} ({reason})") from error
    if np.isnan(scores).all():
        return f"{store.path}: column '{name}' has no values because its drives are too short"
    low, high = np.nanpercentile(scores, (5, 95))
    return f"{store.path}: column '{name}', mean {np.nanmean(scores):.2f}, 90 % from {low:.2f} to {high:.2f}"


def _write(store: Store, name: str, meaning: str, scores: Scores) -> None:
    import pyarrow as pa

    dataset = current_table(store)
    if name in dataset.schema.names:
        dataset.drop_columns([name])
    dataset.add_columns(pa.table({name: scores}).to_reader())
    metadata = read_metadata(store.path)
    metadata["scores"] = {**metadata.get("scores", {}), name: meaning}
    metadata["table_version"] = dataset.version
    write_metadata(store.path, metadata)
    dataset.cleanup_old_versions(older_than=VERSION_RETENTION)
