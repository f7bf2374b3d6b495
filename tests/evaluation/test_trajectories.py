"""Trajectories: integration and distances compared with closed forms and scipy, and what an estimator reads."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch

from daydrive.data.sampling.clips import fixed_clips, read_clips
from daydrive.data.store.store import Store
from daydrive.evaluation.metrics.intervals import Array
from daydrive.evaluation.trajectories import (
    Motion,
    calibrate_reader,
    displacements,
    dynamic_time_warping,
    frechet_positions,
    measure_trajectories,
    positions,
)
from daydrive.report import rows, sentences
from daydrive.report.text import trajectories_markdown
from daydrive.types import Rollout
from helpers.planted_predictions import scene_store

CONTEXT = 3


def test_a_circle_is_driven_to_the_right() -> None:
    steps, hz, speed = 100, 10.0, 5.0
    yaw = np.full(steps, np.pi / 2 / steps)
    path = positions(Motion(np.full(steps, speed), yaw), hz)
    radius = speed / hz / yaw[0]
    assert path[-1] == pytest.approx([radius, radius], rel=1e-3)
    assert np.linalg.norm(path - [0, radius], axis=-1) == pytest.approx(radius, rel=1e-3)


def test_displacements_of_parallel_lanes() -> None:
    one = positions(Motion(np.full((2, 20), 5.0), np.zeros((2, 20))), 10)
    apart = displacements(one, one + np.array([0.0, 2.0]))
    assert apart.shape == (2, 20) and apart == pytest.approx(2.0)
    slower = displacements(one, one / 2)
    assert slower.mean() == pytest.approx(0.25 * np.arange(1, 21).mean()) and slower[0, -1] == pytest.approx(5.0)


def by_recursion(a: Array, b: Array) -> float:
    """The smallest sum of distances along an alignment, straight from its definition."""

    @cache
    def total(i: int, j: int) -> float:
        here = float(np.linalg.norm(a[i] - b[j]))
        before = [total(*at) for at in ((i - 1, j - 1), (i - 1, j), (i, j - 1)) if min(at) >= 0]
        return here + (min(before) if before else 0.0)

    return total(len(a) - 1, len(b) - 1)


def test_dynamic_time_warping() -> None:
    random = np.random.default_rng(0)
    a, b = random.normal(size=(12, 2)).cumsum(0), random.normal(size=(9, 2)).cumsum(0)
    found, expected = dynamic_time_warping(a, b), by_recursion(a, b)
    assert expected / (12 + 9 - 1) <= found <= expected / 12, "divided by the length of the alignment"
    assert dynamic_time_warping(a, a) == 0
    twice = np.repeat(a, 2, axis=0)
    assert dynamic_time_warping(twice, a) == 0, "at half the speed"
    assert dynamic_time_warping(a, a + np.array([0, 3.0])) <= 3.0


def test_frechet_distance_between_sets_agrees_with_scipy() -> None:
    random = np.random.default_rng(0)
    a, b = (random.normal(size=(60, 4, 2)).cumsum(1) * spread + shift for spread, shift in ((1.0, 0.0), (1.5, 2.0)))
    one, other = a.reshape(60, -1), b.reshape(60, -1)
    c, d = np.cov(one, rowvar=False), np.cov(other, rowvar=False)
    expected = np.square(one.mean(0) - other.mean(0)).sum() + np.trace(c + d - 2 * scipy.linalg.sqrtm(c @ d).real)
    assert frechet_positions(a, b) == pytest.approx(expected, rel=1e-6)
    assert frechet_positions(a, a[::-1]) == pytest.approx(0, abs=1e-6), "of sets, not of pairs"
    assert frechet_positions(a[:1], b[:1]) is None


def test_estimator_and_metrics_on_the_road(road_store: Path) -> None:
    store = Store.open(road_store)
    clips = fixed_clips(store, "val", CONTEXT + 10, 4)
    batch = read_clips(store, clips)
    seen, real = batch.images[:, :CONTEXT], batch.images[:, CONTEXT:]

    def rollout(k: int) -> Rollout:
        still = seen[k, -1:].expand_as(real[k])
        return Rollout(clips[k], seen[k], real[k], real[k], still, still, batch.actions[k])

    found = measure_trajectories(store, clips, CONTEXT, rollout)
    assert isinstance(found, dict) and found["clips"] == 4
    (entry,) = found["horizons"]
    assert (entry["seconds"], entry["steps"]) == (1, 10)
    assert entry["dream"] == {"ade": 0, "fde": 0, "dtw": 0, "frechet": pytest.approx(0, abs=1e-6)}
    assert entry["other_actions"]["fde"] > entry["other_actions"]["ade"] > 0.3
    assert entry["estimator"]["fde"] > 0 and found["estimator"]["yaw_rate"]["correlation"] > 0.4
    table = rows.trajectories(found)
    assert [row[0] for row in table.rows] == ["1 s"] * 3 and table.rows[0][2] == "0.00"
    assert "not the model's" in trajectories_markdown(found)


def test_stores_without_speed(tmp_path: Path) -> None:
    store = scene_store(tmp_path)
    assert calibrate_reader(store, 1) is None
    clips = fixed_clips(store, "val", CONTEXT + 10, 2)
    found = measure_trajectories(store, clips, CONTEXT, lambda k: pytest.fail("nothing is read"))
    assert isinstance(found, str) and sentences.about_trajectories(found).startswith("Trajectories: not measured")
    assert trajectories_markdown(found).strip().count("\n") == 0
    short = fixed_clips(store, "val", CONTEXT + 5, 2)
    assert isinstance(measure_trajectories(store, short, CONTEXT, lambda k: pytest.fail("nothing is read")), str)


def test_speed_and_turn_are_read_from_images(road_store: Path) -> None:
    store = Store.open(road_store)
    reader = calibrate_reader(store, 1)
    assert reader is not None
    (images,) = read_clips(store, fixed_clips(store, "train", 12, 1)).images
    motion = reader(images)
    assert motion.speed.shape == motion.yaw.shape == (11,) and (motion.speed >= 0).all()
    mirrored = reader(images.flip(-1))
    assert np.corrcoef(motion.yaw, -mirrored.yaw)[0, 1] > 0.8
    still = reader(images[:1].expand(4, -1, -1, -1))
    assert np.abs(still.yaw).max() < 1e-3 and torch.is_tensor(images)
