"""What is drawn: clips of a store, at a moment of a drive or spread evenly over a split."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from daydrive.checkpoint import load
from daydrive.data.sampling.clips import read_clips
from daydrive.data.store.store import DriveInfo, Store
from daydrive.errors import UserError
from daydrive.evaluation.clip_selection import choose_clips
from daydrive.evaluation.metrics.frame_metrics import RolloutFunction
from daydrive.evaluation.model_loading import check_fit, find_model
from daydrive.metrics import psnr
from daydrive.models import Predictor
from daydrive.report.plots import STRIP_STEPS
from daydrive.types import Clip
from daydrive.viz.gallery import choose

BATCH = 8
"""Clips predicted at a time."""


class ClipQuery(NamedTuple):
    """What to look at: so many `clips` of a split or, where `drives` are named, one of each, `at` a second of it.

    horizon: steps to predict, fewer where the drives end before.
    """

    split: str
    horizon: int
    clips: int = 1
    drives: Sequence[str] = ()
    at: float | None = None


class PredictedClip(NamedTuple):
    """One clip, real and predicted.

    name: the drive and the second at which the dream begins. seen: uint8 (C, 3, H, W); real, predicted: uint8
    (N, 3, H, W); actions: float32 (C-1+N, 4).
    """

    name: str
    seen: Tensor
    real: Tensor
    predicted: Tensor
    actions: Tensor

    @property
    def copied(self) -> Tensor:
        """The last frame seen, again and again, uint8 (N, 3, H, W): the baseline."""
        return self.seen[-1].expand_as(self.real)

    @property
    def mean_psnr(self) -> tuple[float, float]:
        """PSNR in dB, mean over the steps: of the prediction, and of the baseline."""
        ours, baseline = (psnr(x, self.real, 255.0).mean().item() for x in (self.predicted, self.copied))
        return ours, baseline


class RolloutView(NamedTuple):
    """clips: one by one, with their dreams; hz: rate of the steps; pixel_aspect: width / height."""

    clips: Iterator[PredictedClip]
    hz: float
    pixel_aspect: float


def view_rollouts(
    checkpoint: Path, adapter: str | None, data_root: Path, query: ClipQuery, device: torch.device
) -> RolloutView:
    """At dreams from outside, of any model; UserError for what isn't there or doesn't fit together."""
    store = Store.open(data_root)
    evaluated = find_model(checkpoint, adapter, store, device)
    clips = find_clips(store, query, evaluated.context, evaluated.frame_skip)
    shown = dream_clips(evaluated.rollout_fn, store, clips, evaluated.context)
    return RolloutView(shown, store.clip_hz(evaluated.frame_skip), store.pixel_aspect)


class Inside(NamedTuple):
    """One clip and the model that is to dream it. seen: uint8 (C, 3, H, W); real: uint8 (N, 3, H, W); actions: float32
    (C-1+N, 4). kind: the model, for messages."""

    model: Predictor
    kind: str
    name: str
    seen: Tensor
    real: Tensor
    actions: Tensor
    hz: float
    pixel_aspect: float


def view_inside(checkpoint: Path, data_root: Path, query: ClipQuery, device: torch.device) -> Inside:
    """At one of daydrive's own models; UserError as for `look`."""
    store = Store.open(data_root)
    loaded = load(checkpoint, device)
    check_fit(loaded, store)
    context, skip = loaded.context_frames, loaded.frame_skip
    (clip,) = find_clips(store, query, context, skip)
    batch = read_clips(store, [clip])
    images, actions, name = batch.images[0], batch.actions[0], moment_name(store, clip, context)
    kind = f"the model {loaded.path}" + (f" (model.type = {loaded.config.model.type})" if loaded.config else "")
    seen, real, hz = images[:context], images[context:], store.clip_hz(skip)
    return Inside(loaded.model, kind, name, seen, real, actions, hz, store.pixel_aspect)


def find_clips(store: Store, query: ClipQuery, context: int, frame_skip: int) -> list[Clip]:
    """Clips of one length; UserError for a split or a drive that isn't there, and for a moment outside of its drive."""
    if not query.drives:
        if query.at is not None:
            raise UserError("--at is a moment of a drive: name the drive with --drive")
        chosen, _ = choose_clips(store, query.split, context, query.horizon, max(2, query.clips), frame_skip, 0)
        return chosen[: query.clips]
    drives = choose(store, query.drives, 0)
    places = [_place(store, drive, query.at, context, frame_skip) for drive in drives]
    ahead = [(drive.frames - 1 - now) // frame_skip for drive, now in zip(drives, places, strict=True)]
    length = context + min(query.horizon, *ahead)
    before = (context - 1) * frame_skip
    return [
        Clip(drive.name, drive.start + now - before, length, frame_skip)
        for drive, now in zip(drives, places, strict=True)
    ]


def _place(store: Store, drive: DriveInfo, at: float | None, context: int, frame_skip: int) -> int:
    """The frame of a drive that is the last one seen."""
    first, last = (context - 1) * frame_skip, drive.frames - 1 - frame_skip
    if last < first:
        raise UserError(
            f"the drive '{drive.name}' of {store.path} has {drive.frames} frames, and {first + frame_skip + 1} are "
            "needed: what the model sees and one step to dream"
        )
    now = first if at is None else round(at * store.hz)
    if not first <= now <= last:
        raise UserError(
            f"--at {at:g}: in the drive '{drive.name}' of {store.path} a dream can begin from {first / store.hz:g} s "
            f"to {last / store.hz:g} s"
        )
    return now


def dream_clips(dream: RolloutFunction, store: Store, clips: Sequence[Clip], context: int) -> Iterator[PredictedClip]:
    """Every clip with its dream, one by one; holds one batch at a time."""
    for begin in range(0, len(clips), BATCH):
        batch = read_clips(store, clips[begin : begin + BATCH])
        seen, real = batch.images[:, :context], batch.images[:, context:]
        predicted = dream(seen, batch.actions)
        for k, clip in enumerate(batch.clips):
            yield PredictedClip(moment_name(store, clip, context), seen[k], real[k], predicted[k], batch.actions[k])


def moment_name(store: Store, clip: Clip, context: int) -> str:
    """The drive, and the second of it that the last image seen is of."""
    _, frame = store.locate(clip.start)
    return f"{clip.drive} {(frame + (context - 1) * clip.frame_skip) / store.hz:.1f} s"


def shown_steps(steps: int, most: int = 8) -> list[int]:
    """Which of `steps` are drawn on a still: close together at first, the last one always."""
    known = [step for step in STRIP_STEPS if step < steps]
    if len(known) >= most:
        known = [known[i] for i in np.linspace(0, len(known) - 1, most - 1).round().astype(int)]
    return [*known, steps]


def step_names(steps: Sequence[int], hz: float) -> list[str]:
    return [f"+{step}  {step / hz:.2f} s" for step in steps]
