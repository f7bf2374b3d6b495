"""Curriculum: phases of clips ordered by difficulty."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt

from daydrive.config import CurriculumConfig
from daydrive.data.sampling.clips import ClipIndex
from daydrive.data.sampling.permutation import Numbers
from daydrive.data.store.store import Store
from daydrive.errors import UserError, did_you_mean
from daydrive.types import ACTION_NAMES


def difficulty(store: Store, index: ClipIndex, by: str) -> npt.NDArray[np.float64]:
    """Mean absolute value of an action or a numeric column in each clip, (len(index),); NaN for clips without values.

    Raises UserError for an unknown name or a column without values.
    """
    rows = np.arange(store.rows)
    if by in ACTION_NAMES:
        return index.means(np.abs(store.read_actions(rows)[:, ACTION_NAMES.index(by)]))
    numeric = [field.name for field in store.schema if _is_number(str(field.type))]
    if by not in numeric:
        scores = " (`daydrive score` adds 'motion' and 'error')" if by in ("motion", "error") else ""
        raise UserError(
            f"data.curriculum.by: the store {store.path} has no numeric column '{by}'{scores}"
            f"{did_you_mean(by, [*numeric, 'steering'])}"
        )
    values = index.means(np.abs(store.read_values(rows, [by])[by]))
    if np.isnan(values).all():
        raise UserError(f"data.curriculum.by: the column '{by}' of the store {store.path} has no values")
    return values


def phase_members(difficulty: npt.NDArray[np.float64], config: CurriculumConfig, seed: int) -> list[Numbers]:
    """Clip numbers of each phase, ascending. Ties in difficulty are broken by `seed`; NaN counts as the hardest."""
    clips = len(difficulty)
    if config.phases > clips:
        raise UserError(f"data.curriculum.phases = {config.phases} is more than the number of clips, {clips}")
    shuffled = np.random.default_rng([seed]).permutation(clips)
    ranked = shuffled[np.argsort(difficulty[shuffled], kind="stable")]
    ends = [clips * phase // config.phases for phase in range(config.phases + 1)]
    return [np.sort(ranked[0 if config.cumulative else start : end]) for start, end in pairwise(ends)]


def _is_number(arrow_type: str) -> bool:
    return arrow_type.startswith(("int", "uint", "float", "double", "halffloat"))
