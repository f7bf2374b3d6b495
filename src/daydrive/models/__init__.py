"""Model architectures behind one interface, which predict the next frame from past frames and actions."""

from daydrive.models.interface import (
    GradientCheckpointing,
    HasFeatures,
    HasLatents,
    HasMotion,
    LossOutput,
    MotionFields,
    Predictor,
    State,
    Unit,
    WorldModel,
    WorldModelOutput,
)
from daydrive.models.registry import build_world_model

__all__ = [
    "GradientCheckpointing",
    "HasFeatures",
    "HasLatents",
    "HasMotion",
    "LossOutput",
    "MotionFields",
    "Predictor",
    "State",
    "Unit",
    "WorldModel",
    "WorldModelOutput",
    "build_world_model",
]
