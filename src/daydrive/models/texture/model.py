"""The default architecture: its decoder warps the last real image and generates only new content.

Shapes as in `daydrive.models.interface`; h, w: the latent grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from daydrive.config import ModelConfig
from daydrive.models.interface import MotionFields, Unit, WorldModel, WorldModelOutput
from daydrive.models.texture import texture_memory
from daydrive.models.texture.config import TextureConfig
from daydrive.models.texture.decoder import NO_EXTRAS, Decoder, Extras, noise_level
from daydrive.models.texture.dynamics import Dynamics, DynamicsStep, Hidden
from daydrive.models.texture.encoder import HISTORY, Encoder, EncoderFeatures, Encoding
from daydrive.models.texture.sizes import stage_sizes
from daydrive.models.texture.stabilizer import Reference, measure, stabilize
from daydrive.models.texture.texture_memory import Motion, Texture

FORMAT_2_NAMES = {
    "enter": "in_proj",
    "leave": "out_proj",
    "place": "pos_embed",
    "overview": "global_context",
    "enter_latent": "latent_proj",
    "enter_hidden": "hidden_proj",
    "grow": "upsample",
    "paint_head": "reconstruct_head",
}
"""Names of submodules and parameters in checkpoints of format 2 → current names."""


class TextureState(NamedTuple):
    """State of a rollout, constant in size.

    images: (B, HISTORY, 3, H, W), the newest last; hidden: of the dynamics; texture: components of the newest image;
    reference: of the stabilizer, None without one; latent: (B, latent_dim, h, w), predicted for the newest image;
    motion: of the last step; both None before the first step.
    """

    images: Tensor
    hidden: Hidden
    texture: Texture
    reference: Reference | None
    latent: Tensor | None
    motion: Motion | None

    @property
    def image(self) -> Tensor:
        """(B, 3, H, W), the newest."""
        return self.images[:, -1]


class NoisyEncoding(NamedTuple):
    """encoding: of a window of images; level: (B, 1), standard deviation of the noise on it, None for models that are
    trained without."""

    encoding: Encoding
    level: Tensor | None


class TextureWorldModel(WorldModel):
    """Encoder → dynamics → decoder, for images from 64 to 256 pixels, square or not."""

    config_class = TextureConfig

    def __init__(self, config: ModelConfig, image_size: tuple[int, int], context_frames: int) -> None:
        super().__init__(config, image_size, context_frames)
        assert isinstance(config, TextureConfig)
        sizes = stage_sizes(config, image_size)
        self._skips, self._stabilizer = sizes.skips, config.stabilizer
        self._source_detail, self._noise, self._context_noise = config.source_detail, config.noise, config.context_noise
        self.encoder = Encoder(config, sizes.reductions)
        self.dynamics = Dynamics(config, sizes.grid)
        self.decoder = Decoder(config, sizes)

    def encode(self, images: Tensor) -> Tensor:
        """As `HasLatents.encode`, with D = latent_dim; the latents of a frame depend on HISTORY frames."""
        return self._latents(images, range(images.shape[1]), {})

    def decode(self, latents: Tensor) -> Tensor:
        """latents (..., latent_dim, h, w) → images (..., 3, H, W), from the latents alone."""
        return self.decoder.reconstruct(latents.flatten(0, -4)).unflatten(0, latents.shape[:-3])

    def init_state(self, images: Tensor, actions: Tensor, generator: torch.Generator | None = None) -> TextureState:
        """The dynamics process every frame with HISTORY - 1 predecessors except the newest, which `step` processes."""
        last = images.shape[1] - 1
        hidden = self.dynamics.init_hidden(images.shape[0], images.device)
        for t in range(min(HISTORY - 1, last), last):
            hidden = self._dynamics(self._encoded(_window(images, t)), actions[:, t], hidden, None).hidden
        reference = None if self._stabilizer is None else measure(images)
        return TextureState(_window(images, last), hidden, texture_memory.init(images[:, last]), reference, None, None)

    def step(
        self, state: TextureState, action: Tensor, generator: torch.Generator | None = None
    ) -> tuple[TextureState, Tensor]:
        state = self._advance(state, self._encoded(state.images), action, generator)
        return state, state.image

    def detach_images(self, state: TextureState) -> TextureState:
        return state._replace(images=state.images.detach())

    def reconstruct(self, images: Tensor, actions: Tensor, frames: Sequence[int]) -> Tensor:
        """Each frame from its latent alone."""
        return self.decode(self._latents(images, frames, {}))

    def forward(
        self,
        images: Tensor,
        actions: Tensor,
        reconstruct: Sequence[int] | None = None,
        generator: torch.Generator | None = None,
    ) -> WorldModelOutput:
        """As `WorldModel.forward`, with `latents` and `predicted_latents`; the newest frame is encoded only once."""
        frames = list(range(images.shape[1]) if reconstruct is None else reconstruct)
        last = self.context_frames - 1
        state = self.init_state(images[:, : last + 1], actions[:, :last])
        newest = self._encoded(state.images)
        state = self._advance(state, newest, actions[:, last], generator)
        states = [state]
        for t in range(last + 1, images.shape[1] - 1):
            state, _ = self.step(state, actions[:, t], generator)
            states.append(state)
        latents = self._latents(images, frames, {last: newest.encoding.latent} if newest.level is None else {})
        return {
            "reconstructed": self.decode(latents),
            "predicted": torch.stack([s.image for s in states], dim=1),
            "latents": latents,
            "predicted_latents": torch.stack([s.latent for s in states if s.latent is not None], dim=1),
        }

    def motion_fields(self, state: TextureState) -> MotionFields:
        assert state.motion is not None, "there is no motion before the first step"
        return MotionFields(state.motion.flow, state.motion.mask, state.texture.opacity, state.texture.overlay)

    def feature_network(self) -> EncoderFeatures:
        """As `HasFeatures.feature_network`: the feature maps of the encoder's stages."""
        return EncoderFeatures(self.encoder)

    def memory_grid(self, state: TextureState) -> Tensor:
        """As `HasLatents.memory_grid`: the hidden grid of the last layer."""
        return state.hidden[-1]

    def end_weights(self) -> set[str]:
        """The encoder's first convolution, the decoder's heads and the position embedding."""
        ends = ("encoder.in_proj.0.", "decoder.reconstruct_head.", "decoder.motion_head.", "dynamics.pos_embed")
        return {name for name, _ in self.named_parameters() if name.startswith(ends)}

    def parallel_units(self) -> list[Unit]:
        return [Unit(self.encoder), Unit(self.dynamics), Unit(self.decoder, ("motion", "reconstruct"))]

    @classmethod
    def current_name(cls, name: str, format: int) -> str:
        return ".".join(FORMAT_2_NAMES.get(part, part) for part in name.split(".")) if format == 2 else name

    def _advance(
        self, state: TextureState, seen: NoisyEncoding, action: Tensor, generator: torch.Generator | None
    ) -> TextureState:
        extras, motion_noise = NO_EXTRAS, None
        if self._source_detail or self._noise:
            known = texture_memory.known_detail(state.texture).detach()
            noise = self.decoder.draw_noise(generator, action.device) if self._noise else None
            extras = Extras(known, noise)
            motion_noise = self.dynamics.draw_noise(generator, noise_level(known).mean((2, 3)))
        step = self._dynamics(seen, action, state.hidden, motion_noise)
        features = [None if i is None else seen.encoding.features[i] for i in self._skips]
        motion = self.decoder.motion(step.latent, step.features, features, step.condition, extras)
        texture = self.checkpointed(texture_memory.warp, state.texture, motion)
        image = self.checkpointed(texture_memory.render, texture)
        reference = state.reference
        if reference is not None and self._stabilizer is not None:
            stable, reference = stabilize(image, reference, self._stabilizer)
            texture = texture_memory.add(texture, stable - image)
            image = stable
        images = torch.cat([state.images[:, 1:], image[:, None]], dim=1)
        return TextureState(images, step.hidden, texture, reference, step.latent, motion)

    def _encoded(self, window: Tensor) -> NoisyEncoding:
        """What the encoder sees of a window (B, HISTORY, 3, H, W); in training with `context_noise`, with noise of a
        random level per clip."""
        if not self._context_noise:
            return NoisyEncoding(self.encoder(window), None)
        level = window.new_zeros(window.shape[0], 1)
        if self.training:
            level.uniform_(0.0, self._context_noise)
            window = window + level[:, :, None, None, None] * torch.randn_like(window)
        return NoisyEncoding(self.encoder(window), level)

    def _dynamics(self, seen: NoisyEncoding, action: Tensor, hidden: Hidden, noise: Tensor | None) -> DynamicsStep:
        inputs = action if seen.level is None else torch.cat([action, seen.level], dim=1)
        step: DynamicsStep = self.dynamics(seen.encoding.latent, inputs, hidden, noise)
        return step

    def _latents(self, images: Tensor, frames: Sequence[int], known: dict[int, Tensor]) -> Tensor:
        """Latents of the given frames (B, len(frames), …); `known` latents are reused."""
        found = dict(known)
        missing = [t for t in frames if t not in known]
        if missing:
            windows = torch.stack([_window(images, t) for t in missing], dim=1)
            latents = self.encoder(windows.flatten(0, 1)).latent.unflatten(0, (-1, len(missing)))
            found |= {t: latents[:, i] for i, t in enumerate(missing)}
        return torch.stack([found[t] for t in frames], dim=1)


def _window(images: Tensor, t: int) -> Tensor:
    """Frame t of (B, T, 3, H, W) and its predecessors, (B, HISTORY, 3, H, W), padded by repeating the first frame."""
    return torch.stack([images[:, max(0, t - back)] for back in range(HISTORY - 1, -1, -1)], dim=1)
