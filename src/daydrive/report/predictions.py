"""`predictions.npz` written clip by clip: what is held in memory does not grow with the number of clips."""

from __future__ import annotations

import zipfile
from pathlib import Path
from types import TracebackType

import numpy as np

from daydrive.evaluation.metrics.frame_metrics import Rollout
from daydrive.viz.images import to_images


class Predictions:
    """Appends rollouts to one file per array beside `path`, and joins these into an uncompressed npz at the end.

    Arrays, uint8: `real`, `predicted`, `shuffled` (N, steps, H, W, 3) and `last` (N, H, W, 3); no pickle.
    """

    def __init__(self, path: Path, clips: int, steps: int, image_size: tuple[int, int]) -> None:
        self.path, self.clips, self.count = path, clips, 0
        frame = (*image_size, 3)
        shapes = dict.fromkeys(("real", "predicted", "shuffled"), (clips, steps, *frame)) | {"last": (clips, *frame)}
        self._parts = {name: path.with_name(f".{path.stem}.{name}.npy") for name in shapes}
        self._files = {name: part.open("wb") for name, part in self._parts.items()}
        for name, file in self._files.items():
            header = {"descr": "|u1", "fortran_order": False, "shape": shapes[name]}
            np.lib.format.write_array_header_1_0(file, header)

    def put(self, rollout: Rollout) -> None:
        """Appends the next clip."""
        for name, file in self._files.items():
            file.write(to_images(getattr(rollout, name)).tobytes())
        self.count += 1

    def __enter__(self) -> Predictions:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            for file in self._files.values():
                file.close()
            if kind is None:
                assert self.count == self.clips, (self.count, self.clips)
                self._join()
        finally:
            for part in self._parts.values():
                part.unlink(missing_ok=True)

    def _join(self) -> None:
        with zipfile.ZipFile(self.path, "w", zipfile.ZIP_STORED) as archive:
            for name, part in self._parts.items():
                archive.write(part, f"{name}.npy")
                part.unlink()


def bytes_needed(clips: int, steps: int, image_size: tuple[int, int]) -> int:
    """Disk that writing takes at its fullest: every array in its own file, and one of them in the archive already."""
    frames = clips * (3 * steps + 1) + clips * steps
    return frames * image_size[0] * image_size[1] * 3
