"""The order of training clips: a pure function, balanced, with curricula."""

from __future__ import annotations

import pickle
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from daydrive.config import BalanceConfig, CurriculumConfig, DataConfig
from daydrive.data.prepare.prepare import prepare
from daydrive.data.quality.scores import add_score
from daydrive.data.sampling import clip_weights
from daydrive.data.sampling.clips import ClipIndex
from daydrive.data.sampling.permutation import CACHE_LIMIT, SamplingWeights, epoch_permutation, feistel_permutation
from daydrive.data.sampling.sample_order import Phase, SampleOrder, build_sample_order
from daydrive.data.store.drives import Drives
from daydrive.data.store.store import Store
from daydrive.errors import UserError
from helpers.drives import write_drive

LENGTH = 3
KINDS = {
    "fast right": (30, "0.3,0.8,0,1,25"),
    "fast straight": (62, "0.01,0.8,0,1,20"),
    "slow left": (17, "-0.5,0.4,0,1,6"),
    "standing": (8, "0.01,0,0.5,1,0.1"),
}
"""One drive each: the number of frames and the values of all its rows."""

CLIPS = {kind: frames - LENGTH + 1 for kind, (frames, _) in KINDS.items()}
ALL = sum(CLIPS.values())
KINDS_OF_CLIPS = [kind for kind, count in CLIPS.items() for _ in range(count)]


def driving(folder: Path, speed: bool = True) -> Store:
    header = "steering,throttle,brake,gear" + ",speed" * speed
    for kind, (frames, row) in KINDS.items():
        rows = [row if speed else row.rsplit(",", 1)[0]] * frames
        write_drive(folder / "raw" / "train" / kind, frames, rows, header, size=(16, 16))
    write_drive(folder / "raw" / "val" / "v", 5, size=(16, 16))
    return Store.open(prepare("folder", folder / "raw", folder / "store", (16, 16), workers=1))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return driving(tmp_path_factory.mktemp("driving"))


