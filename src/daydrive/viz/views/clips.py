"""The clips to visualize: at a given time of a drive, or spread evenly over a split."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from daydrive.checkpoint import check_fit, load
from daydrive.data.sampling.clips import read_clips
from daydrive.data.store.store import DriveInfo, Store
from daydrive.errors import UserError
from daydrive.evaluation.clip_selection import choose_clips
from daydrive.evaluation.metrics.frame_metrics import RolloutFunction
from daydrive.evaluation.model_loading import find_model
from daydrive.metrics import psnr
from daydrive.models import Predictor
from daydrive.models.interface import State
from daydrive.models.rollout import device_of, rollout_states
from daydrive.report.plots import STRIP_STEPS
from daydrive.types import Clip, to_signed
from daydrive.viz.gallery import choose_drives

BATCH = 8
"""Clips predicted at a time."""


class ClipQuery(NamedTuple):
    """Which clips to show: `clips` clips of a split or, if `drives` are given, one of each, at `at` seconds.

    steps: to predict; fewer if the drives end earlier.
    """

    split: str
    steps: int
    clips: int = 1
    drives: Sequence[str] = ()
    at: float | None = None


class PredictedClip(NamedTuple):
    """One clip with its prediction.

    name: the drive and the time in seconds at which the prediction starts. seen: context frames, uint8 (C, 3, H, W);
    real, predicted: uint8 (N, 3, H, W); actions: float32 (C-1+N, 4).
    """

    name: str
    seen: Tensor
    real: Tensor
    predicted: Tensor
    actions: Tensor

    @property
    def copied(self) -> Tensor:
        """The copy-last baseline: the last context frame repeated, uint8 (N, 3, H, W)."""
        return self.seen[-1].expand_as(self.real)

    @property
    def mean_psnr(self) -> tuple[float, float]:
        """PSNR of the prediction and of the copy-last baseline, in dB, mean over the steps."""
        predicted, baseline = (psnr(x, self.real, 255.0).mean().item() for x in (self.predicted, self.copied))
        return predicted, baseline


class RolloutView(NamedTuple):
    """clips: one at a time, with their predictions; hz: rate of the steps; pixel_aspect: width / height of a pixel."""

    clips: Iterator[PredictedClip]
    hz: float
    pixel_aspect: float


def view_rollouts(
    checkpoint: Path, adapter: str | None, data_root: Path, query: ClipQuery, device: torch.device
) -> RolloutView:
    """Rollouts of any model on the clips of a query.

    Raises UserError if something is missing or model and store do not match.
    """
    store = Store.open(data_root)
    evaluated = find_model(checkpoint, adapter, store, device)
    clips = find_clips(store, query, evaluated.context, evaluated.frame_skip)
    predicted = predict_clips(evaluated.rollout_fn, store, clips, evaluated.context)
    return RolloutView(predicted, store.clip_hz(evaluated.frame_skip), store.pixel_aspect)


class ModelClip(NamedTuple):
    """A model and a clip to predict. seen: uint8 (C, 3, H, W); real: uint8 (N, 3, H, W); actions: float32 (C-1+N, 4).

    kind: describes the model in messages.
    """

    model: Predictor
    kind: str
    name: str
    seen: Tensor
    real: Tensor
    actions: Tensor
    hz: float
    pixel_aspect: float

    def signed(self, images: Tensor) -> Tensor:
        """uint8 (T, 3, H, W) → (1, T, 3, H, W) in [-1, 1], on the model's device."""
        return to_signed(images[None].to(device_of(self.model)))

    def predicted_states(self) -> Iterator[tuple[State, Tensor]]:
        """Yield state and frame (1, 3, H, W) in [-1, 1] after each step."""
        actions = self.actions[None].to(device_of(self.model))
        return rollout_states(self.model, self.signed(self.seen), actions)

    def cannot_show(self, missing: str) -> UserError:
        return UserError(f"{self.kind} has {missing}; rollout, steering-sweep, error and sheet work for any model")


