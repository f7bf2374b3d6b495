"""The world model as a few verbs: encode, begin, predict, decode.

Shape suffixes: B clips, T frames, C context frames, N dreamed frames, H height, W width, h w the latent grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypedDict

import torch
from torch import Tensor

from daydrive.config import Config, ModelConfig
from daydrive.models.texture.decoder import Decoder
from daydrive.models.texture.dynamics import Dynamics, DynamicsStep, Memory
from daydrive.models.texture.encoder import HISTORY, Encoder, Encoding
from daydrive.models.texture.layers import Recomputing
from daydrive.models.texture.memory import Motion, Texture, fresh, move, render
from daydrive.models.texture.sizes import ladder

DEFAULT_IMAGE_SIZE = (256, 256)


class DreamState(NamedTuple):
    """All that the dream knows, constant in size.

    pictures: (B, HISTORY, 3, H, W), the newest last; memory: of the dynamics; texture: what the picture is made of;
    latent: (B, latent_dim, h, w) foreseen for the newest picture, None before the first step.
    """

    pictures: Tensor
    memory: Memory
    texture: Texture
    latent: Tensor | None

    @property
    def picture(self) -> Tensor:
        """(B, 3, H, W), the newest."""
        return self.pictures[:, -1]


class WorldModelOutput(TypedDict):
    """reconstructed: (B, R, 3, H, W), each painted from that frame's latent alone, for the frames asked for.
    predicted: (B, N, 3, H, W), the dream from the context on. latents: (B, R, latent_dim, h, w);
    foreseen: (B, N, latent_dim, h, w), the latents that the dynamics expected of the dreamed frames.
    Pictures in [-1, 1]."""

    reconstructed: Tensor
    predicted: Tensor
    latents: Tensor
    foreseen: Tensor


class WorldModel(Recomputing):
    """Encoder → dynamics → decoder. Works for pictures from 64 to 256 pixels, square or not."""

    def __init__(self, config: ModelConfig, image_size: tuple[int, int]) -> None:
        super().__init__()
        self.config = config
        self.image_size = image_size
        sizes = ladder(config, image_size)
        self._skips = sizes.skips
        self.encoder = Encoder(config, sizes.reductions)
        self.dynamics = Dynamics(config, sizes.grid)
        self.decoder = Decoder(config, sizes)

    def enable_gradient_checkpointing(self, enabled: bool = True) -> None:
        """Let all parts that can compute their activations again in the backward pass; gradients stay the same."""
        for module in self.modules():
            if isinstance(module, Recomputing):
                module.gradient_checkpointing = enabled

    def encode(self, images: Tensor) -> Tensor:
        """images (B, T, 3, H, W) in [-1, 1] → latents (B, T, latent_dim, h, w), each of a frame and those before it."""
        return self._latents(images, range(images.shape[1]), {})

    def decode(self, latents: Tensor) -> Tensor:
        """latents (..., latent_dim, h, w) → pictures (..., 3, H, W), painted from the latent alone."""
        return self.decoder.paint(latents.flatten(0, -4)).unflatten(0, latents.shape[:-3])

    def begin(self, context: Tensor, actions: Tensor) -> DreamState:
        """The state after real frames (B, C, 3, H, W) in [-1, 1] and the actions (B, C-1, action_dim) between them.

        The memory takes in every frame that has HISTORY - 1 frames before it, but for the newest: `predict` sees that.
        """
        last = context.shape[1] - 1
        memory = self.dynamics.empty_memory(context.shape[0], context.device)
        for t in range(min(HISTORY - 1, last), last):
            encoding = self.encoder(_window(context, t))
            memory = self.dynamics(encoding.latent, actions[:, t], memory).memory
        return DreamState(_window(context, last), memory, fresh(context[:, last]), None)

    def predict(self, state: DreamState, action: Tensor) -> DreamState:
        """One step of the dream: action (B, action_dim) is what the driver does from the newest picture to the next."""
        return self.explain(state, action)[0]

    def explain(self, state: DreamState, action: Tensor) -> tuple[DreamState, Motion]:
        """The same step with what the decoder said of it: how the newest picture moves, and what is new."""
        return self._advance(state, self.encoder(state.pictures), action)

    def forward(
        self,
        images: Tensor,
        actions: Tensor,
        context_frames: int = 4,
        reconstruct: Sequence[int] | None = None,
    ) -> WorldModelOutput:
        """images (B, T, 3, H, W) in [-1, 1], actions (B, T-1, action_dim); dreams the T - C frames after the context.

        reconstruct: the frames to paint from their latents; all without it.
        """
        frames = list(range(images.shape[1]) if reconstruct is None else reconstruct)
        last = context_frames - 1
        state = self.begin(images[:, :context_frames], actions[:, :last])
        newest: Encoding = self.encoder(state.pictures)
        state, _ = self._advance(state, newest, actions[:, last])
        states = [state]
        for t in range(context_frames, images.shape[1] - 1):
            state = self.predict(state, actions[:, t])
            states.append(state)
        latents = self._latents(images, frames, {last: newest.latent})
        return {
            "reconstructed": self.decode(latents),
            "predicted": torch.stack([s.picture for s in states], dim=1),
            "latents": latents,
            "foreseen": torch.stack([s.latent for s in states if s.latent is not None], dim=1),
        }

    def _advance(self, state: DreamState, encoding: Encoding, action: Tensor) -> tuple[DreamState, Motion]:
        step: DynamicsStep = self.dynamics(encoding.latent, action, state.memory)
        features = [None if i is None else encoding.features[i] for i in self._skips]
        motion = self.decoder.motion(step.latent, step.hidden, features, step.condition)
        texture = self.lean(move, state.texture, motion)
        pictures = torch.cat([state.pictures[:, 1:], self.lean(render, texture)[:, None]], dim=1)
        return DreamState(pictures, step.memory, texture, step.latent), motion

    def _latents(self, images: Tensor, frames: Sequence[int], known: dict[int, Tensor]) -> Tensor:
        """Latents of some frames (B, len(frames), …); those that are `known` are not computed again."""
        found = dict(known)
        missing = [t for t in frames if t not in known]
        if missing:
            windows = torch.stack([_window(images, t) for t in missing], dim=1)
            latents = self.encoder(windows.flatten(0, 1)).latent.unflatten(0, (-1, len(missing)))
            found |= {t: latents[:, i] for i, t in enumerate(missing)}
        return torch.stack([found[t] for t in frames], dim=1)


def build_world_model(config: Config | ModelConfig) -> WorldModel:
    """The model of a config, for pictures of `model.image_size` (256x256 where it is not set).

    Raises UserError where the settings don't fit that size.
    """
    settings = config.model if isinstance(config, Config) else config
    model = WorldModel(settings, settings.image_size or DEFAULT_IMAGE_SIZE)
    if isinstance(config, Config) and config.training.use_gradient_checkpointing:
        model.enable_gradient_checkpointing()
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _window(images: Tensor, t: int) -> Tensor:
    """Frame t of (B, T, 3, H, W) with those before it, (B, HISTORY, 3, H, W); the first stands in for missing ones."""
    return torch.stack([images[:, max(0, t - back)] for back in range(HISTORY - 1, -1, -1)], dim=1)
