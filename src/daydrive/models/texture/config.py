"""Settings of the default architecture."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveInt, model_validator

from daydrive.config import LossConfig, ModelConfig, Settings


class EncoderConfig(Settings):
    """stages: channels of each stage, fine to coarse; num_heads: attention heads in the coarser half of the stages."""

    stages: list[PositiveInt] = Field([64, 128, 256, 512], min_length=1)
    num_heads: PositiveInt = 4


class DynamicsConfig(Settings):
    num_layers: PositiveInt = 4
    dropout: float = Field(0.1, ge=0, lt=1)


class DecoderConfig(Settings):
    """stages: channels of each stage, coarse to fine; init_size: shorter side of the latent grid."""

    stages: list[PositiveInt] = Field([512, 256, 128, 64], min_length=1)
    init_size: PositiveInt = 16


class StabilizerConfig(Settings):
    """Keeps brightness, contrast and the amount of detail of a rollout near a reference, measured on the context.

    pull: fraction of the deviation of the whole image's mean and contrast that each step removes; row_pull: of the
    deviation of each row's mean colour. adaptation: fraction by which each step moves the reference to the rollout
    itself, so that a drive into dusk or a tunnel may darken; 0: the reference stays.
    """

    pull: float = Field(0.2, ge=0, le=1)
    row_pull: float = Field(0.1, ge=0, le=1)
    adaptation: float = Field(0.0, ge=0, lt=1)


class TextureConfig(ModelConfig):
    """latent_dim: channels of the latent grid; hidden_dim: channels of the dynamics and of their recurrent state.

    stabilizer: default none. source_detail: the decoder also sees how much of each pixel's detail the stored real image
    supplies, see `known_detail`. noise: random numbers enter the decoder, most where little detail is known, so that
    futures differ with the seed where they are open. context_noise: largest standard deviation of the noise that
    training adds to the images that the encoder sees, in their range of [-1, 1]; its level is an input (Ho et al. 2022,
    Valevski et al. 2024).
    """

    type: Literal["texture"] = "texture"
    latent_dim: PositiveInt = 256
    hidden_dim: PositiveInt = 512
    encoder: EncoderConfig = EncoderConfig()
    dynamics: DynamicsConfig = DynamicsConfig()
    decoder: DecoderConfig = DecoderConfig()
    stabilizer: StabilizerConfig | None = None
    source_detail: bool = False
    noise: bool = False
    context_noise: float = Field(0.0, ge=0, le=1)

    @model_validator(mode="after")
    def _heads_divide(self) -> TextureConfig:
        stages = self.encoder.stages
        for width in stages[(len(stages) + 1) // 2 :]:
            if width % self.encoder.num_heads:
                raise ValueError(
                    f"model.encoder.num_heads = {self.encoder.num_heads} does not divide the stage of {width} channels"
                )
        return self

    @property
    def native_image_size(self) -> tuple[int, int]:
        """Image size at which each stage of the decoder doubles the size once, starting from the latent grid."""
        side = self.decoder.init_size * 2 ** len(self.decoder.stages)
        return side, side

    @property
    def native_image_size_settings(self) -> str:
        return f"model.decoder.init_size = {self.decoder.init_size}, {len(self.decoder.stages)} stages"

    def larger(self) -> list[str]:
        return [f"model.latent_dim={2 * self.latent_dim}", f"model.hidden_dim={2 * self.hidden_dim}"]

    def regularised(self, loss: LossConfig) -> list[str]:
        return [
            f"loss.latent_reg_weight={max(0.05, 2 * loss.latent_reg_weight):g}",
            f"model.dynamics.dropout={min(0.5, self.dynamics.dropout + 0.1):g}",
        ]
