"""The controllability scorecard distinguishes planted cheats from the simulator, and each of its parts is correct."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from daydrive.data.sampling.clips import fixed_clips, read_clips
from daydrive.errors import UserError
from daydrive.evaluation.controllability import (
    Estimators,
    calibrate,
    drive_branches,
    measure_horizons,
    measure_long_rollouts,
    score_controllability,
)
from daydrive.evaluation.controllability.action_response import response
from daydrive.evaluation.controllability.branches import STEPS
from daydrive.evaluation.controllability.flow import motions
from daydrive.evaluation.controllability.scorecard import BRANCHES, CHANGES, VARIANTS, branch_metrics, variants
from daydrive.evaluation.controllability.training_index import TrainingIndex, as_json
from daydrive.evaluation.metrics.frame_metrics import RolloutFunction
from daydrive.evaluation.metrics.intervals import bootstrap
from daydrive.metrics import PSNR_CAP
from daydrive.report import rows
from daydrive.report.sentences import about_nearest
from daydrive.report.tables import markdown_table
from daydrive.report.text import controllability_markdown
from daydrive.types import Rollout
from helpers.cheats import MOVING, World, turned
from helpers.planted_predictions import copier, evaluated, scene_store, steerer

CONTEXT = 4
VERDICTS = {
    "the world": "obeys",
    "copies": "copies",
    "ignores": "ignores the actions",
    "replays": "replays",
    "turns": "turns the image without parallax",
    "mirrored": "obeys, mirrored",
    "late": "obeys, 1 step late",
}


def rollout_functions(world: World) -> dict[str, RolloutFunction]:
    return {
        "the world": world.simulator(),
        "copies": copier,
        "ignores": world.recorded,
        "replays": world.replayed,
        "turns": turned,
        "mirrored": world.simulator(wheel=-1.0),
        "late": world.simulator(late=1),
    }


def scorecards(world: World, estimators: Estimators, **settings: Any) -> dict[str, dict[str, Any]]:
    return {
        name: score_controllability(
            rollout_fn, world.store, "test", context=CONTEXT, estimators=estimators, moments=world.branches, **settings
        )
        for name, rollout_fn in rollout_functions(world).items()
    }


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"), drives=12, frames=60, branches=3, context=CONTEXT)


@pytest.fixture(scope="module")
def estimators(world: World) -> Estimators:
    return calibrate(world.store, "test", seed=0, steps=150)


@pytest.fixture(scope="module")
def table(world: World, estimators: Estimators) -> dict[str, dict[str, Any]]:
    return scorecards(world, estimators, clips=8, steps=12)


@pytest.mark.parametrize("name", VERDICTS)
def test_verdicts(table: dict[str, dict[str, Any]], name: str) -> None:
    assert table[name]["verdict"] == VERDICTS[name], table[name]["checks"]


def test_simulator_passes_all_checks(table: dict[str, dict[str, Any]]) -> None:
    best = table["the world"]["mark"]
    assert best["passed"] == best["of"] == len(table["the world"]["checks"])
    assert all(card["mark"]["share"] < 1 for name, card in table.items() if name != "the world")


def test_evidence(table: dict[str, dict[str, Any]]) -> None:
    honest = table["the world"]
    assert all(entry["cost"] > 2 and entry["interval"][0] > 0 for entry in honest["costs"].values())
    for name in ("copies", "ignores", "replays"):
        assert all(entry["cost"] == 0 for entry in table[name]["costs"].values())
    assert table["mirrored"]["costs"]["mirrored"]["cost"] == pytest.approx(
        -honest["costs"]["mirrored"]["cost"], abs=0.1
    )
    assert table["late"]["costs"]["early"]["cost"] < -1 and len(honest["costs"]["early"]["by_step"]) == 12
    assert table["replays"]["nearest_training_frame"]["dream_psnr"] == 100
    branches = honest["branches"]
    assert all(entry["nearest"][b] == 1 for b, entry in enumerate(branches["branches"].values()))
    left, right = (table["mirrored"]["branches"]["branches"][side]["nearest"] for side in ("left", "right"))
    assert left[1] < 0.5 and right[2] < 0.5


def test_scorecard_as_text_and_json(table: dict[str, dict[str, Any]]) -> None:
    for card in table.values():
        assert json.loads(json.dumps(card, allow_nan=False)) == card
        message = controllability_markdown(card)
        assert message.startswith(f"**{card['verdict'].capitalize()}.**") and "nan" not in message
        assert all(check["evidence"] in message for check in card["checks"])


def test_estimators_report_held_out_errors(estimators: Estimators) -> None:
    errors = estimators.errors
    assert errors["pairs"] > 3 * errors["held_out_pairs"] > 0
    assert errors["flow"]["turn"]["correlation"] > 0.5 and errors["net"]["turn"]["correlation"] > 0.3
    for kind in ("flow", "net"):
        assert errors[kind]["turn"]["rmse"] > 0 and errors[kind]["speed"]["spread"] > 0


def test_scorecard_works_for_any_source(tmp_path: Path) -> None:
    """Without speeds, branches or depth, checks that cannot be made do not count."""
    store = scene_store(tmp_path)
    estimators = calibrate(store, "val", steps=20)
    card, copied = (
        score_controllability(rollout_fn, store, "val", context=3, steps=6, clips=6, estimators=estimators)
        for rollout_fn in (steerer, copier)
    )
    assert card["branches"] is None and card["egomotion"]["speed"] is None
    assert card["costs"]["wrong"]["cost"] > 3 and card["verdict"].startswith("obeys")
    assert copied["verdict"] == "copies" and "not judged" in controllability_markdown(copied)
    assert estimators.quantity == "steering" and estimators.lag == 0
    with pytest.raises(UserError):
        score_controllability(copier, store, "test", context=5)


def test_action_variants_differ_only_after_the_context() -> None:
    actions, borrowed = torch.rand(2, 7, 4), torch.rand(2, 7, 4)
    found = variants(actions, borrowed, 3)
    assert list(found) == list(VARIANTS)
    assert all(torch.equal(given[:, :2], actions[:, :2]) for given in found.values())
    assert torch.equal(found["wrong"][:, 2:], borrowed[:, 2:])
    assert torch.equal(found["mirrored"][..., 2:, 0], -actions[:, 2:, 0])
    assert torch.equal(found["delayed"][:, 2:], actions[:, 1:-1])
    assert torch.equal(found["early"][:, 2:-1], actions[:, 3:])
    assert (found["zeroed"][:, 2:, :3] == 0).all() and torch.equal(found["zeroed"][..., 3], actions[..., 3])
    assert torch.equal(variants(actions, borrowed, 1)["delayed"][:, 1:], actions[:, :-1])


def test_flow_estimates_turn_and_approach() -> None:
    rng = np.random.default_rng(0)
    noise = torch.from_numpy(rng.normal(size=(1, 1, 40, 40)).astype(np.float32))
    scene = torch.nn.functional.interpolate(noise, (160, 160), mode="bicubic")
    y, x = torch.meshgrid(torch.linspace(-0.5, 0.5, 64), torch.linspace(-0.5, 0.5, 64), indexing="ij")

    def seen(shift: float, nearer: float) -> np.ndarray:
        deep = torch.maximum(x.abs(), (y + 0.04).clamp(min=0)) * nearer
        grid = torch.stack((x * (1 - deep) + shift / 64, (y + 0.04) * (1 - deep) - 0.04), dim=-1)[None]
        image = torch.nn.functional.grid_sample(scene, grid, align_corners=True)[0, 0]
        return (image * 50 + 128).clamp(0, 255).to(torch.uint8).numpy()

    turn, pitch, approach = motions(np.stack((seen(0, 0), seen(1.5, 0))))[0]
    assert turn == pytest.approx(1.5, abs=0.3)
    assert abs(pitch) < 0.1 and abs(approach) < 0.3
    turn, _, approach = motions(np.stack((seen(0, 0), seen(0, 0.2))))[0]
    assert abs(turn) < 0.2 and approach > 1


@pytest.mark.parametrize(("delay", "sign"), [(0, 1.0), (1, 1.0), (3, -1.0)])
def test_response_estimates_gain_and_delay(delay: int, sign: float) -> None:
    rng = np.random.default_rng(delay)
    commands = rng.normal(size=(20, 3 + 15))
    read = sign * 0.5 * commands[:, 3 - delay : 18 - delay] + 0.1 * rng.normal(size=(20, 15)) + 0.2
    found = response(read, commands, 4, bootstrap([str(i % 5) for i in range(20)]))
    assert found["delay"] == pytest.approx(delay, abs=0.2) and found["gain"] == pytest.approx(sign * 0.5, abs=0.05)
    assert sign * found["correlation"] > 0.95 and found["bias"] == pytest.approx(0.2, abs=0.2)
    low, high = found["correlation_interval"]
    assert low <= found["correlation"] <= high
    assert response(np.zeros((20, 15)), commands, 4, None)["correlation"] is None
    assert response(read[:, :2], commands[:, :5], 4, None)["delay"] is None


class _Dial:
    """Any environment with daydrive's actions and a state: an image whose level depends on steering and pedals."""

    def __init__(self) -> None:
        self._level = 0.0

    def reset(self, *, seed: int | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        self._level = 100.0 + (seed or 0)
        return self._image(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self._level += float(2 * action[0] + action[1] - action[2])
        return self._image(), 0.0, False, False, {}

    def get_state(self) -> float:
        return self._level

    def set_state(self, state: float) -> None:
        self._level = state

    def _image(self) -> np.ndarray:
        return np.full((16, 16, 3), round(self._level), np.uint8)


def test_branches_of_any_environment_with_state() -> None:
    moments = list(
        drive_branches(_Dial(), lambda seed: lambda info: np.array([0, 0.2, 0, 1]), [1, 2], 3, CHANGES, frame_skip=2)
    )

    def oracle(context: Tensor, actions: Tensor) -> Tensor:
        moved = (2 * actions[:, 2:, 0] + actions[:, 2:, 1] - actions[:, 2:, 2]).cumsum(1) * 2
        level = context[:, -1, 0, 0, 0].float()[:, None] + moved
        return level.round().to(torch.uint8)[..., None, None, None].expand(-1, -1, 3, 16, 16)

    assert [len(m.actions) for m in moments] == [len(BRANCHES)] * 2 and moments[0].real.shape[1] == STEPS
    found = branch_metrics(oracle, moments)
    assert found is not None and found["steering_told_apart"] == found["pace_told_apart"] == 1
    blind = branch_metrics(copier, moments)
    assert blind is not None and blind["steering_told_apart"] < 0.5
    assert branch_metrics(copier, []) is None


def test_long_rollouts(world: World) -> None:
    def measure(rollout_fn: RolloutFunction, steps: tuple[int, ...] = (60,)) -> dict[str, Any]:
        return measure_long_rollouts(rollout_fn, world.store, "test", CONTEXT, steps, clips=1).results

    def looped(context: Tensor, actions: Tensor) -> Tensor:
        count = actions.shape[1] - context.shape[1] + 1
        scenes = world.images[torch.arange(8) * 7]
        return scenes[torch.arange(count) % 8][None]

    def faded(context: Tensor, actions: Tensor) -> Tensor:
        count = actions.shape[1] - context.shape[1] + 1
        remaining = torch.linspace(1, 0, count)[:, None, None, None]
        mean = context[0, -1].float().mean()
        return ((context[0, -1:].float() - mean) * remaining + mean).to(torch.uint8)[None]

    def brightened(context: Tensor, actions: Tensor) -> Tensor:
        frames = world.recorded(context, actions[:, : CONTEXT - 1 + 50]).float()
        return (frames + torch.arange(50)[:, None, None, None] * 4).clamp(0, 255).to(torch.uint8)

    assert measure(looped)["lengths"][0]["verdict"] == "repeats itself" and measure(looped)["lengths"][0]["period"] == 8
    assert measure(faded)["lengths"][0]["verdict"] == "collapses"
    assert measure(copier)["lengths"][0]["verdict"] == "stands still"
    assert measure(brightened, (50,))["lengths"][0]["verdict"] in ("drifts in brightness", "collapses")
    assert measure(world.recorded, (50,))["lengths"][0]["verdict"] == "holds"
    assert measure(world.recorded, (50,))["later_cost"] is None


def horizon_quality(rollout_fn: RolloutFunction, world: World) -> dict[str, Any]:
    return measure_horizons(rollout_fn, world.store, "test", CONTEXT, (1, 5), clips=3)


def test_quality_by_horizon(world: World) -> None:
    found = horizon_quality(world.simulator(), world)
    assert [(entry["seconds"], entry["steps"]) for entry in found["horizons"]] == [(1, 10), (5, 50)]
    for entry in found["horizons"]:
        for name in ("brightness", "contrast", "sharpness", "change"):
            assert entry[name] == pytest.approx(1.0, abs=0.35), name
        assert np.abs(entry["octaves"]).max() < 3 and not entry["peaks"] and entry["replayed"] == 0
        assert entry["nearest"]["dream_context"] == pytest.approx(entry["nearest"]["real_context"], abs=1.0)
        assert entry["distances"]["filters"]["kid_error"] > 0
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    message = markdown_table(*rows.horizon_quality(found))
    assert "| 5 s |" in message and "real, other drives" in message


def test_quality_by_horizon_exposes_a_grid_a_frozen_image_and_replays(world: World) -> None:
    honest, gridded, frozen, replayed, copied = (
        horizon_quality(rollout_fn, world)["horizons"][-1]
        for rollout_fn in (world.simulator(), world.gridded, world.frozen, world.replayed, copier)
    )
    assert gridded["peaks"] and gridded["sharpness"] > 0.85 * honest["sharpness"] and not gridded["replayed"]
    assert gridded["distances"]["filters"]["frechet"] > honest["distances"]["filters"]["frechet"]
    assert frozen["change"] == 0 and not frozen["peaks"] and frozen["sharpness"] > 0.7
    assert replayed["nearest"]["dream_training"] == 100 and replayed["replayed"] == 1
    assert copied["nearest"]["dream_context"] == 100 and copied["replayed"] == 1


@pytest.mark.slow
def test_evaluation_exposes_a_grid_and_a_frozen_image(world: World, tmp_path: Path) -> None:
    """No false alarm for the simulator."""
    settings: dict[str, Any] = {"split": "test", "context": CONTEXT, "horizon": 20, "clips": 8, "predictions": 1}
    honest, gridded, frozen = (
        evaluated(rollout_fn, world.store, tmp_path / str(k), **settings)
        for k, rollout_fn in enumerate((world.simulator(), world.gridded, world.frozen))
    )
    assert honest["realistic_seconds"] == 2.0 and not any(band["peaks"] for band in honest["spectrum"]["bands"])
    assert all(band["peaks"] for band in gridded["spectrum"]["bands"]) and gridded["realistic_seconds"] == 0
    assert gridded["horizons"][0]["sharpness"] > 0.85, "which the mean gradient does not see"
    assert 0.3 < frozen["realistic_seconds"] < 0.8 and not any(band["peaks"] for band in frozen["spectrum"]["bands"])
    assert np.mean([entry["flicker"] for entry in frozen["horizons"][MOVING:]]) == 0


def test_snapshots_and_curves_of_a_long_rollout(world: World) -> None:
    measured = measure_long_rollouts(world.recorded, world.store, "test", CONTEXT, (20, 50), clips=1)
    curves = measured.results["curves"]
    (shown,) = measured.snapshots.values()
    assert list(shown) == [0, 1, 50] and all(image.shape == (3, 64, 64) for image in shown.values())
    assert curves["steps"] == list(range(1, 51))
    assert all(len(curves[name]) == 50 for name in ("brightness", "contrast", "sharpness", "change"))
    assert np.mean(curves["sharpness"]) == pytest.approx(1.0, abs=0.1)


def test_replayed_training_clip_is_found(world: World) -> None:
    index, steps = TrainingIndex(world.store), 8
    clips = fixed_clips(world.store, "test", CONTEXT + steps, 2)
    batch = read_clips(world.store, clips)
    seen, real = batch.images[:, :CONTEXT], batch.images[:, CONTEXT:]
    found = []
    for rollout_fn in (world.replayed, world.recorded):
        frames = rollout_fn(seen, batch.actions)
        rollouts = [Rollout(c, seen[i], real[i], *[frames[i]] * 3, batch.actions[i]) for i, c in enumerate(clips)]
        found.append([each for each in map(index.match_rollout, rollouts) if each is not None])
    replayed, recorded = found
    trained = {drive.name for drive in world.store.split("train")}
    for each in replayed:
        assert each.predicted.psnr == PSNR_CAP and each.predicted.clip.drive in trained
        assert torch.equal(each.predicted.frames, each.rollout.predicted)
    assert all(each.predicted.psnr == each.real.psnr < 30 for each in recorded)
    assert about_nearest([as_json(each) for each in replayed]).startswith("2 of these 2 rollouts replay a clip")
    assert about_nearest([as_json(each) for each in recorded]).startswith("None of these 2 rollouts replay a clip")


def test_cost_of_later_frames(world: World) -> None:
    def slow(context: Tensor, actions: Tensor) -> Tensor:
        time.sleep(actions.shape[1] ** 2 * 1e-5)
        return copier(context, actions)

    def even(context: Tensor, actions: Tensor) -> Tensor:
        time.sleep(actions.shape[1] * 1e-3)
        return copier(context, actions)

    flat, grows = (
        measure_long_rollouts(rollout_fn, world.store, "test", CONTEXT, (20, 200), clips=1).results
        for rollout_fn in (even, slow)
    )
    assert flat["cost_is_flat"] and not grows["cost_is_flat"]
    assert [entry["steps"] for entry in grows["lengths"]] == [20, 200]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_verdicts_on_other_roads(tmp_path: Path, seed: int) -> None:
    world = World(tmp_path, drives=12, frames=60, branches=4, context=CONTEXT, seed=seed)
    found = scorecards(world, calibrate(world.store, "test", seed=seed, steps=150), clips=8, steps=12, seed=seed)
    assert {name: card["verdict"] for name, card in found.items()} == VERDICTS
    assert max(found, key=lambda name: found[name]["mark"]["share"]) == "the world"
