"""Helpers for tests of the loggers: settings, reading logs, a video, another process."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from daydrive.config import Config, as_tree, parse_config
from daydrive.training.logging import RunLogger

PLAIN = Config()
OFFLINE = parse_config(
    {"logging": {"use_wandb": True, "wandb_mode": "offline", "wandb_project": "roads", "wandb_name": "first"}}
)


def log_steps(run: Path, opened_at: int, steps: range, config: Config = PLAIN) -> None:
    logger = RunLogger(run, opened_at, config)
    for step in steps:
        logger.scalars(step, {"train/loss": 1 / step})
    logger.close()


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def steps_in_jsonl(run: Path) -> list[int]:
    return [line["step"] for line in lines(run / "metrics.jsonl")]


def events_of(run: Path) -> EventAccumulator:
    events = EventAccumulator(str(run), {"scalars": 0, "images": 0, "histograms": 0, "tensors": 0})
    events.Reload()
    return events


def steps_in_tensorboard(run: Path) -> list[int]:
    return [event.step for event in events_of(run).Scalars("train/loss")]


def in_another_process(
    code: str, run: Path, stdin: int = subprocess.DEVNULL, stderr: int = subprocess.PIPE, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Runs code in another process, with `run` and `config`, whose settings log offline to W&B."""
    start = f"""
        import os, signal, sys
        from pathlib import Path
        from daydrive.config import parse_config
        from daydrive.errors import UserError
        from daydrive.training.logging import RunLogger
        run, config = Path(sys.argv[1]), parse_config({{"logging": {as_tree(OFFLINE)["logging"]!r}}})
    """
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(start) + textwrap.dedent(code), str(run)],
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        timeout=120,
        env={name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"} | environment,
    )


def moving_square() -> np.ndarray:
    frames = np.full((6, 24, 32, 3), (40, 80, 120), np.uint8)
    for t, frame in enumerate(frames):
        frame[8:16, 4 * t : 4 * t + 8] = (230, 60, 20)
    return frames


def check_video(gif: bytes) -> None:
    video = Image.open(io.BytesIO(gif))
    assert video.format == "GIF" and video.n_frames == 6 and video.info["duration"] == 100 and video.info["loop"] == 0
    for t, frame in enumerate(moving_square()):
        video.seek(t)
        assert np.abs(np.asarray(video.convert("RGB")).astype(int) - frame).max() <= 8
