"""Official splits of datasets that come in parts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from daydrive.data.sources.base import Options
from daydrive.errors import UserError

VAL_SHARE = 0.1
"""Share of the official train part used for val if the official val part is used for test."""


def official_splits(parts: Sequence[str | None], options: Options, needs: str) -> list[str] | list[None]:
    """The split of each recording, or None for each if the preparation assigns the splits.

    parts: 'train', 'val' or 'test', the official part that each recording belongs to, or None if it is unknown. needs:
    what official splits need, for the error message. Without the test part, val is used for test and `VAL_SHARE` of
    train (at least one recording), drawn by the option `seed`, for val.
    """
    if options["split"] not in (None, "official", "by-drive"):
        raise UserError(f"--split {options['split']}: must be official or by-drive")
    available = {part for part in parts if part is not None}
    complete = None not in parts and "train" in available and len(available) > 1
    if options["split"] == "official" and not complete:
        raise UserError(
            f"--split official: {needs} are needed; found: {', '.join(sorted(available)) or 'none of them'}"
        )
    if options["split"] == "by-drive" or not complete:
        return [None] * len(parts)
    splits = [part or "" for part in parts]
    if len(available) == 3:
        return splits
    splits = ["test" if split == "val" else split for split in splits]
    training = np.flatnonzero([split == "train" for split in splits])
    count = min(max(1, round(VAL_SHARE * len(training))), len(training) - 1)
    for k in np.random.default_rng([options["seed"], len(training)]).permutation(training)[:count].tolist():
        splits[k] = "val"
    return splits
