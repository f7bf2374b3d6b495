"""Clips: the training examples of a store, and reading them as batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch

from daydrive.data.images import decode_all
from daydrive.data.sampling.shared_memory import Images, as_images
from daydrive.data.store.filters import segments, setting_text
from daydrive.data.store.store import AGAIN, SPLITS, Actions, Rows, Store
from daydrive.errors import UserError, did_you_mean
from daydrive.types import Batch, Clip

Allocate = Callable[[tuple[int, ...]], Images]
"""Allocates the memory for decoded images of a given shape."""


def _allocate_array(shape: tuple[int, ...]) -> Images:
    return np.empty(shape, dtype=np.uint8)


class ClipIndex:
    """The clips of a split by number: `sequence_length` frames, `frame_skip` apart, starting every `stride` frames.

    where: a condition, see `filters.matching_intervals`, that all rows from the first to the last of a clip satisfy.
    Clips never span several drives. Looking up a clip takes time logarithmic in the number of drives.
    Unpickling in another process does not rebuild the index.
    """

    def __init__(
        self,
        store: Store,
        split: str,
        sequence_length: int,
        frame_skip: int = 1,
        stride: int = 1,
        where: str | None = None,
    ) -> None:
        for key, value in (("data.sequence_length", sequence_length), ("data.frame_skip", frame_skip)):
            if value < 1:
                raise UserError(f"{key} must be at least 1, not {value}")
        if split not in SPLITS:
            raise UserError(f"there is no split '{split}'{did_you_mean(split, SPLITS)}")
        self.store, self.split = store, split
        self.sequence_length, self.frame_skip, self.stride = sequence_length, frame_skip, stride
        self._span = (sequence_length - 1) * frame_skip + 1
        starts, frames = segments(store, split, where)
        counts = np.maximum((frames - self._span) // stride + 1, 0)
        self._starts, self._ends = starts[counts > 0], np.cumsum(counts[counts > 0])
        if len(self) == 0:
            longest = int(frames.max(initial=0))
            raise UserError(_none_long_enough(store, split, longest, sequence_length, frame_skip, where))

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    @property
    def hz(self) -> float:
        """Frames a second of its clips."""
        return self.store.clip_hz(self.frame_skip)

    def clip(self, index: int, length: int | None = None) -> Clip:
        """Clip number `index`, 0 <= index < len, or its first `length` frames."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        if length is not None and not 1 <= length <= self.sequence_length:
            raise ValueError(f"a clip of {length} frames out of {self.sequence_length}")
        segment = int(np.searchsorted(self._ends, index, side="right"))
        before = int(self._ends[segment - 1]) if segment else 0
        start = int(self._starts[segment]) + (index - before) * self.stride
        drive, _ = self.store.locate(start)
        return Clip(drive.name, start, length or self.sequence_length, self.frame_skip)

    def moved(self, index: int, frames: int) -> tuple[int, bool]:
        """The number of the clip that starts `frames` frames after clip `index` of an index with stride 1, and whether
        that wrapped around: after the last clip of a drive (or matching segment) comes its first one."""
        segment = int(np.searchsorted(self._ends, index, side="right"))
        first = int(self._ends[segment - 1]) if segment else 0
        turns, offset = divmod(index - first + frames * self.frame_skip, int(self._ends[segment]) - first)
        return first + offset, turns > 0

    def spread(self, count: int) -> list[Clip]:
        """Up to `count` different clips, evenly over all of them, the same ones every time; for evaluation."""
        chosen = np.unique(np.linspace(0, len(self) - 1, min(count, len(self))).round().astype(np.int64))
        return [self.clip(int(i)) for i in chosen]

    def counts(self, edges: npt.ArrayLike) -> Rows:
        """Number of clips that start in each range of rows between `edges` (K + 1,); drives must not cross an edge."""
        segment = np.searchsorted(self._starts, edges)
        return np.diff(np.append(0, self._ends)[segment])

    def starts(self) -> Rows:
        """First rows of the clips, (len,)."""
        counts = np.diff(self._ends, prepend=0)
        within = np.arange(len(self)) - np.repeat(self._ends - counts, counts)
        return np.repeat(self._starts, counts) + within * self.stride

    def means(self, values: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Mean of per-row `values` over the rows from the first to the last frame of each clip, (len,).

        Values that are not finite are ignored; NaN for clips without finite values.
        """
        numbers = np.asarray(values, dtype=np.float64)
        known = np.isfinite(numbers)
        starts = self.starts()
        edges = np.stack([starts, starts + self._span], axis=1).reshape(-1)

        def sums(rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
            return np.add.reduceat(np.append(rows, 0.0), edges)[::2]

        with np.errstate(invalid="ignore"):
            return sums(np.where(known, numbers, 0.0)) / sums(known.astype(np.float64))


def read_clips(store: Store, clips: Sequence[Clip], allocate: Allocate = _allocate_array) -> Batch:
    """Read clips of one length and frame_skip as a batch: images uint8 (B, T, 3, H, W), actions float32 (B, T-1, 4).

    The images are a view of decoded images (B, T, H, W, 3) in memory from `allocate`. All images are read at once;
    with a frame_skip above 1 a second read fetches the actions of the frames in between (see `combine`). Raises
    UserError with the drive and frame of a damaged image.
    """
    length, skip = clips[0].length, clips[0].frame_skip
    if any((clip.length, clip.frame_skip) != (length, skip) for clip in clips):
        raise ValueError("the clips of a batch must have one length and one frame_skip")
    starts = np.array([clip.start for clip in clips], dtype=np.int64)[:, None]
    rows = starts + skip * np.arange(length)
    pixels, actions = read_images(store, rows.reshape(-1), allocate)
    if skip == 1:
        between = actions.reshape(len(clips), length, 4)[:, :-1]
    else:
        every = starts + np.arange(skip * (length - 1))
        between = combine(store.read_actions(every).reshape(len(clips), -1, 4), skip)
    images = as_images(pixels, len(clips))
    return Batch(images, torch.from_numpy(np.ascontiguousarray(between)), list(clips))


def read_actions(store: Store, clips: Sequence[Clip]) -> torch.Tensor:
    """The actions of `read_clips` without the images, float32 (B, T-1, 4)."""
    length, skip = clips[0].length, clips[0].frame_skip
    starts = np.array([clip.start for clip in clips], dtype=np.int64)[:, None]
    every = starts + np.arange(skip * (length - 1))
    return torch.from_numpy(combine(store.read_actions(every).reshape(len(clips), -1, 4), skip))


def read_images(store: Store, rows: Rows, allocate: Allocate = _allocate_array) -> tuple[Images, Actions]:
    """Read images, uint8 (N, H, W, 3), and actions, float32 (N, 4), of rows. Raises UserError for a damaged image."""
    jpegs, actions = store.read(rows)
    pixels = allocate((len(rows), *store.image_size, 3))
    try:
        decode_all(jpegs, pixels)
    except ValueError as error:
        index, reason = error.args
        drive, frame = store.locate(int(rows[index]))
        raise UserError(
            f"the store {store.path} has a damaged image: drive '{drive.name}', frame {frame} ({reason}); {AGAIN}"
        ) from error
    return pixels, actions


def combine(actions: Actions, skip: int) -> Actions:
    """Combine actions of every frame (B, K * skip, 4) to those of every `skip`-th (B, K, 4): means of steering,
    throttle and brake, and the last gear."""
    groups = actions.reshape(len(actions), -1, skip, 4)
    combined = groups.mean(axis=2, dtype=np.float32)
    combined[..., 3] = groups[:, :, -1, 3]
    return combined


def fixed_clips(
    store: Store, split: str, length: int, count: int, frame_skip: int = 1, where: str | None = None
) -> list[Clip]:
    """`ClipIndex.spread` of a temporary index."""
    return ClipIndex(store, split, length, frame_skip, where=where).spread(count)


def _none_long_enough(store: Store, split: str, longest: int, length: int, skip: int, where: str | None) -> str:
    if longest == 0 and where is not None and len(store.drives.of_split(split)):
        return f"{setting_text(where)} matches no rows of the split '{split}' of {store.path}"
    if longest == 0:
        available = ", ".join(sorted({drive.split for drive in store.drives} & set(SPLITS))) or "none"
        return f"the split '{split}' of {store.path} has no drives (splits with drives: {available})"
    apart = f", {skip} frames apart (data.frame_skip)," if skip > 1 else ""
    fits = (longest - 1) // skip + 1
    unit, matching = ("drive", "") if where is None else ("segment", f" that matches {setting_text(where)}")
    return (
        f"the split '{split}' of {store.path} has no {unit} long enough for clips of {length} frames{apart}: the "
        f"longest{matching} has {longest} frames; lower data.sequence_length to at most {fits}"
    )
