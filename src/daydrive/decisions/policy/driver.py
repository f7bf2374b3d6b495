"""A learned policy behind the interface of the closed loop."""

from __future__ import annotations

from daydrive.decisions.closed_loop import Action, Observation, Task
from daydrive.decisions.policy.network import Policy
from daydrive.envs.world_model.readout import FRAMES


class PolicyDriver:
    """Drives by the images alone; the speed is the policy's own."""

    frames = FRAMES

    def __init__(self, policy: Policy) -> None:
        self._policy = policy

    def reset(self, task: Task) -> None:
        """The policy has no memory."""

    def act(self, observation: Observation) -> Action:
        action: Action = self._policy(observation.images[None, -FRAMES:])[0].numpy()
        return action
