"""A model that is the simulator orders drivers as the simulator does; one that ignores its actions does not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from daydrive.checkpoint import RolloutModel
from daydrive.data.store.store import Store
from daydrive.decisions import Displacement, LaneKeeper, Observation, Skill, StraightDriver, Task, unseen_roads
from daydrive.decisions.closed_loop import first_observation
from daydrive.decisions.inputs import Inputs
from daydrive.decisions.model_drives import IgnoresActions, drive_in_model
from daydrive.decisions.ranked_drivers import CLONING_STEPS, SKILLS, cloned_drivers
from daydrive.decisions.ranking import RankOptions, _compared, _Experiment
from daydrive.envs.world_model import Readout
from daydrive.errors import UserError

TASK = Task(8.0, 10.0, 0)


class Steers:
    """Holds a steering, and stores what it sees."""

    def __init__(self, steering: float, frames: int = 3) -> None:
        self.frames, self._steering, self.seen = frames, steering, list[Observation]()

    def reset(self, task: Task) -> None:
        self.task = task

    def act(self, observation: Observation) -> np.ndarray:
        self.seen.append(observation)
        return np.array([self._steering, 0.2, 0, 1], np.float32)


@pytest.fixture(scope="module")
def starts() -> list[Observation]:
    return [first_observation(road, 4, 8.0, Displacement(0.3, 1)) for road in unseen_roads(2)]


def test_a_driver_reacts_to_the_frames_that_its_own_actions_led_to(
    world_model: RolloutModel, readout: Readout, starts: list[Observation]
) -> None:
    made: list[Steers] = []

    def make(steering: float) -> Steers:
        made.append(Steers(steering))
        return made[-1]

    offsets = [
        drive_in_model(lambda s=s: make(s), world_model.model, readout, starts, [TASK] * 2, 3)  # type: ignore[misc]
        for s in (-1.0, 1.0)
    ]
    assert offsets[0].shape == (2, 3) and not np.array_equal(*offsets)
    assert len(made) == 4 and all(len(driver.seen) == 3 for driver in made)
    left = made[0].seen
    assert left[0].images.equal(starts[0].images[-3:]) and left[0].info == {}
    assert left[1].images[:2].equal(left[0].images[1:]) and left[1].actions[-1][0] == -1
    assert not left[2].images[-1].equal(made[2].seen[2].images[-1])


def test_the_cheat_ignores_the_actions_it_is_given(
    world_model: RolloutModel, readout: Readout, starts: list[Observation]
) -> None:
    assert isinstance(world_model.model, torch.nn.Module)
    offsets = [
        drive_in_model(
            lambda s=s: Steers(s),
            IgnoresActions(world_model.model, 10, seed),
            readout,
            starts,
            [TASK] * 2,
            3,  # type: ignore[misc]
        )
        for s, seed in ((-1.0, 0), (1.0, 0), (1.0, 1))
    ]
    assert np.array_equal(offsets[0], offsets[1]) and not np.array_equal(offsets[1], offsets[2])


def test_a_driver_without_images_cannot_be_ranked(
    world_model: RolloutModel, readout: Readout, starts: list[Observation]
) -> None:
    for driver in (StraightDriver(), LaneKeeper(), Steers(0, frames=9)):
        with pytest.raises(UserError, match="a driver that is ranked sees 1 to 4 images, not"):
            drive_in_model(lambda d=driver: d, world_model.model, readout, starts, [TASK] * 2, 1)  # type: ignore[misc]


def test_scores_by_horizon_give_the_coefficients() -> None:
    random = np.random.default_rng(0)
    skill = np.arange(6)[:, None, None, None] * 0.2
    simulator = skill + 0.01 * random.normal(size=(6, 1, 8, 50))
    late = simulator.copy()
    late[..., :30] = simulator[::-1, ..., :30]
    noise = {f"cheat-{k}": random.normal(size=(6, 1, 8, 50)) for k in range(3)}
    found = _compared({"simulator": simulator, "model": late, **noise}, list("abcdef"), [0], 10)
    assert found["spearman"] == found["horizons"][found["main_horizon"]]["spearman"] == pytest.approx(-1)
    assert found["kendall"] == pytest.approx(-1) and found["spearman_interval"] == pytest.approx([-1, -1])
    assert found["horizons"]["1"]["spearman"] == pytest.approx(-1) and found["horizons"]["5"]["spearman"] < 0.5
    errors = found["horizons"]["5"]["lane_error"]["f"]
    assert errors["simulator"] == pytest.approx(1.0, abs=0.01) and errors["model"] == pytest.approx(0.4, abs=0.01)
    assert abs(found["cheat_spearman"]) < 0.8
    same = _compared({"simulator": simulator, "model": simulator, **noise}, list("abcdef"), [0], 10)
    assert same["spearman"] == same["kendall"] == 1


def test_coefficients_are_of_the_means_over_seeds_and_of_each_seed() -> None:
    skill = np.arange(6.0)[:, None, None, None] * np.ones((6, 2, 4, 50))
    model = skill.copy()
    model[:, 1] = -0.5 * skill[:, 1] + 5
    found = _compared({"simulator": skill, "model": model, "cheat-0": model}, list("abcdef"), [3, 4], 10)
    assert found["spearman"] == found["cheat_spearman"] == pytest.approx(1)
    assert [each["seed"] for each in found["by_seed"]] == [3, 4]
    assert [each["spearman"] for each in found["by_seed"]] == pytest.approx([1, -1])
    assert [each["cheat_spearman"] for each in found["by_seed"]] == pytest.approx([1, -1])
    assert found["horizons"]["1"]["lane_error"]["f"] == {"model": 3.75, "simulator": 5}


def test_seeds_differ_in_starts_and_noise_and_are_repeatable(world_model: RolloutModel, readout: Readout) -> None:
    inputs, options = Inputs(world_model, readout, (64, 64)), RankOptions(roads=2)
    for world, skill in (("simulator", Skill()), ("model", Skill()), ("cheat-0", Skill())):
        runs = [
            _Experiment(inputs, options, seed, 2).offsets(world, 0, lambda s=skill: LaneKeeper(s, readout))  # type: ignore[misc]
            for seed in (0, 0, 1)
        ]
        assert np.array_equal(runs[0], runs[1]) and not np.array_equal(runs[0], runs[2]), world


def test_half_trained_policies_are_learned_once(
    opened_store: Store, world_model: RolloutModel, readout: Readout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daydrive.decisions.ranked_drivers.CLONING_STEPS", (1, 3))
    inputs, shown = Inputs(world_model, readout, (64, 64)), list[tuple[int, int]]()
    frames = torch.zeros(1, 2, 3, 64, 64, dtype=torch.uint8)
    observation = Observation(frames[0], torch.zeros(1, 4), {}, {})

    def actions() -> list[list[float]]:
        drivers = cloned_drivers(opened_store, inputs, tmp_path, lambda *counts: shown.append(counts))
        assert list(drivers) == ["cloned 1", "cloned 3"]
        return [make().act(observation).tolist() for make in drivers.values()]

    first = actions()
    assert shown == [(1, 4), (2, 4), (3, 4), (4, 4)] and first[0] != first[1]
    (tmp_path / "done-cloned-1.safetensors").unlink()
    assert actions() == first and shown[4:] == [(1, 1)], "the other one was continued with"
    assert len(CLONING_STEPS) == 3 and sorted(CLONING_STEPS) == list(CLONING_STEPS)


def test_a_dozen_drivers() -> None:
    assert len(SKILLS) == 12 and len(set(SKILLS.values())) == 12 and SKILLS["good"] == Skill()
