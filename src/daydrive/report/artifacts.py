"""The files of an evaluation, from what was measured and kept."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from daydrive.data.store.store import Store
from daydrive.evaluation.metrics.frame_metrics import Rollout
from daydrive.files import write_json, write_text
from daydrive.report import plots
from daydrive.report.markdown import report_markdown
from daydrive.report.model_card import Training, model_card
from daydrive.report.page import FILES, report_html
from daydrive.report.predictions import Predictions
from daydrive.viz.images import write_video


def write_predictions(folder: Path, rollouts: Iterable[Rollout], clips: int, steps: int, store: Store) -> None:
    """Holds one rollout at a time."""
    with Predictions(folder / "predictions.npz", clips, steps, store.image_size) as predictions:
        for rollout in rollouts:
            predictions.put(rollout)


def write_images(
    folder: Path, evaluation: dict[str, Any], store: Store, shown: Sequence[Rollout], worst: Sequence[Rollout]
) -> None:
    """Curves, a strip of the clips shown and one of the worst, and a film."""
    hz, clips = evaluation["hz"], evaluation["clips"]
    plots.horizon_curves(folder / "horizon.png", evaluation)
    plots.strip(folder / "strip.png", shown, hz, clips, store.pixel_aspect)
    plots.strip(folder / "worst.png", worst, hz, clips, store.pixel_aspect, "with the least margin")
    write_video(folder / "rollouts.mp4", plots.film(shown, hz, store.pixel_aspect), hz)


def write_reports(folder: Path, evaluation: dict[str, Any], store: Store, training: Training | None) -> None:
    """evaluation: without NaN, see `finite`. The page holds the pictures that are in the folder."""
    files = {name: (folder / name).read_bytes() for name in FILES if (folder / name).is_file()}
    write_text(folder / "report.html", report_html(evaluation, files))
    write_text(folder / "report.md", report_markdown(evaluation))
    if training is not None:
        write_text(folder / "MODEL_CARD.md", model_card(evaluation, store, training))
    write_json(folder / "evaluation.json", evaluation)
