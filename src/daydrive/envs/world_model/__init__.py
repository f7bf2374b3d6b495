"""World models as environments: `gymnasium.make('daydrive/Dream-v0', model=…, data_root=…)`."""

from daydrive.envs.world_model.env import WorldModelEnv
from daydrive.envs.world_model.readout import Readout
from daydrive.envs.world_model.rewards import (
    DrivingReward,
    LaneDeparture,
    Transition,
    comfort,
    lane_keeping,
    target_speed,
)
from daydrive.envs.world_model.simulation import EnvState
from daydrive.envs.world_model.vector import WorldModelVectorEnv

__all__ = [
    "DrivingReward",
    "EnvState",
    "LaneDeparture",
    "Readout",
    "Transition",
    "WorldModelEnv",
    "WorldModelVectorEnv",
    "comfort",
    "lane_keeping",
    "target_speed",
]