def load_model_clip(checkpoint: Path, data_root: Path, query: ClipQuery, device: torch.device) -> ModelClip:
    """One clip with a daydrive checkpoint, whose internal state can be shown; raises UserError as `view_rollouts`."""
    store = Store.open(data_root)
    loaded = load(checkpoint, device)
    check_fit(loaded, store)
    context, skip = loaded.context_frames, loaded.frame_skip
    (clip,) = find_clips(store, query, context, skip)
    batch = read_clips(store, [clip])
    images, actions, name = batch.images[0], batch.actions[0], moment_name(store, clip, context)
    kind = f"the model {loaded.path}" + (f" (model.type = {loaded.config.model.type})" if loaded.config else "")
    seen, real, hz = images[:context], images[context:], store.clip_hz(skip)
    return ModelClip(loaded.model, kind, name, seen, real, actions, hz, store.pixel_aspect)


def find_clips(store: Store, query: ClipQuery, context: int, frame_skip: int) -> list[Clip]:
    """Clips of equal length; raises UserError for an unknown split or drive, and for a time outside the drive."""
    if not query.drives:
        if query.at is not None:
            raise UserError("--at is a time within a drive: name the drive with --drive")
        chosen, _ = choose_clips(store, query.split, context, query.steps, max(2, query.clips), frame_skip, 0)
        return chosen[: query.clips]
    drives = choose_drives(store, query.drives, 0)
    last_seen = [_last_seen_frame(store, drive, query.at, context, frame_skip) for drive in drives]
    ahead = [(drive.frames - 1 - frame) // frame_skip for drive, frame in zip(drives, last_seen, strict=True)]
    length = context + min(query.steps, *ahead)
    before = (context - 1) * frame_skip
    return [
        Clip(drive.name, drive.start + frame - before, length, frame_skip)
        for drive, frame in zip(drives, last_seen, strict=True)
    ]


def _last_seen_frame(store: Store, drive: DriveInfo, at: float | None, context: int, frame_skip: int) -> int:
    """Number of the last context frame within the drive."""
    first, last = (context - 1) * frame_skip, drive.frames - 1 - frame_skip
    if last < first:
        raise UserError(
            f"the drive '{drive.name}' of {store.path} has {drive.frames} frames, and {first + frame_skip + 1} are "
            "needed: the model's context and one step to predict"
        )
    frame = first if at is None else round(at * store.hz)
    if not first <= frame <= last:
        raise UserError(
            f"--at {at:g}: in the drive '{drive.name}' of {store.path} a rollout can start from {first / store.hz:g} s "
            f"to {last / store.hz:g} s"
        )
    return frame


def predict_clips(
    predict: RolloutFunction, store: Store, clips: Sequence[Clip], context: int
) -> Iterator[PredictedClip]:
    """Yield every clip with its prediction; holds one batch in memory at a time."""
    for start in range(0, len(clips), BATCH):
        batch = read_clips(store, clips[start : start + BATCH])
        seen, real = batch.images[:, :context], batch.images[:, context:]
        predicted = predict(seen, batch.actions)
        for k, clip in enumerate(batch.clips):
            yield PredictedClip(moment_name(store, clip, context), seen[k], real[k], predicted[k], batch.actions[k])


def moment_name(store: Store, clip: Clip, context: int) -> str:
    """The drive's name and the time of the last context frame in seconds."""
    _, frame = store.locate(clip.start)
    return f"{clip.drive} {(frame + (context - 1) * clip.frame_skip) / store.hz:.1f} s"


def shown_steps(steps: int, most: int = 8) -> list[int]:
    """At most `most` of the steps 1 to `steps` for a still image: dense at first, always including the last."""
    known = [step for step in STRIP_STEPS if step < steps]
    if len(known) >= most:
        known = [known[i] for i in np.linspace(0, len(known) - 1, most - 1).round().astype(int)]
    return [*known, steps]


def step_names(steps: Sequence[int], hz: float) -> list[str]:
    return [f"+{step}  {step / hz:.2f} s" for step in steps]
