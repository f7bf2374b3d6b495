"""Four ways to learn a policy, at about the same minutes: inside the world model, and three to compare with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from daydrive.checkpoint import RolloutModel
from daydrive.data.store.store import Store
from daydrive.decisions.policy.cloning import (
    Examples,
    clone,
    initial_network,
    join,
    policy_info,
    recorded_examples,
)
from daydrive.decisions.policy.imagination import ImaginationConfig, improve
from daydrive.decisions.policy.network import Policy, PolicyInfo, PolicyNetwork
from daydrive.decisions.policy.simulated import FIRST_SEED, disturbed_drive
from daydrive.envs.world_model.moments import Moments
from daydrive.envs.world_model.readout import FRAMES, Readout
from daydrive.models import WorldModel

Progress = Callable[[int, int], None]
"""Called with the steps done and in total."""

DRIVE_STEPS = 8
"""Steps of the progress for a simulated drive, in steps of cloning of about the same time."""

UPDATE_STEPS = 40
"""Likewise for an update in the model."""


@dataclass(frozen=True)
class LearnConfig:
    """imagination: of learning in the model, after `cloning_steps` of cloning.

    long_cloning_steps: of cloning alone, for the same minutes; the steps with the least error on the split `val` count.
    drives: in the simulator, of `frames` frames each, for noise injection and for DAgger; rounds: of DAgger.
    simulator_steps: of cloning on recorded and simulated drives; of DAgger, over all rounds.
    """

    cloning_steps: int = 600
    long_cloning_steps: int = 3000
    imagination: ImaginationConfig = field(default_factory=ImaginationConfig)
    drives: int = 90
    frames: int = 100
    rounds: int = 3
    simulator_steps: int = 2000


LEARNERS = ("world_model", "cloning", "cloning_noise", "simulator")


class Learners:
    """What all of them share: the store's examples, the model and the readout."""

    def __init__(self, store: Store, loaded: RolloutModel, readout: Readout, config: LearnConfig) -> None:
        """Raises UserError if the store has too few frames."""
        assert isinstance(loaded.model, WorldModel)
        self._store, self._loaded, self._model, self._readout = store, loaded, loaded.model, readout
        self._config, self._horizon = config, readout.info.horizon
        self._moments = Moments(store, "train", max(loaded.context_frames, FRAMES), loaded.frame_skip)
        self._recorded = recorded_examples(store, "train", loaded.frame_skip, self._horizon)
        self._validation = recorded_examples(store, "val", loaded.frame_skip, self._horizon)

    def learn(self, name: str, seed: int, progress: Progress) -> Policy:
        """The policy of one of `LEARNERS`."""
        methods = (self._world_model, self._cloning, self._cloning_noise, self._simulator)
        network = dict(zip(LEARNERS, methods, strict=True))[name](seed, progress)
        return Policy(network, self._info(name, seed))

    def _info(self, name: str, seed: int) -> PolicyInfo:
        checkpoint = self._loaded.name if name == "world_model" else None
        return policy_info(name, self._store, self._loaded.frame_skip, self._horizon, seed, checkpoint)

    def _world_model(self, seed: int, progress: Progress) -> PolicyNetwork:
        config = self._config
        total = config.cloning_steps + UPDATE_STEPS * config.imagination.updates
        network = self._network(seed)
        clone(network, self._recorded, config.cloning_steps, seed, lambda done: progress(done, total))
        improve(
            network, self._model, self._readout, self._moments, self._recorded, config.imagination, seed,
            lambda done, cost: progress(config.cloning_steps + UPDATE_STEPS * done, total),
        )  # fmt: skip
        return network

    def _cloning(self, seed: int, progress: Progress) -> PolicyNetwork:
        steps, network = self._config.long_cloning_steps, self._network(seed)
        clone(network, self._recorded, steps, seed, lambda done: progress(done, steps), self._validation)
        return network

    def _cloning_noise(self, seed: int, progress: Progress) -> PolicyNetwork:
        config, network = self._config, self._network(seed)
        total = DRIVE_STEPS * config.drives + config.simulator_steps
        disturbed = self._drives(seed, range(config.drives), None, lambda done: progress(DRIVE_STEPS * done, total))
        driven = DRIVE_STEPS * config.drives
        clone(
            network, join([self._recorded, *disturbed]), config.simulator_steps, seed,
            lambda done: progress(driven + done, total),
        )  # fmt: skip
        return network

    def _simulator(self, seed: int, progress: Progress) -> PolicyNetwork:
        config, network = self._config, self._network(seed)
        parts, steps, drives = [self._recorded], config.simulator_steps // (config.rounds + 1), config.drives
        total = DRIVE_STEPS * drives + steps * (config.rounds + 1)
        clone(network, self._recorded, steps, seed, lambda done: progress(done, total))
        for k in range(config.rounds):
            numbers = range(k * drives // config.rounds, (k + 1) * drives // config.rounds)
            before = (k + 1) * steps + DRIVE_STEPS * numbers.start
            policy = Policy(network, self._info("simulator", seed))
            parts += self._drives(seed, numbers, policy, lambda done: progress(before + DRIVE_STEPS * done, total))  # noqa: B023
            driven = before + DRIVE_STEPS * len(numbers)
            clone(network, join(parts), steps, seed + k + 1, lambda done: progress(driven + done, total))  # noqa: B023
        return network

    def _drives(
        self, seed: int, numbers: range, policy: Policy | None, progress: Callable[[int], None]
    ) -> list[Examples]:
        drives = []
        for done, number in enumerate(numbers, start=1):
            road = FIRST_SEED + 10_000 * seed + number
            size = self._store.image_size
            drives.append(disturbed_drive(road, self._config.frames, size, self._horizon, policy))
            progress(done)
        return drives

    def _network(self, seed: int) -> PolicyNetwork:
        return initial_network(self._horizon, seed)
