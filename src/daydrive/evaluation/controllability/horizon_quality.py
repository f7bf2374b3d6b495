"""Quality of long rollouts by horizon, out to a minute: appearance, spectrum, distances to real frames, replays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from daydrive.data.sampling.clips import read_images
from daydrive.data.store.store import Store
from daydrive.distributed import DistributedContext
from daydrive.evaluation.controllability.criteria import is_replay
from daydrive.evaluation.controllability.long_rollout import read_drive, starting_clips
from daydrive.evaluation.controllability.training_index import TrainingIndex
from daydrive.evaluation.distribution.features import FILTERS, Features
from daydrive.evaluation.distribution.frechet import Moments, frechet_distance
from daydrive.evaluation.distribution.kid import Samples, kernel_distance, pair_sums, set_sums
from daydrive.evaluation.metrics.frame_metrics import UINT8_RANGE, RolloutFunction
from daydrive.evaluation.metrics.intervals import Array
from daydrive.evaluation.metrics.spectrum import band_powers, decibels, find_peaks, log_spectra, periods, power_spectra
from daydrive.metrics import change, psnr, sharpness
from daydrive.types import Clip

SECONDS = (1, 2, 5, 10, 20, 40, 60)
"""Horizons. Each is measured on the frames of the second before it."""
CLIPS = 4
"""Number of drives that are rolled out."""
BATCH = 2
"""Drives in a batch at most, so that two processes can share them."""
BYTES = 2**28
"""Memory for the frames of one batch of rollouts."""
COMPARED = 4
"""Frames of each horizon that are compared with the training drives and the context."""


class _Window(NamedTuple):
    """Of the frames of one clip within one second, or of all real frames of its drive.

    appearance: means over the frames by name. powers: (octaves, 3). log_spectrum: (H, W), mean in dB. features:
    (frames, D) by key of the features. nearest: PSNR in dB to the nearest training and context frame, (frames,).
    """

    appearance: dict[str, float]
    powers: Array
    log_spectrum: Array
    features: dict[str, Array]
    nearest: dict[str, Array]


class _Measured(NamedTuple):
    """Of one clip. real: all frames of the drive. ahead, true: of the rollout and of the drive by horizon; the drive
    may end before."""

    real: _Window
    ahead: dict[int, _Window]
    true: dict[int, _Window]


def measure_horizons(
    rollout_fn: RolloutFunction,
    store: Store,
    split: str,
    context: int,
    seconds: Sequence[int] = SECONDS,
    *,
    frame_skip: int = 1,
    clips: int = CLIPS,
    index: TrainingIndex | None = None,
    dist: DistributedContext | None = None,
) -> dict[str, Any]:
    """Rolls out the beginnings of `clips` drives to the last of `seconds`, repeating the drives' actions as needed.

    index: of the store's training drives, built if it is not given. dist: the processes that share the batches of
    drives, whose division does not depend on their number.

    For `evaluation.json`: `horizons`, for each of `seconds` with at least two frames in its last second,
    `brightness`, `contrast`, `sharpness` and `change` relative to all real frames of the same drives, `octaves` in dB
    and `peaks` (see `daydrive.evaluation.metrics.spectrum`), `distances` to these frames by feature (`frechet`, `kid`
    and its `kid_error`), `nearest` (PSNR in dB to the nearest training frame and the nearest context frame, of rollout
    and real frames) and `replayed`, the share of frames that replay one. `real`: the same distances of as many frames
    of the training drives.
    """
    dist = dist or DistributedContext.single(torch.device("cpu"))
    hz = store.clip_hz(frame_skip)
    ends = {second: round(second * hz) for second in seconds if round(second * hz) >= 2}
    frames_each = max(2, round(hz))
    chosen = starting_clips(store, split, context, frame_skip, clips)
    index = index or TrainingIndex(store)
    longest = max(ends.values())
    size = min(BATCH, max(1, BYTES // (longest * store.image_size[0] * store.image_size[1] * 3)))
    batches = [chosen[start : start + size] for start in range(0, len(chosen), size)]
    own = [
        [
            _measure_clip(clip, seen, real, frames, ends, frames_each, index)
            for clip, seen, real, frames in _rollouts(rollout_fn, store, batch, context, longest)
        ]
        for batch in dist.share(batches)
    ]
    measured = [of_clip for of_batch in dist.gather(own) for of_clip in of_batch]
    recorded = [of_clip.real for of_clip in measured]
    reference = _reference_windows(store, split, context, frame_skip, frames_each, len(measured))
    return {
        "clips": len(measured),
        "periods": periods(recorded[0].powers.shape[0]),
        "horizons": [
            {
                "seconds": second,
                "steps": end,
                **_quality([of_clip.ahead[second] for of_clip in measured], recorded),
                "nearest": _nearest(
                    [of_clip.ahead[second] for of_clip in measured],
                    recorded,
                    [of_clip.true[second] for of_clip in measured if second in of_clip.true],
                ),
                "replayed": _replayed(measured, second),
            }
            for second, end in ends.items()
        ],
        "real": {"distances": _distances(reference, recorded)} if reference else None,
    }


def _rollouts(
    rollout_fn: RolloutFunction, store: Store, clips: Sequence[Clip], context: int, steps: int
) -> Iterator[tuple[Clip, Tensor, Tensor, Tensor]]:
    """Each clip with its context, its real frames and its rollout, which are predicted in one batch."""
    read = [read_drive(store, clip, context, steps) for clip in clips]
    predicted = rollout_fn(torch.stack([seen for seen, _, _ in read]), torch.stack([actions for *_, actions in read]))
    for clip, (seen, real, _), frames in zip(clips, read, predicted, strict=True):
        yield clip, seen, real, frames


def _measure_clip(
    clip: Clip, seen: Tensor, real: Tensor, frames: Tensor, ends: dict[int, int], count: int, index: TrainingIndex
) -> _Measured:
    """ends: last step of each horizon. count: frames of each horizon."""
    whole, true = torch.cat((seen[-1:], frames)), real[len(seen) - 1 :]

    def windows(images: Tensor) -> dict[int, _Window]:
        return {
            second: _measure(images[max(0, end - count) : end + 1], seen, index, clip)
            for second, end in ends.items()
            if end < len(images)
        }

    return _Measured(_measure(real, seen, index, clip, compared=4 * COMPARED), windows(whole), windows(true))


def _measure(frames: Tensor, seen: Tensor, index: TrainingIndex, clip: Clip, compared: int = COMPARED) -> _Window:
    """frames: uint8 (N + 1, 3, H, W), the first one only to measure the change to the second."""
    before, after = frames[:-1], frames[1:]
    levels, spectra = after.float(), power_spectra(after)
    some = after[torch.linspace(0, len(after) - 1, min(compared, len(after))).round().long()]
    to_context = psnr(some[:, None].expand(-1, len(seen), -1, -1, -1), seen.expand(len(some), *seen.shape), UINT8_RANGE)
    nearest = {"context": to_context.amax(1).double().numpy()}
    to_training = index.nearest(some, clip.drive)
    if to_training is not None:
        nearest["training"] = to_training
    return _Window(
        {
            "brightness": float(levels.mean()),
            "contrast": float(levels.flatten(1).std(dim=1).mean()),
            "sharpness": float(sharpness(after).mean()),
            "change": float(change(after, before).mean()),
        },
        band_powers(spectra).double().mean(0).numpy(),
        log_spectra(spectra).mean(axis=0),
        _extracted(frames),
        nearest,
    )


def _extracted(frames: Tensor) -> dict[str, Array]:
    return {each.key: each.extract(frames[0], frames[1:]).double().numpy() for each in FILTERS}


def _quality(windows: Sequence[_Window], real: Sequence[_Window]) -> dict[str, Any]:
    """Of the frames at one horizon, relative to all real frames of the same drives."""
    appearance = {name: _mean(windows, name) / max(_mean(real, name), 1e-6) for name in windows[0].appearance}
    powers = [np.mean([window.powers for window in each], axis=0).mean(-1) for each in (windows, real)]
    excess = np.mean([a.log_spectrum - b.log_spectrum for a, b in zip(windows, real, strict=True)], axis=0)
    return {
        **{name: round(ratio, 4) for name, ratio in appearance.items()},
        "octaves": decibels(*powers).round(3).tolist(),
        "peaks": [peak._asdict() for peak in find_peaks(excess, len(windows))],
        "distances": _distances([window.features for window in windows], real),
    }


def _mean(windows: Sequence[_Window], name: str) -> float:
    return float(np.mean([window.appearance[name] for window in windows]))


def _distances(features: Sequence[dict[str, Array]], real: Sequence[_Window]) -> dict[str, Any]:
    return {
        each.key: _distance(each, [of_clip[each.key] for of_clip in features], [w.features[each.key] for w in real])
        for each in FILTERS
    }


def _distance(features: Features, one: Sequence[Array], other: Sequence[Array]) -> dict[str, float | None]:
    """The distances of two sets, each (frames, D) by clip."""
    moments, sets = [], []
    for values in (one, other):
        of_set, samples = Moments(features.dimensions, features.step), Samples(features.dimensions)
        for clip, of_clip in enumerate(values):
            of_set.add(of_clip)
            keys = np.stack((np.full(len(of_clip), clip), np.arange(len(of_clip))), axis=1)
            samples.add(keys, of_clip.astype(np.float32))
        moments.append(of_set.gaussian())
        sets.append(samples)
    clips, ends = len(one), np.array([max(len(of_clip) for of_clip in (*one, *other))])
    sums = [set_sums(samples, clips, ends) for samples in sets]
    kernel = kernel_distance(sums[0], sums[1], pair_sums(sets[0], sets[1], clips, ends), [0])
    return {
        "frechet": round(frechet_distance(*moments), 4),
        "kid": kernel and round(kernel.value, 4),
        "kid_error": kernel and kernel.error and round(kernel.error, 4),
    }


def _reference_windows(
    store: Store, split: str, context: int, frame_skip: int, frames: int, count: int
) -> list[dict[str, Array]]:
    """Features of as many real frames of training drives, from as many drives; empty if there are too few."""
    drives = [d for d in store.split("train") if d.frames > (context + frames) * frame_skip]
    if split == "train" or len(drives) < count:
        return []
    found = []
    for k in np.linspace(0, len(drives) - 1, count).round().astype(int):
        rows = drives[k].start + frame_skip * (context - 1 + np.arange(frames + 1))
        found.append(_extracted(torch.from_numpy(read_images(store, rows)[0]).movedim(-1, 1)))
    return found


def _nearest(windows: Sequence[_Window], real: Sequence[_Window], true: Sequence[_Window]) -> dict[str, float | None]:
    """Median PSNR in dB to the nearest frame. Real frames are compared with the training drives over the whole drive,
    with the context at the same horizon."""
    pairs = {
        "dream_training": (windows, "training"), "real_training": (real, "training"),
        "dream_context": (windows, "context"), "real_context": (true, "context"),
    }  # fmt: skip
    values = {
        name: [window.nearest[key] for window in each if key in window.nearest] for name, (each, key) in pairs.items()
    }
    return {name: round(float(np.median(np.concatenate(v))), 4) if v else None for name, v in values.items()}


def _replayed(measured: Sequence[_Measured], second: int) -> float:
    """Share of frames that replay a training or a context frame: much nearer to it than the real frames are."""
    replays = []
    for of_clip in measured:
        others = {"training": of_clip.real, "context": of_clip.true.get(second, of_clip.real)}
        nearest = of_clip.ahead[second].nearest
        typical = {key: float(np.median(others[key].nearest[key])) for key in nearest}
        replays += [
            any(is_replay(values[k], typical[key]) for key, values in nearest.items())
            for k in range(len(nearest["context"]))
        ]
    return round(float(np.mean(replays)), 4)
