"""All settings, with types, defaults and ranges. Sections of a config file are classes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    PositiveInt,
    SerializeAsAny,
    field_validator,
    model_validator,
)

from daydrive.errors import UserError, did_you_mean
from daydrive.locations import Location, location
from daydrive.plugins import Plugins


class Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


ARCHITECTURES = Plugins(
    "daydrive.models",
    "model architecture",
    {
        "texture": "daydrive.models.texture.model:TextureWorldModel",
        "rssm": "daydrive.models.rssm:RSSM",
        "diffusion": "daydrive.models.diffusion:Diffusion",
    },
)
"""Model architectures by `model.type`; other packages register theirs as entry points of this group. Each has a
`config_class`."""

DEFAULT_ARCHITECTURE = "texture"


class ModelConfig(Settings):
    """Settings that all architectures have; each architecture adds its own in a subclass, with its `type`.

    type: name of the architecture. action_dim: number of values of an action. image_size: (height, width) in pixels;
    training sets it from the store.
    """

    type: str
    action_dim: PositiveInt = 4
    image_size: tuple[PositiveInt, PositiveInt] | None = None

    @field_validator("type")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in ARCHITECTURES.names():
            raise ValueError(
                f"model.type: unknown model architecture '{name}'{did_you_mean(name, ARCHITECTURES.names())}"
            )
        return name

    @property
    def native_image_size(self) -> tuple[int, int]:
        """Height and width of the images that the settings are meant for."""
        return self.image_size or (64, 64)

    @property
    def native_image_size_settings(self) -> str:
        """The settings that `native_image_size` follows from, for messages; '' if there are none."""
        return ""

    def larger(self) -> list[str]:
        """Overrides that make the model larger, as advice; the setting with the largest effect on memory comes last."""
        return []

    def regularised(self, loss: LossConfig) -> list[str]:
        """Overrides that reduce overfitting, as advice."""
        return []


def model_config_class(name: str) -> type[ModelConfig]:
    """The settings class of an architecture. Raises UserError for an unknown name, and where a package's architecture
    has none."""
    label, found = ARCHITECTURES.find(name)
    config_class = getattr(found, "config_class", None)
    if not (isinstance(config_class, type) and issubclass(config_class, ModelConfig)):
        raise UserError(f"{label} is invalid: its 'config_class' is not a subclass of daydrive.config.ModelConfig")
    return config_class


def default_model() -> ModelConfig:
    return model_config_class(DEFAULT_ARCHITECTURE).model_validate({})


class UnrollPhase(Settings):
    """From the fraction `start` of the training on, the rollout in the loss has `steps` frames."""

    start: float = Field(ge=0, lt=1)
    steps: PositiveInt


class CriticConfig(Settings):
    """A critic of short windows of frames with their actions, for the loss of self-rollouts (Goodfellow et al. 2014,
    with the relativistic pairing of Jolicoeur-Martineau 2019).

    weight: of the loss that asks the model for windows that the critic takes for real ones. action_weight: of the loss
    that asks for windows from which the driver's actions can be read, by a reader trained on real ones. lr: learning
    rate of critic and reader. penalty: of the critic's change under small noise (Huang et al. 2024). mismatch_weight:
    how much real windows with another window's actions count as not real.
    """

    weight: float = Field(0.06, ge=0)
    action_weight: float = Field(0.02, ge=0)
    lr: float = Field(1.2e-3, gt=0)
    penalty: float = Field(10.0, ge=0)
    mismatch_weight: float = Field(1.0, ge=0)


class SelfRolloutConfig(Settings):
    """Training on the model's own ongoing rollouts ("lanes"), so that long rollouts stay like real drives.

    start: fraction of the training from which on every `interval`-th step continues lanes instead of new clips.
    lanes: their number over all processes, a multiple of the clips of a step. steps: frames with gradient per visit;
    free_steps: frames without gradient before them, in long lanes. max_age, short_age: frames after which the long and
    the short half of the lanes restart from real frames. samples: rollouts of each lane with different random numbers,
    of models that sample; with two, the losses against the real frames become energy scores, which are lowest where the
    rollouts differ as real drives do (Gneiting & Raftery 2007). truth_age: frames over which the weight of the losses
    against the real frames decays by e. coarse_weight: of the difference in 8x8-pixel means. detail_weight: of the
    difference in the amount of detail at three scales. critic: default none.
    """

    start: float = Field(0.5, ge=0, lt=1)
    interval: PositiveInt = 1
    lanes: PositiveInt = 64
    steps: PositiveInt = 3
    free_steps: int = Field(3, ge=0)
    max_age: PositiveInt = 400
    short_age: PositiveInt = 9
    samples: Literal[1, 2] = 1
    truth_age: float = Field(8.0, gt=0)
    coarse_weight: float = Field(0.4, ge=0)
    detail_weight: float = Field(0.6, ge=0)
    critic: CriticConfig | None = None


class TrainingConfig(Settings):
    """Training ends after `num_epochs` or `max_steps`, whichever comes first; a step is an optimizer update.

    batch_size: clips per process in one pass; a step has `batch_size · gradient_accumulation` clips per process.
    amp_dtype: data type of `use_amp`; 'auto' is bfloat16 where the device supports it, else float16 on a GPU and
    float32 on a CPU. context_frames: real frames before the predicted ones. unroll: schedule of the number of
    predicted frames; default: all frames of the clip. self_rollout: default none. ema_decay: decay of a moving average
    of the weights, which is then validated and exported. distributed: this is one of several processes that torchrun or
    Slurm started. backend: 'auto' is nccl on GPUs, else gloo.
    """

    batch_size: PositiveInt = 16
    num_epochs: PositiveInt = 100
    max_steps: PositiveInt | None = None
    use_amp: bool = True
    amp_dtype: Literal["auto", "bfloat16", "float16"] = "auto"
    gradient_accumulation: PositiveInt = 1
    max_grad_norm: float = Field(1.0, gt=0)
    seed: int = Field(0, ge=0, lt=2**32)
    context_frames: int = Field(4, ge=2)
    unroll: list[UnrollPhase] = []
    self_rollout: SelfRolloutConfig | None = None
    use_gradient_checkpointing: bool = False
    compile: bool = False
    ema_decay: float | None = Field(None, gt=0, lt=1)
    distributed: bool = False
    backend: Literal["auto", "nccl", "gloo"] = "auto"
    strategy: Literal["ddp", "fsdp"] = "ddp"


class OptimizerConfig(Settings):
    """lr: learning rate of every part of the model without its own. betas: of Adam and AdamW, also for the weights that
    Muon does not train. momentum: of SGD and Muon."""

    type: Literal["adamw", "adam", "sgd", "muon"] = "adamw"
    lr: float = Field(1e-4, gt=0)
    encoder_lr: float | None = Field(None, gt=0)
    dynamics_lr: float | None = Field(None, gt=0)
    decoder_lr: float | None = Field(None, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    betas: tuple[float, float] = (0.9, 0.999)
    momentum: float = Field(0.95, ge=0, lt=1)

    @model_validator(mode="after")
    def _betas_in_range(self) -> OptimizerConfig:
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"optimizer.betas = {list(self.betas)} must both lie in [0, 1)")
        return self


class SchedulerConfig(Settings):
    """Warmup, then decay to `min_lr` along a cosine or a line, or a constant rate."""

    type: Literal["cosine", "linear", "constant"] = "cosine"
    warmup_steps: int = Field(1000, ge=0)
    min_lr: float = Field(1e-6, ge=0)


class LossConfig(Settings):
    """Weights of the loss components.

    perceptual: 'structure' needs no network; 'vgg16' and 'alexnet' read their weights from `perceptual_weights` or
    the cache. recon_frames: number of newest context frames that a training step reconstructs; default: all frames of
    the clip.
    """

    recon_weight: float = Field(1.0, ge=0)
    pred_weight: float = Field(1.0, ge=0)
    perceptual_weight: float = Field(0.1, ge=0)
    latent_reg_weight: float = Field(0.01, ge=0)
    temporal_weight: float = Field(0.1, ge=0)
    perceptual: Literal["structure", "vgg16", "alexnet"] = "structure"
    perceptual_weights: Path | None = None
    recon_frames: PositiveInt | None = None


class AugmentationConfig(Settings):
    """Random augmentation, drawn once per clip. brightness, contrast, saturation: largest relative change in either
    direction.

    crop_scale: smallest and largest fraction of the image's area that a crop keeps. mirror: probability of a
    horizontal flip, which also negates steering.
    """

    brightness: float = Field(0.0, ge=0, lt=1)
    contrast: float = Field(0.0, ge=0, lt=1)
    saturation: float = Field(0.0, ge=0, lt=1)
    crop_scale: tuple[float, float] = (1.0, 1.0)
    mirror: float = Field(0.0, ge=0, le=1)

    @model_validator(mode="after")
    def _crop_in_range(self) -> AugmentationConfig:
        low, high = self.crop_scale
        if not 0 < low <= high <= 1:
            raise ValueError(
                f"data.augmentation.crop_scale = {list(self.crop_scale)} must be 0 < smallest <= largest <= 1"
            )
        return self


class BalanceConfig(Settings):
    """Balances kinds of driving: standing, left, straight and right, slow and fast.

    mode: 'sample' draws clips of rare kinds more often, 'weight' increases the weight of their loss. strength: 0
    changes nothing, 1 gives every kind the same share.
    """

    mode: Literal["sample", "weight"] = "sample"
    strength: float = Field(0.5, ge=0, le=1)


class CurriculumConfig(Settings):
    """Trains on easy clips first: `phases` of growing difficulty, each `epochs_per_phase` long, then all clips.

    by: 'steering', or a column of the store such as those of `daydrive score`. cumulative: a phase includes the clips
    of the previous ones.
    """

    by: str = "steering"
    phases: int = Field(3, ge=2)
    epochs_per_phase: PositiveInt = 20
    cumulative: bool = True


def _parse_root(value: object) -> Location:
    if not isinstance(value, str | Path) and not hasattr(value, "protocol"):
        raise ValueError("Input should be a path or a URL of an object store")
    return location(str(value))


class DataConfig(Settings):
    """root: the store. image_size: (height, width) in pixels of stores that `prepare-dataset` makes; training warns
    about others.

    sequence_length: frames of a clip, `frame_skip` apart. filter: a SQL condition on the store's columns and the
    names of the actions, which all frames of a clip satisfy.
    """

    root: Annotated[Path, PlainValidator(_parse_root), PlainSerializer(str)] | None = None
    image_size: tuple[PositiveInt, PositiveInt] | None = None
    num_workers: int = Field(4, ge=0)
    pin_memory: bool = True
    sequence_length: int = Field(10, ge=3)
    frame_skip: PositiveInt = 1
    filter: str | None = Field(None, min_length=1)
    augmentation: AugmentationConfig | None = None
    balance: BalanceConfig | None = None
    curriculum: CurriculumConfig | None = None


class LoggingConfig(Settings):
    """Intervals in steps. num_samples: clips shown in TensorBoard. keep_checkpoints: number of checkpoints to keep
    besides `best`.

    wandb_mode: mode of W&B with `use_wandb`; 'disabled' logs nothing to it.
    """

    log_interval: PositiveInt = 100
    eval_interval: PositiveInt = 1000
    save_interval: PositiveInt = 5000
    histogram_interval: PositiveInt = 1000
    num_samples: PositiveInt = 8
    keep_checkpoints: PositiveInt = 1
    use_wandb: bool = False
    wandb_project: str = "daydrive"
    wandb_name: str | None = None
    wandb_mode: Literal["online", "offline", "disabled"] = "online"


class AlarmsConfig(Settings):
    """Thresholds of the alarms that training raises.

    min_psnr: dB on validation after half of the training. max_gap: dB by which training clips may be better than
    validation clips. patience: epochs without improvement on validation. min_action_cost: dB that another clip's
    actions have to cost. min_device_use: fraction of the time that the device computes instead of waiting for data.
    """

    min_psnr: float = 25.0
    max_gap: float = Field(2.0, gt=0)
    patience: PositiveInt = 10
    min_action_cost: float = 0.1
    min_device_use: float = Field(0.7, ge=0, le=1)


class Config(Settings):
    model: SerializeAsAny[ModelConfig] = Field(default_factory=default_model)
    training: TrainingConfig = TrainingConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    scheduler: SchedulerConfig = SchedulerConfig()
    loss: LossConfig = LossConfig()
    data: DataConfig = DataConfig()
    logging: LoggingConfig = LoggingConfig()
    alarms: AlarmsConfig = AlarmsConfig()

    @field_validator("model", mode="before")
    @classmethod
    def _parse_model(cls, section: object) -> object:
        """Validate the section with the settings of its architecture; `ModelConfig` reports an unknown one."""
        if not isinstance(section, dict):
            return section
        name = section.get("type", DEFAULT_ARCHITECTURE)
        if not isinstance(name, str) or name not in ARCHITECTURES.names():
            return ModelConfig.model_validate({"type": name})
        return model_config_class(name).model_validate(section)

    @model_validator(mode="after")
    def _clip_is_long_enough(self) -> Config:
        context, length = self.training.context_frames, self.data.sequence_length
        longest = max((phase.steps for phase in self.training.unroll), default=1)
        if context + longest > length:
            raise ValueError(
                f"data.sequence_length = {length} is too short for training.context_frames = {context} and a rollout "
                f"of {longest} steps; set at least {context + longest}"
            )
        lanes = self.training.self_rollout
        if lanes is not None and context + lanes.free_steps + lanes.steps > length:
            raise ValueError(
                f"data.sequence_length = {length} is too short for training.context_frames = {context} and the "
                f"{lanes.free_steps + lanes.steps} frames of a visit (training.self_rollout.free_steps + steps); set "
                f"at least {context + lanes.free_steps + lanes.steps}"
            )
        if self.scheduler.min_lr > self.optimizer.lr:
            raise ValueError(
                f"scheduler.min_lr = {self.scheduler.min_lr:g} is above optimizer.lr = {self.optimizer.lr:g}"
            )
        return self
