"""Cloning, displaced starts in the model, the derivatives through it, and examples from the simulator."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from daydrive.checkpoint import RolloutModel
from daydrive.data.store.store import Store
from daydrive.decisions.policy.cloning import Examples, clone, cloning_error, join, recorded_examples
from daydrive.decisions.policy.imagination import (
    ImaginationConfig,
    displaced_starts,
    imagined_cost,
    improve,
    lane_cost,
)
from daydrive.decisions.policy.learners import LEARNERS, LearnConfig, Learners
from daydrive.decisions.policy.network import Policy, PolicyNetwork
from daydrive.decisions.policy.simulated import disturbed_drive
from daydrive.envs.world_model import Readout
from daydrive.envs.world_model.moments import Moments
from daydrive.errors import UserError
from daydrive.models import WorldModel

TINY = ImaginationConfig(updates=2, batch=2, horizon=2, displacement=4, refresh=1, moments=4, min_speed=-100.0)


def network(seed: int = 0) -> PolicyNetwork:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return PolicyNetwork(0.44)


@pytest.fixture(scope="module")
def examples(opened_store: Store) -> Examples:
    return recorded_examples(opened_store, "train", 1, 0.44)


def equal(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    return all(a.equal(b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_examples_are_the_recorded_frames_with_their_actions(opened_store: Store, examples: Examples) -> None:
    forwards = 0
    for drive in opened_store.split("train"):
        actions = opened_store.read_actions(range(drive.start + 1, drive.start + drive.frames))
        forwards += int((actions[:, 3] > 0).sum())
    assert len(examples.controls) == len(examples.images) == len(examples.correlations) == forwards > 0
    both = join([examples, examples])
    assert both.images[forwards:].equal(examples.images) and len(both.controls) == 2 * forwards


def test_cloning_learns_what_the_images_show_and_is_repeatable() -> None:
    generator = torch.Generator().manual_seed(0)
    steering = torch.rand(256, generator=generator) * 2 - 1
    images = torch.zeros(256, 3, 64, 64)
    columns = torch.arange(64)
    images[:, :, 32:] = (columns < (32 + 24 * steering[:, None])).float()[:, None, None] * 255
    controls = torch.stack([steering, 0 * steering, 0 * steering], 1)
    shown = Examples(images.to(torch.uint8), torch.zeros(256, 297), controls)
    learned, again = network(), network()
    before = cloning_error(learned, shown)
    for each in (learned, again):
        clone(each, shown, 60, seed=3)
    assert cloning_error(learned, shown) < 0.5 * before
    assert equal(learned, again) and not equal(learned, network())


def test_the_best_weights_on_the_validation_are_the_result(examples: Examples, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daydrive.decisions.policy.cloning.VALIDATION_STEPS", 2)
    errors = iter([3.0, 1.0, 2.0])
    monkeypatch.setattr("daydrive.decisions.policy.cloning.cloning_error", lambda *_: next(errors))
    chosen, states = network(), []
    clone(chosen, examples, 6, 0, lambda done: states.append(copy.deepcopy(chosen)), examples)
    assert equal(chosen, states[3]) and not equal(chosen, states[5])


def test_lane_cost_is_least_on_the_way_back() -> None:
    offset, speed = torch.tensor([1.0]), torch.tensor([8.0])
    costs = [float(lane_cost(offset, torch.tensor([heading]), speed, 1.2)) for heading in (-0.4, -1 / 9.6, 0.0, 0.4)]
    assert costs[1] == min(costs) and costs[2] < costs[3]
    assert lane_cost(0 * offset, 0 * offset, speed, 1.2) == 0


def test_starts_are_displaced_by_noise_on_the_wheel(
    world_model: RolloutModel, opened_store: Store, readout: Readout
) -> None:
    moments, generator = Moments(opened_store, "train", 4, 1), torch.Generator().manual_seed(0)
    starts = displaced_starts(world_model.model, readout, moments, network(), TINY, generator)
    count = len(starts.speed) // 2
    assert count >= 1 and len(starts.image) == 2 * count
    assert not starts.image[:count].equal(starts.image[count:])
    assert starts.speed[:count].equal(starts.speed[count:]) and starts.action[:count].equal(starts.action[count:])
    with pytest.raises(UserError, match="no moment of the split 'train' at which"):
        displaced_starts(world_model.model, readout, moments, network(), replace(TINY, min_speed=1e3), generator)


def test_derivatives_reach_the_wheel_and_nothing_else(
    world_model: RolloutModel, opened_store: Store, readout: Readout
) -> None:
    model = world_model.model
    assert isinstance(model, WorldModel)
    model.requires_grad_(False)
    moments, policy = Moments(opened_store, "train", 4, 1), network()
    generator = torch.Generator().manual_seed(0)
    starts = displaced_starts(model, readout, moments, policy, TINY, generator)
    with torch.no_grad():
        frames = [model.step(state, starts.action)[1] for state in (starts.state, model.detach_images(starts.state))]
    assert frames[0].equal(frames[1])
    imagined_cost(model, readout, policy, starts, TINY, generator).backward()
    assert policy.wheel.weight.grad is not None and policy.wheel.weight.grad.abs().sum() > 0
    assert policy.pedals[0].weight.grad is None and policy.motion[0].weight.grad is None


def test_improvement_is_repeatable_and_leaves_the_model_alone(
    world_model: RolloutModel, opened_store: Store, readout: Readout, examples: Examples
) -> None:
    model = world_model.model
    assert isinstance(model, WorldModel)
    before, moments = copy.deepcopy(model), Moments(opened_store, "train", 4, 1)
    policies, done = [network(), network()], []
    for policy in policies:
        improve(policy, model, readout, moments, examples, TINY, 0, lambda update, cost: done.append(update))
    assert equal(*policies) and not equal(policies[0], network())
    assert equal(model, before) and done == [1, 2, 1, 2]


def test_simulated_drives_are_labelled_by_the_scripted_driver(policy: Policy) -> None:
    disturbed = disturbed_drive(5, 12, (64, 64), 0.44)
    driven = disturbed_drive(5, 12, (64, 64), 0.44, policy)
    assert len(disturbed.controls) == len(driven.controls) == 11
    assert disturbed.images.equal(disturbed_drive(5, 12, (64, 64), 0.44).images)
    assert not disturbed.images.equal(driven.images) and not disturbed.controls.equal(driven.controls)


def test_every_way_to_learn_gives_a_policy(world_model: RolloutModel, opened_store: Store, readout: Readout) -> None:
    config = LearnConfig(
        cloning_steps=2, long_cloning_steps=2, imagination=TINY, drives=2, frames=6, rounds=2, simulator_steps=6
    )
    learners = Learners(opened_store, world_model, readout, config)
    for name in LEARNERS:
        shown: list[tuple[int, int]] = []
        policy = learners.learn(name, 1, lambda *counts, shown=shown: shown.append(counts))
        assert policy.info.learned == name and policy.info.seed == 1 and policy.info.hz == 10
        assert [done for done, _ in shown] == sorted(done for done, _ in shown)
        assert shown[-1][0] == shown[-1][1] and len({total for _, total in shown}) == 1
