"""Rank correlation: whether two lists of scores put the same things in the same order."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]


def ranks(values: npt.ArrayLike) -> Values:
    """Ranks along the last axis, from 1; equal values share the mean of their ranks."""
    numbers = np.asarray(values, np.float64)
    below = (numbers[..., None, :] < numbers[..., :, None]).sum(-1)
    equal = (numbers[..., None, :] == numbers[..., :, None]).sum(-1)
    return np.asarray(below + (equal + 1) / 2, np.float64)


def spearman(a: npt.ArrayLike, b: npt.ArrayLike) -> Values:
    """Spearman's coefficient along the last axis, in [-1, 1]; 0 where all values of a list are equal."""
    centred = [r - r.mean(-1, keepdims=True) for r in (ranks(a), ranks(b))]
    return _normalized((centred[0] * centred[1]).sum(-1), *((c**2).sum(-1) for c in centred))


def kendall(a: npt.ArrayLike, b: npt.ArrayLike) -> Values:
    """Kendall's tau-b along the last axis, in [-1, 1]; 0 where all values of a list are equal."""
    signs = [np.sign(x[..., :, None] - x[..., None, :]) for x in (np.asarray(a, np.float64), np.asarray(b, np.float64))]
    return _normalized((signs[0] * signs[1]).sum((-2, -1)), *((s**2).sum((-2, -1)) for s in signs))


def _normalized(product: Values, square_a: Values, square_b: Values) -> Values:
    scale = np.sqrt(square_a * square_b)
    return np.divide(product, scale, out=np.zeros_like(scale), where=scale > 0)
