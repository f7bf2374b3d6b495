"""The world model: encoder → dynamics → decoder."""

from daydrive.models.texture import Motion
from daydrive.models.world_model import DreamState, WorldModel, WorldModelOutput, build_world_model

__all__ = ["DreamState", "Motion", "WorldModel", "WorldModelOutput", "build_world_model"]
