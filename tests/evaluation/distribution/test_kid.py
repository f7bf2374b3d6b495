"""The kernel distance compared with a sum over single pairs, its lack of bias, its error, and its choice of samples."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from daydrive.evaluation.distribution import kid
from daydrive.evaluation.distribution.kid import Distance, Samples, kernel_distance, pair_sums, set_sums
from daydrive.evaluation.metrics.intervals import Array
from daydrive.report import rows
from daydrive.report.text import distribution_markdown

STEPS = 4


def samples(values: Array) -> Samples:
    """values: (clips, steps, D)."""
    found = Samples(values.shape[2])
    for clip, of_clip in enumerate(values):
        keys = np.stack((np.full(len(of_clip), clip), np.arange(len(of_clip))), axis=1)
        found.add(keys, of_clip.astype(np.float32))
    return found


def distance(x: Array, y: Array, ends: tuple[int, ...] = (STEPS,), bands: tuple[int, ...] = (0,)) -> Distance:
    found = between_samples(samples(x), samples(y), len(x), ends, bands)
    assert found is not None
    return found


def between_samples(
    x: Samples, y: Samples, clips: int, ends: tuple[int, ...] = (STEPS,), bands: tuple[int, ...] = (0,)
) -> Distance | None:
    sums = [set_sums(each, clips, np.array(ends)) for each in (x, y)]
    return kernel_distance(sums[0], sums[1], pair_sums(x, y, clips, np.array(ends)), list(bands))


def pair_by_pair(x: Array, y: Array) -> float:
    """The published estimate, U-statistics of single pairs."""

    def k(a: Array, b: Array) -> float:
        return float((np.dot(a, b) / len(a) + 1) ** 3)

    within = [np.mean([k(a, b) for a, b in itertools.permutations(each, 2)]) for each in (x, y)]
    return float(sum(within) - 2 * np.mean([k(a, b) for a in x for b in y]))


def drawn(seed: int, clips: int, shift: float = 0.0, of_clip: float = 0.0) -> Array:
    """Samples of a Gaussian; of_clip: standard deviation of a part that all samples of a clip share."""
    random = np.random.default_rng(seed)
    return random.normal(size=(clips, STEPS, 5)) + shift + of_clip * random.normal(size=(clips, 1, 5))


def test_agrees_with_the_sum_over_pairs() -> None:
    x, y = drawn(0, 7), drawn(1, 7, shift=0.5)
    x, y = (each.astype(np.float32).astype(np.float64) for each in (x, y))
    assert distance(x, y).value == pytest.approx(pair_by_pair(x.reshape(-1, 5), y.reshape(-1, 5)), rel=1e-9)
    late = pair_by_pair(x[:, 1:3].reshape(-1, 5), y[:, 1:3].reshape(-1, 5))
    assert distance(x, y, (1, 3, 4), (1,)).value == pytest.approx(late, rel=1e-9)
    assert distance(x, y, (1, 3, 4), (0, 1, 2)).value == pytest.approx(distance(x, y).value, rel=1e-9)


def test_is_not_biased_by_the_number_of_samples() -> None:
    few = [distance(drawn(2 * seed, 2), drawn(2 * seed + 1, 2)).value for seed in range(200)]
    assert abs(np.mean(few)) < 4 * np.std(few) / np.sqrt(len(few)), "equal distributions have distance 0 on average"
    assert min(few) < 0
    shifted = [distance(drawn(2 * seed, 2, 1.0), drawn(2 * seed + 1, 2)).value for seed in range(200)]
    many = distance(drawn(0, 300, 1.0), drawn(1, 300)).value
    assert np.mean(shifted) == pytest.approx(many, abs=4 * np.std(shifted) / np.sqrt(len(shifted)))


@pytest.mark.parametrize("of_clip", [0.0, 1.0])
def test_error_is_that_of_repeated_measurements(of_clip: float) -> None:
    """Also where the samples of a clip are not independent."""
    found = [distance(drawn(2 * seed, 16, 0.5, of_clip), drawn(2 * seed + 1, 16, 0.0, of_clip)) for seed in range(100)]
    actual = np.std([each.value for each in found])
    assert np.median([each.error or 0.0 for each in found]) == pytest.approx(actual, rel=0.35)


def test_samples_are_limited_independently_of_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kid, "LIMIT", 40)
    values = drawn(0, 30)
    whole, backwards = samples(values), Samples(5)
    for clip in reversed(range(30)):
        keys = np.stack((np.full(STEPS, clip), np.arange(STEPS)), axis=1)
        backwards.add(keys, values[clip].astype(np.float32))
    merged = samples(values[:11])
    rest = Samples(5)
    for clip in range(11, 30):
        rest.add(np.stack((np.full(STEPS, clip), np.arange(STEPS)), axis=1), values[clip].astype(np.float32))
    merged.add(rest.keys, rest.values)
    for other in (backwards, merged):
        assert np.array_equal(other.keys, whole.keys) and np.array_equal(other.values, whole.values)
    assert len(whole.keys) == 40 and len(np.unique(whole.keys[:, 0])) > 15
    counts = np.bincount(whole.keys[:, 1], minlength=STEPS)
    assert counts.min() > 3, "all steps are sampled"


def test_too_few_samples() -> None:
    one = drawn(0, 1)
    assert between_samples(samples(one[:, :1]), samples(one[:, 1:2]), 1) is None
    assert distance(one, one + 1).error is None
    assert between_samples(Samples(5), samples(one), 1) is None


def test_report_names_kernel_distances() -> None:
    distances = {"dream": 1.5, "copy_last": 0.25, "other_drives": -0.004, "dream_to_other_drives": None}
    entry = {"samples": 8, **distances, "errors": {**distances, "dream_to_other_drives": None}}
    found = {
        "features": "w", "dream": 1.0, "sizes": [], "extrapolated": distances, "bands": [],
        "kid": {"subsets": 100, **entry, "bands": [{"first": 1, "last": 4, **entry}]},
    }  # fmt: skip
    table = rows.kernel_distances({"fid": found})
    assert table.rows[0] == ["KID", "all", "8", "1.50 ± 1.50", "0.25 ± 0.25", "0.00 ± 0.00", "–"]
    assert table.rows[1][:3] == ["KID", "1 to 4", "8"]
    older = {key: value for key, value in found.items() if key != "kid"}
    assert not rows.kernel_distances({"fid": older}).rows
    assert "| KID | 1 to 4 | 8 |" in distribution_markdown({"fid": found, "other_split": None, "other_clips": 0})
