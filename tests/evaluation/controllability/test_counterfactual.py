"""The counterfactual suite distinguishes an oracle from models that ignore or invert the steering."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from torch import Tensor

from daydrive.evaluation.controllability.branches import STEPS, BranchSet, rollout_branches
from daydrive.evaluation.controllability.counterfactual import (
    BRANCHES,
    compare,
    counterfactual,
    road_moments,
)
from daydrive.evaluation.metrics.frame_metrics import RolloutFunction
from daydrive.metrics import PSNR_CAP

SIZE, CONTEXT, SEEDS = (64, 64), 3, [9_000_001, 9_000_002]


@pytest.fixture(scope="module")
def moments() -> list[BranchSet]:
    return list(road_moments(SIZE, CONTEXT, 1, SEEDS))


def oracle(moments: list[BranchSet], order: tuple[int, ...] = (0, 1, 2)) -> RolloutFunction:
    known = {moment.seen.numpy().tobytes(): moment.real for moment in moments}
    return lambda context, actions: known[context[0].contiguous().numpy().tobytes()][list(order)]


def ignorant(context: Tensor, actions: Tensor) -> Tensor:
    return context[:, -1:].expand(-1, STEPS, -1, -1, -1).clone()


def compared(rollout_fn: RolloutFunction, moments: list[BranchSet]) -> dict[str, Any]:
    return compare(rollout_branches(rollout_fn, moment) for moment in moments)


def test_branches_differ_only_in_steering(moments: list[BranchSet]) -> None:
    for moment in moments:
        assert moment.seen.shape == (CONTEXT, 3, *SIZE) and moment.real.shape == (3, STEPS, 3, *SIZE)
        actions = moment.actions
        assert actions.shape == (3, CONTEXT - 1 + STEPS, 4) and actions.dtype == torch.float32
        assert torch.equal(actions[0, : CONTEXT - 1], actions[2, : CONTEXT - 1])
        left, straight, right = actions[:, CONTEXT - 1 :, 0]
        assert (left < straight).all() and (straight < right).all()
        assert (actions[0, :, 1:] == actions[2, :, 1:]).all()
        assert (moment.real[0, -1] != moment.real[2, -1]).any()
    assert not torch.equal(moments[0].seen, moments[1].seen)


def test_moments_are_deterministic_and_continue_the_context(moments: list[BranchSet]) -> None:
    again = next(road_moments(SIZE, CONTEXT, 1, SEEDS))
    assert all(torch.equal(a, b) for a, b in zip(again[:3], moments[0][:3], strict=True))
    seen, first = moments[0].seen.float(), moments[0].real[1, 0].float()
    between, onward = (seen[-1] - seen[-2]).abs().mean(), (first - seen[-1]).abs().mean()
    assert 0 < onward < 3 * between


def test_oracle_scores_perfectly(moments: list[BranchSet]) -> None:
    result = compared(oracle(moments), moments)
    assert (result["moments"], result["steps"], list(result["branches"])) == (2, [1, 5, 10], list(BRANCHES))
    assert result["told_apart"] == 1.0
    for branch in result["branches"].values():
        assert branch["psnr"] == [PSNR_CAP] * 3
        assert branch["other_branches_psnr"][-1] < 40 and branch["copy_last_psnr"][-1] < 40


def test_ignored_steering_is_detected(moments: list[BranchSet]) -> None:
    result = compared(ignorant, moments)
    assert result["told_apart"] == pytest.approx(result["told_apart_by_chance"], abs=1e-5)
    own = np.mean([branch["psnr"] for branch in result["branches"].values()], axis=0)
    others = np.mean([branch["other_branches_psnr"] for branch in result["branches"].values()], axis=0)
    assert own == pytest.approx(others, abs=1e-5)
    for branch in result["branches"].values():
        assert branch["psnr"] == branch["copy_last_psnr"]


def test_inverted_steering_is_detected(moments: list[BranchSet]) -> None:
    result = compared(oracle(moments, (2, 1, 0)), moments)
    assert result["told_apart"] == pytest.approx(1 / 3, abs=1e-5)
    for name in ("left", "right"):
        branch = result["branches"][name]
        assert branch["psnr"][-1] < branch["other_branches_psnr"][-1]


def test_frame_skip_preserves_the_time_of_steps(moments: list[BranchSet]) -> None:
    moment = next(road_moments(SIZE, CONTEXT, 2, SEEDS))
    assert moment.seen.shape == (CONTEXT, 3, *SIZE) and moment.actions.shape == (3, CONTEXT - 1 + STEPS, 4)
    assert torch.equal(moment.seen[-1], moments[0].seen[-1])
    assert torch.equal(moment.real[1, 0], moments[0].real[1, 1])


def test_images_and_result(tmp_path: Path) -> None:
    result = counterfactual(ignorant, SIZE, CONTEXT, moments=1, output=tmp_path)
    assert result["hz"] == 10 and result["moments"] == 1
    assert min(Pillow.open(tmp_path / "counterfactual.png").size) > 400
    with av.open(str(tmp_path / "counterfactual.mp4")) as video:
        assert sum(1 for _ in video.decode(video=0)) == CONTEXT + STEPS
