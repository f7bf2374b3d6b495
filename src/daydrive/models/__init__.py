"""Model architectures behind one interface: encoder → dynamics → decoder, or whatever predicts the next frame."""

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
