"""Drives: repeated, amended, rewound and resampled to the byte, with every architecture and the road simulator."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from daydrive.data.sampling.clips import combine
from daydrive.data.store.store import Store
from daydrive.drive.moments import RoadMoments, StoreMoments
from daydrive.drive.simulation import REWINDABLE_STEPS, STATE_INTERVAL, Simulation
from daydrive.drive.simulators import ModelSimulator, RoadSimulator, Simulator
from daydrive.envs.road import RoadEnv
from daydrive.errors import UserError
from daydrive.metrics import PSNR_CAP
from helpers.architectures import ARCHITECTURES
from helpers.driving import SIZE, action, random_model

MOMENTS = RoadMoments(SIZE, 4, 1)
ACTIONS = [action(0.2 * (-1) ** (k // 3), 0.1 * (k % 7)) for k in range(30)]


def simulator_of(kind: str) -> Simulator:
    return RoadSimulator(SIZE) if kind == "road" else ModelSimulator(random_model(kind))


def started(*simulators: Simulator, seed: int = 0) -> Simulation:
    simulation = Simulation(simulators)
    simulation.reset(MOMENTS.load(MOMENTS.names[0]), seed)
    return simulation


every = pytest.mark.parametrize("kind", [*ARCHITECTURES, "road"])


@every
def test_rewinding_gives_the_same_frames_to_the_byte(kind: str) -> None:
    simulation = started(simulator_of(kind))
    for step in ACTIONS:
        simulation.advance(step)
    hashes, image = list(simulation.path.hashes), simulation.images[0]
    assert len({*hashes}) == len(hashes)
    for step in (len(ACTIONS) - 1, STATE_INTERVAL + 1, STATE_INTERVAL, 3, 0):
        simulation.rewind(step)
        assert simulation.step_number == step and simulation.path.hashes == hashes[:step]
        shown = MOMENTS.load(MOMENTS.names[0]).image if step == 0 else None
        assert shown is None or np.array_equal(simulation.images[0], shown)
        for again in ACTIONS[step:]:
            simulation.advance(again)
        assert simulation.path.hashes == hashes and np.array_equal(simulation.images[0], image)
    simulation.rewind(5)
    simulation.advance(action(-1.0, 0.0, 1.0))
    assert simulation.path.hashes[5] != hashes[5]


@every
def test_amended_step_equals_the_step_with_the_new_action(kind: str) -> None:
    plain, amended = started(simulator_of(kind)), started(simulator_of(kind))
    for step in ACTIONS[:12]:
        plain.advance(step)
        amended.advance(action(-0.9, 0.0, 1.0))
        amended.amend(step)
    assert amended.path.hashes == plain.path.hashes and len(amended.path.actions) == 12
    amended.rewind(4)
    assert not amended.can_amend


@pytest.mark.parametrize("kind", ["rssm", "diffusion"])
def test_another_seed_gives_another_future_that_can_be_repeated(kind: str) -> None:
    simulation = started(simulator_of(kind))
    for step in ACTIONS[:15]:
        simulation.advance(step)
    before = list(simulation.path.hashes)
    simulation.rewind(7)
    simulation.reseed(99)
    for step in ACTIONS[7:15]:
        simulation.advance(step)
    resampled = list(simulation.path.hashes)
    assert resampled[:7] == before[:7] and not {*resampled[7:]} & {*before[7:]}
    for earlier in (12, 7, 6):
        simulation.rewind(earlier)
        for step in ACTIONS[earlier:15]:
            simulation.advance(step)
        assert (simulation.path.hashes == resampled) is (earlier >= 7)


def test_true_simulator_takes_the_same_way_from_the_same_state() -> None:
    simulation = started(RoadSimulator(SIZE))
    for step in ACTIONS[:13]:
        simulation.advance(step)
    shown = simulation.set_reference(RoadSimulator(SIZE))
    assert shown.psnr == (PSNR_CAP,) and len(shown.images) == 2
    for step in ACTIONS[13:]:
        assert simulation.advance(step).psnr == (PSNR_CAP,)
    for earlier in (25, 10, 0):
        assert simulation.rewind(earlier).psnr == (PSNR_CAP,)
    assert simulation.set_reference(None).psnr == ()
    assert simulation.advance(ACTIONS[0]).images[1:] == ()


def test_psnr_of_a_model_is_that_to_the_true_simulator() -> None:
    simulation = started(ModelSimulator(random_model("texture")))
    simulation.set_reference(RoadSimulator(SIZE))
    step = simulation.advance(ACTIONS[0])
    error = np.square(step.images[0].astype(np.float64) - step.images[1]).mean()
    assert step.psnr[0] == pytest.approx(20 * np.log10(255) - 10 * np.log10(error), abs=1e-3)


def test_history_is_bounded() -> None:
    class Counter:
        """Counts its steps."""

        speed, ended, count = 5.0, False, 0

        def reset(self, moment: object, seed: int) -> None:
            self.count = 0

        def step(self, action: object) -> np.ndarray:
            self.count += 1
            return np.full((8, 8, 3), self.count % 256, np.uint8)

        def reseed(self, seed: int) -> None: ...

        def get_state(self) -> int:
            return self.count

        def set_state(self, state: int) -> None:
            self.count = state

    counter = Counter()
    simulation = started(counter)
    for _ in range(REWINDABLE_STEPS + 105):
        simulation.advance(ACTIONS[0])
    assert simulation.earliest == 101 and simulation.step_number == REWINDABLE_STEPS + 105
    simulation.rewind(simulation.earliest)
    assert counter.count == 101 and simulation.images[0][0, 0, 0] == 101


def test_standing_is_noticed_with_and_without_a_known_speed() -> None:
    simulation = started(RoadSimulator(SIZE))
    shown = simulation.advance(action())
    assert not shown.standing and shown.speed is not None and shown.speed > 3
    for _ in range(60):
        shown = simulation.advance(action(0.0, 0.0, 1.0))
    assert shown.standing and shown.speed == 0


def test_moments_of_the_road_simulator_continue_as_recorded() -> None:
    moments = RoadMoments(SIZE, 3, 2)
    moment = moments.load(moments.names[1])
    assert moment.images.shape == (3, 3, 64, 64) and moment.actions.shape == (2, 4) and moments.hz == 5
    assert np.array_equal(moment.image, moments.load(moments.names[1]).image) and len(moment.recorded) > 100
    env = RoadEnv(SIZE)
    assert moment.road_state is not None
    env.set_state(moment.road_state)
    assert np.array_equal(env.observe(), moment.image) and env.speed > 4
    assert np.array_equal(moments.thumbnail("road:77"), moments.load("road:77").images[0].permute(1, 2, 0))
    for bad in ("road:", "road:-1", "x", "road:99999999999"):
        with pytest.raises(UserError, match="no moment"):
            moments.load(bad)


@pytest.mark.parametrize("skip", [1, 2])
def test_moments_of_a_store_continue_as_recorded(road_store: Path, skip: int) -> None:
    store = Store.open(road_store)
    moments = StoreMoments(store, 3, skip)
    assert len(moments.names) == 12 and moments.hz == 10 / skip
    for earlier, later in pairwise(moments.names):
        assert earlier.split(":")[0] <= later.split(":")[0]
    drive_name, _, frame = moments.names[5].rpartition(":")
    moment = moments.load(moments.names[5])
    drive = next(drive for drive in store.drives if drive.name == drive_name)
    rows = np.arange(drive.start + int(frame), drive.start + drive.frames - 1)
    rows = rows[: len(rows) // skip * skip]
    assert np.array_equal(moment.recorded, combine(store.read_actions(rows)[None], skip)[0])
    assert np.array_equal(moments.thumbnail(moments.names[5]), moment.image)

    simulator = RoadSimulator(SIZE, skip)
    simulator.reset(moment, 0)
    simulator.advance(moment.recorded[0])
    true = StoreMoments(store, 3, 1).load(f"{drive_name}:{int(frame) + skip}").image
    change = np.abs(simulator.observe().astype(int) - true).mean()
    assert change < (2 if skip == 1 else 4)
    with pytest.raises(UserError, match="no moment"):
        moments.load("road_00000:0")


def test_recordings_of_other_sources_have_no_true_simulator(small_store: Path) -> None:
    moments = StoreMoments(Store.open(small_store), 2, 1)
    assert moments.load(moments.names[0]).road_state is None


def test_models_with_different_contexts_start_from_the_same_frame() -> None:
    model = random_model("texture")
    model.context_frames = 1
    short, long = ModelSimulator(model), ModelSimulator(random_model("texture"))
    simulation = Simulation([short, long])
    simulation.reset(MOMENTS.load(MOMENTS.names[0]), 0)
    assert torch.equal(short.get_state().rollout.images[:, -1], long.get_state().rollout.images[:, -1])
