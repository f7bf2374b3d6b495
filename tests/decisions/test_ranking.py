"""A model that is the simulator orders drivers as the simulator does; one that ignores its actions does not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from daydrive.checkpoint import RolloutModel
from daydrive.decisions import Displacement, LaneKeeper, Observation, Skill, StraightDriver, Task, unseen_roads
from daydrive.decisions.closed_loop import first_observation
from daydrive.decisions.model_drives import IgnoresActions, drive_in_model
from daydrive.decisions.ranking import SKILLS, _compared
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
    skill = np.arange(6)[:, None, None] * 0.2
    simulator = skill + 0.01 * random.normal(size=(6, 8, 50))
    late = simulator.copy()
    late[..., :30] = simulator[::-1, ..., :30]
    noise = {f"cheat-{k}": random.normal(size=(6, 8, 50)) for k in range(3)}
    found = _compared({"simulator": simulator, "model": late, **noise}, list("abcdef"), 10)
    assert found["spearman"] == found["horizons"]["3"]["spearman"] == pytest.approx(-1)
    assert found["kendall"] == pytest.approx(-1) and found["spearman_interval"] == pytest.approx([-1, -1])
    assert found["horizons"]["1"]["spearman"] == pytest.approx(-1) and found["horizons"]["5"]["spearman"] < 0.5
    errors = found["horizons"]["5"]["lane_error"]["f"]
    assert errors["simulator"] == pytest.approx(1.0, abs=0.01) and errors["model"] == pytest.approx(0.4, abs=0.01)
    assert abs(found["cheat_spearman"]) < 0.8
    same = _compared({"simulator": simulator, "model": simulator, **noise}, list("abcdef"), 10)
    assert same["spearman"] == same["kendall"] == 1


def test_a_dozen_drivers() -> None:
    assert len(SKILLS) == 12 and len(set(SKILLS.values())) == 12 and SKILLS["good"] == Skill()
