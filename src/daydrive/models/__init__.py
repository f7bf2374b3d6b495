"""The world model: encoder → dynamics → decoder."""

from daydrive.models.world_model import DreamState, WorldModel, WorldModelOutput, build_world_model

__all__ = ["DreamState", "WorldModel", "WorldModelOutput", "build_world_model"]
