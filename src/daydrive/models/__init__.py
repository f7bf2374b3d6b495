"""The world model: encoder → dynamics → decoder."""

from daydrive.models.texture.memory import Motion
from daydrive.models.texture.model import DreamState, WorldModel, WorldModelOutput, build_world_model

__all__ = ["DreamState", "Motion", "WorldModel", "WorldModelOutput", "build_world_model"]
