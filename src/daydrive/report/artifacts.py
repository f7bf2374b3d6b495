"""Writes the output files of an evaluation. `predictions.npz` is written clip by clip to bound memory."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from daydrive.data.store.store import Store
from daydrive.files import write_json, write_text
from daydrive.report import plots
from daydrive.report.model_card import Training, model_card
from daydrive.report.page import FILES, report_html
from daydrive.report.text import report_markdown
from daydrive.types import Rollout
from daydrive.viz.images import to_images, write_video


def write_predictions(folder: Path, rollouts: Iterable[Rollout], clips: int, steps: int, store: Store) -> None:
    """Writes `predictions.npz` with one rollout in memory at a time."""
    with PredictionsWriter(folder / "predictions.npz", clips, steps, store.image_size) as writer:
        for rollout in rollouts:
            writer.write(rollout)


def write_images(
    folder: Path, evaluation: dict[str, Any], store: Store, shown: Sequence[Rollout], worst: Sequence[Rollout]
) -> None:
    """Writes the curves, a strip of frames of the clips in `shown` and of the worst ones, a video, and the rankings of
    drivers if there are any."""
    hz, clips = evaluation["hz"], evaluation["clips"]
    plots.horizon_curves(folder / "horizon.png", evaluation)
    plots.strip(folder / "strip.png", shown, hz, clips, store.pixel_aspect)
    plots.strip(folder / "worst.png", worst, hz, clips, store.pixel_aspect, "lowest margin")
    rankings = [entry["results"] for entry in evaluation.get("decisions", ()) if entry["command"] == "rank"]
    if rankings:
        plots.rankings(folder / "ranking.png", rankings)
    write_video(folder / "rollouts.mp4", plots.video(shown, hz, store.pixel_aspect), hz)


def write_reports(folder: Path, evaluation: dict[str, Any], store: Store, training: Training | None) -> None:
    """Writes the reports and `evaluation.json`. evaluation: without NaN, see `finite`. The page embeds the folder's
    images."""
    files = {name: (folder / name).read_bytes() for name in FILES if (folder / name).is_file()}
    write_text(folder / "report.html", report_html(evaluation, files))
    write_text(folder / "report.md", report_markdown(evaluation))
    if training is not None:
        write_text(folder / "MODEL_CARD.md", model_card(evaluation, store, training))
    write_json(folder / "evaluation.json", evaluation)


class PredictionsWriter:
    """Appends rollouts to one temporary file per array beside `path`, and joins them into an uncompressed npz on exit.

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

    def write(self, rollout: Rollout) -> None:
        """Appends the next clip."""
        for name, file in self._files.items():
            file.write(to_images(getattr(rollout, name)).tobytes())
        self.count += 1

    def __enter__(self) -> PredictionsWriter:
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
    """Peak disk space in bytes: every array in its own file, and the largest one already in the archive."""
    frames = clips * (3 * steps + 1) + clips * steps
    return frames * image_size[0] * image_size[1] * 3
