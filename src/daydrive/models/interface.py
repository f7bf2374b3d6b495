"""What every model architecture provides; training, evaluation and visualization depend on this alone.

Shapes: B clips, T frames, C context frames, N = T - C predicted frames, R reconstructed ones, H height, W width.
Images are in [-1, 1]; `actions[:, t]` is what the driver does between frames t and t+1.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, NamedTuple, NotRequired, Protocol, TypedDict, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from daydrive import losses
from daydrive.config import LossConfig, ModelConfig

State = Any
"""All that a rollout knows, as its architecture likes: tensors in tuples, constant in size."""

Distance = Callable[[Tensor, Tensor], Tensor]
"""Two clips (B, T, 3, H, W) in [-1, 1] → the mean distance of each, (B,)."""

PARTS = ("encoder", "dynamics", "decoder")
"""Parts of a model that can have a learning rate of their own; what belongs to none is the 'rest'."""

Result = TypeVar("Result")


class WorldModelOutput(TypedDict):
    """reconstructed: (B, R, 3, H, W), frames as the model makes them having seen them, those asked for; predicted:
    (B, N, 3, H, W), the rollout from the context on. Images in [-1, 1].

    Of a model with latents also latents: (B, R, ...) of the reconstructed frames, and predicted_latents: (B, N, ...).
    """

    reconstructed: Tensor
    predicted: Tensor
    latents: NotRequired[Tensor]
    predicted_latents: NotRequired[Tensor]


class LossOutput(NamedTuple):
    """per_clip: (B,), what is minimised; parts: what it is made of, unweighted, (B,) each, logged by these names.

    For the metrics, where the loss has made them (None where not): reconstructed (B, R, 3, H, W) and the numbers of
    these frames (B, R); predicted (B, N, 3, H, W), a rollout from the context on.
    """

    per_clip: Tensor
    parts: dict[str, Tensor]
    reconstructed: Tensor | None = None
    frames: Tensor | None = None
    predicted: Tensor | None = None


class Unit(NamedTuple):
    """A part that is sharded and compiled on its own; methods: those by which it is called from outside."""

    module: nn.Module
    methods: tuple[str, ...] = ("forward",)


class GradientCheckpointing(nn.Module):
    """A part that can compute its activations again in the backward pass instead of keeping them (Chen et al. 2016)."""

    gradient_checkpointing = False

    def checkpointed(self, function: Callable[..., Result], *inputs: object) -> Result:
        """`function(*inputs)`; while training with `gradient_checkpointing`, only the inputs are kept.

        A convolution at the function's end is not computed again: its own gradient needs what goes into it only.
        """
        if not (self.gradient_checkpointing and self.training):
            return function(*inputs)
        result: Result = checkpoint(function, *inputs, use_reentrant=False)
        return result


class Predictor(Protocol):
    """What can be rolled out: every `WorldModel`, and what stands in for one. See there for shapes and ranges.

    context_frames: real frames that it wants to see, at least 1.
    """

    context_frames: int

    def init_state(self, images: Tensor, actions: Tensor, generator: torch.Generator | None = None) -> State: ...

    def step(self, state: State, action: Tensor, generator: torch.Generator | None = None) -> tuple[State, Tensor]: ...


def unroll(
    model: Predictor, context: Tensor, actions: Tensor, generator: torch.Generator | None = None
) -> Iterator[tuple[State, Tensor]]:
    """State and frame (B, 3, H, W) after each action that follows the context (B, C, 3, H, W).

    actions: (B, C-1+N, action_dim), of which the first C-1 lie in the context.
    """
    first = context.shape[1] - 1
    state = model.init_state(context, actions[:, :first], generator)
    for t in range(first, actions.shape[1]):
        state, frame = model.step(state, actions[:, t], generator)
        yield state, frame


class WorldModel(GradientCheckpointing, ABC):
    """Predicts frames from a few real ones and the driver's actions.

    An architecture names its settings (`config_class`) and has at least `init_state`, `step` and `reconstruct`.
    Submodules called `encoder`, `dynamics` and `decoder` are all that learning rates and FSDP need to know of it.
    """

    config_class: ClassVar[type[ModelConfig]]

    def __init__(self, config: ModelConfig, image_size: tuple[int, int], context_frames: int) -> None:
        """image_size: height and width in pixels; context_frames: real frames that a rollout begins with."""
        super().__init__()
        self.config, self.image_size, self.context_frames = config, image_size, context_frames

    @abstractmethod
    def init_state(self, images: Tensor, actions: Tensor, generator: torch.Generator | None = None) -> State:
        """The state after real frames (B, C, 3, H, W) and the actions (B, C-1, action_dim) between them.

        generator: on the processor; what a model samples is drawn from it once for all clips of a batch, so that a
        clip's frames don't depend on the others. None: the most likely values, and no randomness.
        """

    @abstractmethod
    def step(self, state: State, action: Tensor, generator: torch.Generator | None = None) -> tuple[State, Tensor]:
        """action (B, action_dim), from the newest frame to the next → the new state and that frame (B, 3, H, W)."""

    @abstractmethod
    def reconstruct(self, images: Tensor, actions: Tensor, frames: Sequence[int]) -> Tensor:
        """The numbered frames of (B, T, 3, H, W) as the model makes them having seen them: (B, len(frames), 3, H, W).

        What the model can't hold of a frame shows here.
        """

    def forward(
        self,
        images: Tensor,
        actions: Tensor,
        reconstruct: Sequence[int] | None = None,
        generator: torch.Generator | None = None,
    ) -> WorldModelOutput:
        """images (B, T, 3, H, W), actions (B, T-1, action_dim); predicts the T - C frames after the context.

        reconstruct: numbers of the frames to reconstruct; all without it.
        """
        frames = list(range(images.shape[1]) if reconstruct is None else reconstruct)
        context = images[:, : self.context_frames]
        predicted = [frame for _, frame in unroll(self, context, actions, generator)]
        return {
            "reconstructed": self.reconstruct(images, actions, frames),
            "predicted": torch.stack(predicted, dim=1),
        }

    def loss(self, images: Tensor, actions: Tensor, config: LossConfig, distance: Distance) -> LossOutput:
        """The training loss of clips (B, T, 3, H, W), weighed by `config`; distance: the perceptual one.

        This one is of a rollout and of what is reconstructed; an architecture may have another, with parts of its own.
        """
        context = self.context_frames
        frames = frames_to_reconstruct(images.shape[1], context, config.recon_frames if self.training else None)
        output = self.forward(images, actions, frames)  # not self(...): FSDP's hooks are on `loss` already
        with torch.autocast(images.device.type, enabled=False):
            real, predicted = images[:, context:], output["predicted"]
            parts = {
                "recon_loss": losses.reconstruction_loss(output["reconstructed"], images[:, frames]),
                "pred_loss": losses.prediction_loss(predicted, real),
                "perceptual_loss": distance(predicted, real),
            }
            if "latents" in output:
                parts["latent_reg_loss"] = losses.latent_regularisation(output["latents"])
            parts["temporal_loss"] = losses.temporal_loss(predicted, real, images[:, context - 1])
            factors = {
                "recon_loss": config.recon_weight,
                "pred_loss": config.pred_weight,
                "perceptual_loss": config.perceptual_weight,
                "latent_reg_loss": config.latent_reg_weight,
                "temporal_loss": config.temporal_weight,
            }
            per_clip = torch.stack([factors[name] * part for name, part in parts.items()]).sum(dim=0)
        numbers = torch.tensor(frames, device=images.device).expand(len(images), -1)
        return LossOutput(per_clip, parts, output["reconstructed"], numbers, predicted)

    def param_groups(self) -> dict[str, dict[str, nn.Parameter]]:
        """Named parameters by part, see `PARTS`; a part without any is left out."""
        groups: dict[str, dict[str, nn.Parameter]] = {part: {} for part in (*PARTS, "rest")}
        for name, parameter in self.named_parameters():
            part = name.split(".", 1)[0]
            groups[part if part in PARTS else "rest"][name] = parameter
        return {part: named for part, named in groups.items() if named}

    def end_weights(self) -> set[str]:
        """Names of weights that meet images or places, whose rows are no directions: Muon leaves them to AdamW."""
        return set()

    def parallel_units(self) -> list[Unit]:
        """What FSDP shards and torch.compile compiles, one by one: each is called only by the methods named."""
        return [Unit(getattr(self, part)) for part in PARTS if isinstance(getattr(self, part, None), nn.Module)]

    def enable_gradient_checkpointing(self, enabled: bool = True) -> None:
        """Let all parts that can compute their activations again in the backward pass; gradients stay the same."""
        for module in self.modules():
            if isinstance(module, GradientCheckpointing):
                module.gradient_checkpointing = enabled

    @classmethod
    def current_name(cls, name: str, format: int) -> str:
        """What a weight that a checkpoint of an older format calls `name` is called today."""
        return name


class MotionFields(NamedTuple):
    """How a step made its frame. flow: (B, 2, H, W), in pixels, from each place back to the frame before, x before y;
    new: (B, 1, H, W) in [0, 1], what the step paints anew; kept: (B, 1, H, W) in [0, 1], how much of the last real
    frame still shows; overlay: (B, 3, H, W), what was painted since, times its opacity."""

    flow: Tensor
    new: Tensor
    kept: Tensor
    overlay: Tensor


@runtime_checkable
class HasMotion(Protocol):
    """Optional: a model that moves the last image and can say how."""

    def motion_fields(self, state: State) -> MotionFields:
        """Of the step that led to `state`."""


@runtime_checkable
class HasLatents(Protocol):
    """Optional: a model with a grid of latents for each frame, and one that it remembers."""

    def encode(self, images: Tensor) -> Tensor:
        """images (B, T, 3, H, W) → latents (B, T, D, h, w)."""

    def memory_grid(self, state: State) -> Tensor:
        """What the dynamics remember, (B, D', h, w)."""


def frames_to_reconstruct(length: int, context_frames: int, count: int | None) -> list[int]:
    """The `count` newest frames of the context; all frames of the clip without a count, or for more than there are."""
    if count is None or count >= length:
        return list(range(length))
    return list(range(context_frames))[-count:]