@pytest.fixture(scope="module")
def bending(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Two drives; frame k of both is steered k / 100 to the left, and the second continues the values of the first."""
    root = tmp_path_factory.mktemp("bending")
    for drive, (first, last) in {"a": (0, 20), "b": (20, 52)}.items():
        rows = [f"{-k / 100},0.5,0,1" for k in range(first, last)]
        write_drive(root / "raw" / "train" / drive, last - first, rows, size=(16, 16))
    write_drive(root / "raw" / "val" / "v", 5, size=(16, 16))
    return Store.open(prepare("folder", root / "raw", root / "store", (16, 16), workers=1))


def order_of(store: Store, seed: int = 3, **settings: Any) -> tuple[SampleOrder, ClipIndex]:
    index = ClipIndex(store, "train", LENGTH)
    return build_sample_order(store, index, DataConfig(**settings), seed), index


def sample(order: SampleOrder, index: ClipIndex, first: int, count: int) -> dict[str, int]:
    names = [index.clip(int(number)).drive for number in order.clips(first, count)]
    return {kind: names.count(f"train/{kind}") for kind in KINDS}


BALANCE, CURRICULUM = BalanceConfig(strength=0.7), CurriculumConfig(phases=3, epochs_per_phase=2)
SETTINGS: list[dict[str, Any]] = [
    {},
    {"balance": BALANCE},
    {"curriculum": CURRICULUM},
    {"balance": BALANCE, "curriculum": CURRICULUM},
    {"balance": BalanceConfig(mode="weight"), "curriculum": CurriculumConfig(phases=2, cumulative=False)},
]


@pytest.mark.parametrize("settings", SETTINGS)
def test_order_is_a_function_of_the_sample(store: Store, settings: dict[str, Any]) -> None:
    order, index = order_of(store, **settings)
    total = 20 * len(index)
    whole, weights = order.clips(0, total), order.weights(0, total)
    assert whole.dtype == np.int64 and whole.shape == (total,)
    again: SampleOrder = pickle.loads(pickle.dumps(order_of(store, **settings)[0]))
    for first, count in ((total - 7, 7), (0, 1), (len(index) - 3, 2 * len(index)), (41, 5)):
        assert np.array_equal(again.clips(first, count), whole[first : first + count])
        found = again.weights(first, count)
        assert found is None if weights is None else np.array_equal(found, weights[first : first + count])
    other, _ = order_of(store, seed=4, **settings)
    assert not np.array_equal(other.clips(0, total), whole)


def test_default_epoch_is_a_permutation(store: Store) -> None:
    order, index = order_of(store)
    assert len(index) == ALL == order.clip_count
    for epoch in range(3):
        clips = order.clips(epoch * ALL, ALL)
        assert np.array_equal(clips, epoch_permutation(3, epoch, ALL)) and np.array_equal(
            np.sort(clips), np.arange(ALL)
        )
    assert not np.array_equal(order.clips(0, ALL), order.clips(ALL, ALL))
    assert order.weights(0, 5) is None


def drawn_all(weights: np.ndarray, offset: float) -> np.ndarray:
    return SamplingWeights.each(weights).sample(np.arange(len(weights)), offset)


def test_systematic_resampling_is_within_one_of_the_expected_count() -> None:
    weights = np.random.default_rng(0).random(100) ** 4
    expected = 100 * weights / weights.sum()
    counts = np.array([np.bincount(drawn_all(weights, offset), minlength=100) for offset in np.linspace(0, 0.999, 500)])
    assert (np.abs(counts - expected) < 1).all()
    assert counts.mean(axis=0) == pytest.approx(expected, abs=0.02)
    assert (counts.sum(axis=1) == 100).all()


def test_kinds_of_driving_from_steering_and_speed(store: Store) -> None:
    kinds = clip_weights.kinds(store, ClipIndex(store, "train", LENGTH))
    assert [clip_weights.KINDS[kind] for kind in kinds] == KINDS_OF_CLIPS


def test_standing_without_speed_is_inferred_from_motion_or_brake(tmp_path: Path) -> None:
    store = driving(tmp_path, speed=False)
    index = ClipIndex(store, "train", LENGTH)

    def standing() -> set[str]:
        kinds = clip_weights.kinds(store, index)
        assert not any(clip_weights.KINDS[kind].startswith("fast") for kind in kinds)
        return {index.clip(int(i)).drive for i in np.flatnonzero(kinds == 0)}

    assert standing() == {"train/standing"}
    still = "train/slow left"
    add_score(
        store, "motion", "planted", lambda drive: iter([np.full(drive.frames, 0.1 if drive.name == still else 9)])
    )
    assert standing() == {still}


def test_only_straight_driving_is_one_kind() -> None:
    class Straight:
        rows, schema = 6, type("", (), {"names": ()})
        drives = Drives(["d"], [0], [0], [6])

        def read_actions(self, rows: object) -> np.ndarray:
            return np.zeros((6, 4), dtype=np.float32)

    kinds = clip_weights.kinds(Straight(), ClipIndex(Straight(), "train", 3))  # type: ignore[arg-type]
    assert [clip_weights.KINDS[kind] for kind in kinds] == ["slow straight"] * 4


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
def test_balanced_epochs_have_the_expected_shares(store: Store, strength: float) -> None:
    order, index = order_of(store, balance=BalanceConfig(strength=strength))
    powers = {kind: count ** (1 - strength) for kind, count in CLIPS.items()}
    for epoch in range(4):
        for kind, count in sample(order, index, epoch * ALL, ALL).items():
            assert abs(count - ALL * powers[kind] / sum(powers.values())) <= 1
    assert order.weights(0, 4) is None
    if strength:
        assert len({tuple(np.sort(order.clips(epoch * ALL, ALL))) for epoch in range(4)}) == 4
    else:
        assert sorted(order.clips(0, ALL)) == list(range(ALL))


def test_loss_weights_preserve_the_order(store: Store) -> None:
    order, index = order_of(store, balance=BalanceConfig(mode="weight", strength=0.5))
    assert np.array_equal(order.clips(0, 3 * ALL), order_of(store)[0].clips(0, 3 * ALL))
    weights = order.weights(ALL, ALL)
    assert weights is not None and weights.dtype == np.float32 and weights.mean() == pytest.approx(1, abs=1e-5)
    names = np.array([index.clip(int(number)).drive for number in order.clips(ALL, ALL)])
    powers = {kind: count**0.5 for kind, count in CLIPS.items()}
    for kind, power in powers.items():
        share = weights[names == f"train/{kind}"].sum() / ALL
        assert share == pytest.approx(power / sum(powers.values()), rel=1e-4)


@pytest.mark.parametrize("cumulative", [True, False])
def test_curriculum_goes_from_easy_to_hard(bending: Store, cumulative: bool) -> None:
    order, index = order_of(bending, curriculum=CurriculumConfig(phases=3, epochs_per_phase=2, cumulative=cumulative))
    assert len(index) == 48
    first = 0
    for start, end in ((0, 16), (16, 32), (32, 48)):
        members = list(range(0 if cumulative else start, end))
        passes = [order.clips(first + k * len(members), len(members)) for k in range(2)]
        assert all(sorted(clips) == members for clips in passes)
        assert not np.array_equal(*passes)
        first += 2 * len(members)
    for epoch in range(3):
        assert sorted(order.clips(first + epoch * 48, 48)) == list(range(48))


def test_curriculum_by_a_column_of_the_store(bending: Store, tmp_path: Path) -> None:
    import shutil

    store = Store.open(shutil.copytree(bending.path, tmp_path / "store"))
    hard = np.random.default_rng(0).permutation(store.rows).astype(np.float32)
    hard[3:6] = np.nan
    add_score(store, "hardness", "planted", lambda drive: iter([-hard[drive.start : drive.start + drive.frames]]))
    settings = CurriculumConfig(by="hardness", phases=4, epochs_per_phase=1, cumulative=False)
    order, index = order_of(store, curriculum=settings)
    means = [
        np.mean([x for x in hard[c.start : c.start + LENGTH] if x == x] or [np.inf]) for c in map(index.clip, range(48))
    ]
    parts = [set(order.clips(12 * phase, 12)) for phase in range(4)]
    assert parts == [set(np.argsort(means)[12 * phase : 12 * phase + 12]) for phase in range(4)]
    assert 3 in parts[-1], "where the column says nothing counts as hard"


def test_ties_in_difficulty_are_broken_by_the_seed(store: Store) -> None:
    config = CurriculumConfig(by="throttle", phases=2, epochs_per_phase=1, cumulative=False)
    half = ALL // 2
    halves = {tuple(sorted(order_of(store, seed, curriculum=config)[0].clips(0, half))) for seed in (1, 2)}
    assert len(halves) == 2
    for members in halves:
        assert {KINDS_OF_CLIPS[clip] for clip in members} == set(KINDS)


@pytest.mark.parametrize("mode", ["sample", "weight"])
def test_each_phase_is_balanced(store: Store, mode: str) -> None:
    curriculum = CurriculumConfig(by="speed", phases=2, epochs_per_phase=3, cumulative=False)
    order, index = order_of(store, balance=BalanceConfig(mode=mode, strength=1.0), curriculum=curriculum)
    half = ALL // 2
    easy = {"standing": CLIPS["standing"], "slow left": CLIPS["slow left"]}
    easy["fast straight"] = half - sum(easy.values())
    assert 0 < easy["fast straight"] < CLIPS["fast straight"]
    counts = sample(order, index, half, half)
    weights = order.weights(half, half)
    if mode == "sample":
        assert weights is None
        assert all(abs(counts[kind] - half / 3) <= 1 for kind in easy) and counts["fast right"] == 0
        assert all(abs(count - ALL / 4) <= 1 for count in sample(order, index, 3 * ALL, ALL).values())
    else:
        assert weights is not None and counts == {**easy, "fast right": 0}
        names = [index.clip(int(number)).drive for number in order.clips(half, half)]
        sums = {kind: sum(w for name, w in zip(names, weights, strict=True) if name.endswith(kind)) for kind in easy}
        assert list(sums.values()) == pytest.approx([half / 3] * 3, rel=1e-4)


@pytest.mark.parametrize(
    ("curriculum", "message"),
    [
        ({"by": "sterring"}, r"data\.curriculum\.by: .*'sterring'; did you mean 'steering'\?"),
        ({"by": "sped"}, "did you mean 'speed'"),
        ({"by": "motion"}, "no numeric column 'motion' .`daydrive score` adds"),
        ({"by": "drive"}, "no numeric column 'drive'"),
        ({"by": "image"}, "no numeric column 'image'"),
        ({"by": "speed"}, "the column 'speed' of the store .* has no values"),
        ({"phases": 49}, r"data\.curriculum\.phases = 49 is more than the number of clips, 48"),
    ],
)
def test_invalid_curriculum(bending: Store, curriculum: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        order_of(bending, curriculum=CurriculumConfig(**curriculum))
    assert "\n" not in str(caught.value)


def test_runs_of_equal_weight_match_single_weights() -> None:
    counts, shares = np.array([5, 0, 7, 3]), np.array([2.0, 9.0, 0.5, 1.0])
    points = np.random.default_rng(1).integers(0, 15, 40)
    for offset in (0.0, 0.3, 0.99):
        in_runs = SamplingWeights(counts, shares).sample(points, offset)
        assert in_runs.tolist() == SamplingWeights.each(np.repeat(shares, counts)).sample(points, offset).tolist()


@pytest.mark.parametrize("count", [1, 2, 3, 1000, 1025, CACHE_LIMIT + 1])
def test_feistel_permutation_can_be_computed_in_parts(count: int) -> None:
    places = np.arange(count)
    passes = [feistel_permutation(seed, epoch, count, places) for seed, epoch in ((3, 0), (3, 1), (4, 0))]
    assert all(np.array_equal(np.sort(order), places) for order in passes)
    if count >= 1000:
        assert all((a == b).mean() < 0.01 for a, b in ((passes[0], passes[1]), (passes[0], passes[2])))
    some = np.random.default_rng(0).integers(0, count, 9)
    assert np.array_equal(feistel_permutation(3, 0, count, some), passes[0][some])
    assert np.array_equal(epoch_permutation(3, 1, count, some), epoch_permutation(3, 1, count)[some])


def test_feistel_permutation_looks_random() -> None:
    """Each statistic with mean 0 lies within four and a half standard deviations: positions and neighbours are
    uniform."""
    count = 3 * CACHE_LIMIT
    order = feistel_permutation(5, 2, count, np.arange(count))
    z = (order - order.mean()) / order.std()
    for lag in (1, 2, 16, 256, 4096, CACHE_LIMIT):
        assert abs((z[:-lag] * z[lag:]).mean()) * np.sqrt(count - lag) < 4.5
    assert abs((z * np.linspace(-1, 1, count)).mean()) * np.sqrt(3 * count) < 4.5
    bins = order * 16 // count
    for pairs in (np.stack([np.arange(count) * 16 // count, bins]), np.stack([bins[:-1], bins[1:]])):
        counts = np.bincount(pairs[0] * 16 + pairs[1], minlength=256)
        chi_square = ((counts - counts.mean()) ** 2 / counts.mean()).sum()
        assert abs(chi_square - 255) < 4.5 * np.sqrt(2 * 255)
    fixed = [int((feistel_permutation(seed, 0, 5000, np.arange(5000)) == np.arange(5000)).sum()) for seed in range(40)]
    assert 15 < sum(fixed) < 75, "a permutation leaves one where it was, on average"


@pytest.mark.parametrize("weighted", [False, True])
def test_cost_of_sampling_does_not_depend_on_the_number_of_clips(weighted: bool) -> None:
    """A batch out of 10^8 clips needs no more memory and no more evaluations than one out of 10^5."""

    def peak(clips: int) -> int:
        halves = SamplingWeights(np.array([clips // 2, clips // 2]), np.array([2.0, 1.0]))
        order = SampleOrder(0, clips, (Phase(clips, sampling_weights=halves if weighted else None),))
        assert len(pickle.dumps(order)) < 1000
        tracemalloc.start()
        for first in (0, clips - 8, 7 * clips + 5):
            assert order.clips(first, 16).max() < clips
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    assert peak(10**8) < 1.5 * peak(10**5) < 100_000
