"""The action report card: does a dream obey its driver?"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch

from daydrive.data.sampling.clips import fixed_clips, read_clips
from daydrive.data.store.store import Store
from daydrive.errors import UserError
from daydrive.evaluation.card.actions import VARIANTS, variants
from daydrive.evaluation.card.branches import Fork, branch_figures
from daydrive.evaluation.card.egomotion import KINDS, Estimators, calibrate, speeds_at, with_last
from daydrive.evaluation.card.flow import Array, greys, motions
from daydrive.evaluation.card.memory import Memory
from daydrive.evaluation.card.readback import response
from daydrive.evaluation.card.verdict import SURE_OF_READING, judge
from daydrive.evaluation.horizon import UINT8_RANGE, Dream, other_clips
from daydrive.evaluation.intervals import Bootstrap, bootstrap, interval
from daydrive.metrics import change, psnr
from daydrive.types import Clip

READ = ("true", "wrong")
"""Dreams whose motion is read back."""


def report_card(
    dream: Dream,
    store: Store,
    split: str,
    *,
    context: int,
    frame_skip: int = 1,
    seed: int = 0,
    steps: int = 15,
    clips: int = 32,
    batch_size: int = 8,
    estimators: Estimators | None = None,
    moments: Iterable[Fork] = (),
    memory: Memory | None = None,
) -> dict[str, Any]:
    """Dreams clips of a split with six kinds of actions and says whether it obeys; JSON-able.

    estimators: see `calibrate`, which makes them where they are not given; memory: of the store's training drives; both
    are the same for every dream on a store.
    moments: of a world that can be driven again, see `road_forks` and `forks`.

    `costs`: for each of `VARIANTS` the PSNR in dB that it costs against the true actions, mean over clips and steps,
    with its interval over drives and its values `by_step`. `change`: from frame to frame, of that of the real frames.
    `difference`: of the dreams with true and with another clip's actions, of that of the real frames from the last one
    seen. `egomotion`: what is read back, see `response`, beside the
    real frames and the estimators' own errors; `trusted` is the estimator that the verdict is from. `branches`: see
    `branch_figures`. `verdict`, `mark`, `checks`, `thresholds`: see `judge`.
    UserError for a split without two clips.
    """
    chosen = _choose(store, split, context, steps, clips, frame_skip)
    steps = chosen[0].length - context
    reader = estimators or calibrate(store, split, frame_skip, seed)
    memory = memory or Memory(store)
    draws = bootstrap([clip.drive for clip in chosen], seed=seed)
    partner = other_clips(chosen, seed)
    kept: dict[str, list[Array]] = {}

    def keep(name: str, values: Array) -> None:
        kept.setdefault(name, []).append(values)

    for begin in range(0, len(chosen), batch_size):
        part = range(begin, min(begin + batch_size, len(chosen)))
        batch = read_clips(store, [chosen[i] for i in part])
        borrowed = read_clips(store, [chosen[partner[i]] for i in part]).actions
        seen, real = batch.images[:, :context], batch.images[:, context:]
        given = variants(batch.actions, borrowed, context)
        dreams = {name: dream(seen, actions) for name, actions in given.items()}
        for name, frames in dreams.items():
            assert frames.shape == real.shape and frames.dtype == torch.uint8, (frames.shape, frames.dtype)
            keep(f"psnr {name}", psnr(frames, real, UINT8_RANGE).double().numpy())
        for name, frames in {"real": real, **{name: dreams[name] for name in READ}}.items():
            followed = with_last(seen, frames)
            keep(f"change {name}", change(followed[:, 1:], followed[:, :-1]).double().numpy())
            pictures = greys(followed)
            moved = motions(pictures)
            keep(f"approach {name}", moved[..., 2])
            for kind, reading in reader.read(pictures, moved).items():
                keep(f"{kind} turn {name}", reading.turn)
                if reading.speed is not None:
                    keep(f"{kind} speed {name}", reading.speed)
        keep("difference", change(dreams["true"], dreams["wrong"]).double().numpy())
        keep("distance", change(real, seen[:, -1:].expand_as(real)).double().numpy())
        rows = [chosen[i].start + frame_skip * np.arange(chosen[i].length - 1) for i in part]
        speed = speeds_at(store, rows)
        keep("speed", speed)
        for name in READ:
            wheel = given[name][..., 0].double().numpy()
            keep(f"wheel {name}", wheel if reader.quantity == "steering" else wheel * speed)
        for k, i in enumerate(part):
            for name, frames in (("dream", dreams["true"][k]), ("real", real[k])):
                near = memory.nearest(frames, chosen[i].drive)
                if near is not None:
                    keep(f"memory {name}", near[None])
    figures = {name: np.concatenate(values) for name, values in kept.items()}
    card: dict[str, Any] = {
        "clips": len(chosen),
        "steps": steps,
        "context": context,
        "frame_skip": frame_skip,
        "hz": store.clip_hz(frame_skip),
        "drives": len({clip.drive for clip in chosen}),
        "psnr": _rounded(figures["psnr true"].mean()),
        "costs": {name: _cost(figures, name, draws) for name in VARIANTS if name != "true"},
        "change": _ratio(figures["change true"].mean(), figures["change real"].mean()),
        "difference": _ratio(figures["difference"].mean(), figures["distance"].mean()),
        "nearest_training_frame": _nearness(figures),
        "egomotion": _egomotion(figures, reader, context, draws),
        "branches": branch_figures(dream, moments),
    }
    return {**judge(card), **card}


def _choose(store: Store, split: str, context: int, steps: int, count: int, frame_skip: int) -> list[Clip]:
    longest = max((drive.frames for drive in store.split(split)), default=0)
    room = (longest - 1) // frame_skip + 1 - context
    chosen = fixed_clips(store, split, context + max(1, min(steps, room)), count, frame_skip)
    if len(chosen) < 2:
        raise UserError(f"the report card needs two clips and the split '{split}' of {store.path} has one")
    return chosen


def _cost(figures: dict[str, Array], name: str, draws: Bootstrap | None) -> dict[str, Any]:
    lost = figures["psnr true"] - figures[f"psnr {name}"]
    bounds = None
    if draws is not None:
        low, high = interval(draws.means(lost.mean(axis=1)))
        bounds = [_rounded(low), _rounded(high)]
    by_step = [_rounded(value) for value in lost.mean(axis=0)]
    return {"what": VARIANTS[name], "cost": _rounded(lost.mean()), "interval": bounds, "by_step": by_step}


def _nearness(figures: dict[str, Array]) -> dict[str, float] | None:
    """Of each clip the frame that is nearest to a training frame; the median clip."""
    if "memory dream" not in figures:
        return None
    return {f"{name}_psnr": _rounded(np.median(figures[f"memory {name}"].max(axis=1))) for name in ("dream", "real")}


def _egomotion(figures: dict[str, Array], reader: Estimators, context: int, draws: Bootstrap | None) -> dict[str, Any]:
    turn: dict[str, Any] = {}
    speed: dict[str, Any] = {}
    for kind in KINDS:
        turn[kind] = {
            name: response(figures[f"{kind} turn {name}"], figures[f"wheel {command}"], context, draws)
            for name, command in (("real", "true"), ("true", "true"), ("wrong", "wrong"))
        }
        if f"{kind} speed real" in figures:
            speed[kind] = {
                name: response(figures[f"{kind} speed {name}"], figures["speed"], context, draws, (0, 0))
                for name in ("real", "true")
            }
    strength = {kind: turn[kind]["real"]["correlation"] or 0.0 for kind in KINDS}
    best = max(KINDS, key=lambda kind: strength[kind])
    return {
        "turn_is": reader.quantity,
        "calibrated_at_delay": reader.lag,
        "errors_on_real_frames": reader.errors,
        "trusted": best if strength[best] >= SURE_OF_READING else None,
        "turn": turn,
        "speed": speed or None,
        "parallax": _ratio(figures["approach true"].mean(), figures["approach real"].mean()),
    }


def _ratio(ours: float, real: float) -> float | None:
    return _rounded(ours / real) if real > 1e-3 else None


def _rounded(value: Any) -> float:
    return round(float(value), 4)
