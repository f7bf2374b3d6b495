"""Model architectures behind one interface, which predict the next frame from past frames and actions."""

from daydrive.models.interface import (
    GradientCheckpointing,
    HasLatents,
    HasMotion,
    LossOutput,
    MotionFields,
    Predictor,
    Unit,
    WorldModel,
    WorldModelOutput,
)
from daydrive.models.registry import build_world_model

__all__ = [
    "GradientCheckpointing",
    "HasLatents",
    "HasMotion",
    "LossOutput",
    "MotionFields",
    "Predictor",
    "Unit",
    "WorldModel",
    "WorldModelOutput",
    "build_world_model",
]
