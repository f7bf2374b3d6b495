"""The coefficients are those of SciPy, ties included."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from daydrive.decisions.rank_correlation import kendall, ranks, spearman


@pytest.mark.parametrize("levels", [1000, 4])
def test_coefficients_are_those_of_scipy(levels: int) -> None:
    random = np.random.default_rng(levels)
    a, b = random.integers(levels, size=(2, 20, 12)).astype(float)
    assert ranks(a)[0] == pytest.approx(stats.rankdata(a[0]))
    assert spearman(a, b) == pytest.approx([stats.spearmanr(x, y).statistic for x, y in zip(a, b, strict=True)])
    assert kendall(a, b) == pytest.approx([stats.kendalltau(x, y).statistic for x, y in zip(a, b, strict=True)])


def test_equal_and_opposite_orders_and_no_order() -> None:
    values = [3.0, 1.0, 2.0, 8.0]
    for coefficient in (spearman, kendall):
        assert coefficient(values, np.exp(values)) == pytest.approx(1)
        assert coefficient(values, np.negative(values)) == pytest.approx(-1)
        assert coefficient(values, [1.0] * 4) == 0
