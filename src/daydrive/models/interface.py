"""The interface of model architectures; training, evaluation and visualization depend on it alone.

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
from daydrive.losses import Distance

State = Any
"""State of a rollout, specific to the architecture: nested tuples of tensors of constant size, clips first.

Parts that `step` does not read may be None after `init_state`.
"""

PARTS = ("encoder", "dynamics", "decoder")
"""Submodules that can have a separate learning rate; all other parameters are the 'rest'."""

Result = TypeVar("Result")


class WorldModelOutput(TypedDict):
    """reconstructed: (B, R, 3, H, W), reconstructions of the requested frames; predicted: (B, N, 3, H, W), the rollout
    after the context. Images in [-1, 1].

    Models with latents also return latents: (B, R, ...), of the reconstructed frames; predicted_latents: (B, N, ...).
    """

    reconstructed: Tensor
    predicted: Tensor
    latents: NotRequired[Tensor]
    predicted_latents: NotRequired[Tensor]


class LossOutput(NamedTuple):
    """per_clip: (B,), the loss to minimise; parts: its unweighted terms, (B,) each, logged under their names.

    For metrics, or None if the loss does not compute them: reconstructed (B, R, 3, H, W) and the indices of these
    frames (B, R); predicted (B, N, 3, H, W), a rollout after the context.
    """

    per_clip: Tensor
    parts: dict[str, Tensor]
    reconstructed: Tensor | None = None
    frames: Tensor | None = None
    predicted: Tensor | None = None


class Unit(NamedTuple):
    """A submodule that is sharded and compiled separately; methods: those called from outside of it."""

    module: nn.Module
    methods: tuple[str, ...] = ("forward",)


class GradientCheckpointing(nn.Module):
    """A module that can recompute its activations in the backward pass instead of storing them (Chen et al. 2016)."""

    gradient_checkpointing = False

    def checkpointed(self, function: Callable[..., Result], *inputs: object) -> Result:
        """`function(*inputs)`; when training with `gradient_checkpointing`, only the inputs are stored.

        A convolution at the end of the function is not recomputed, since its gradient needs only its input.
        """
        if not (self.gradient_checkpointing and self.training):
            return function(*inputs)
        result: Result = checkpoint(function, *inputs, use_reentrant=False)
        return result


class Predictor(Protocol):
    """Anything that can be rolled out: every `WorldModel`, adapters and baselines; see `WorldModel` for the methods.

    context_frames: number of real frames that a rollout starts from, at least 1.
    """

    context_frames: int

    def init_state(self, images: Tensor, actions: Tensor, generator: torch.Generator | None = None) -> State: ...

    def step(self, state: State, action: Tensor, generator: torch.Generator | None = None) -> tuple[State, Tensor]: ...


def unroll(
    model: Predictor, context: Tensor, actions: Tensor, generator: torch.Generator | None = None
) -> Iterator[tuple[State, Tensor]]:
    """Yield state and frame (B, 3, H, W) after each action that follows the context (B, C, 3, H, W).

    actions: (B, C-1+N, action_dim), of which the first C-1 lie within the context.
    """
    first = context.shape[1] - 1
    state = model.init_state(context, actions[:, :first], generator)
    for t in range(first, actions.shape[1]):
        state, frame = model.step(state, actions[:, t], generator)
        yield state, frame


class WorldModel(GradientCheckpointing, ABC):
    """Predicts frames from a few real ones and the driver's actions.

    An architecture defines its settings (`config_class`) and implements `init_state`, `step` and `reconstruct`.
    Learning rates and FSDP use its submodules `encoder`, `dynamics` and `decoder` by default.
    """

    config_class: ClassVar[type[ModelConfig]]

    def __init__(self, config: ModelConfig, image_size: tuple[int, int], context_frames: int) -> None:
        """image_size: height and width in pixels; context_frames: see `Predictor`."""
        super().__init__()
        self.config, self.image_size, self.context_frames = config, image_size, context_frames

    @abstractmethod
    def init_state(self, images: Tensor, actions: Tensor, generator: torch.Generator | None = None) -> State:
        """The state after real frames (B, C, 3, H, W) and the actions (B, C-1, action_dim) between them.

        generator: on the CPU; random numbers are drawn from it by `noise.sample_noise`, once for all clips of a batch
        (for each clip with `ClipGenerators`), so that the frames of a clip do not depend on the other clips. None: no
        randomness, the most likely values.
        """

    @abstractmethod
    def step(self, state: State, action: Tensor, generator: torch.Generator | None = None) -> tuple[State, Tensor]:
        """action (B, action_dim) from the newest frame to the next → the new state and the next frame (B, 3, H, W)."""

    def detach_images(self, state: State) -> State:
        """The state, with the images that a step looks at as constants for derivatives.

        The derivative of later frames with respect to earlier actions then passes through the rest of the state alone,
        which costs less than half. The default changes nothing.
        """
        return state

    @abstractmethod
    def reconstruct(self, images: Tensor, actions: Tensor, frames: Sequence[int]) -> Tensor:
        """Reconstructions of the frames of (B, T, 3, H, W) with the indices `frames`: (B, len(frames), 3, H, W).

        They show the information that the representation of a frame loses.
        """

    def forward(
        self,
        images: Tensor,
        actions: Tensor,
        reconstruct: Sequence[int] | None = None,
        generator: torch.Generator | None = None,
    ) -> WorldModelOutput:
        """images (B, T, 3, H, W), actions (B, T-1, action_dim); predicts the T - C frames after the context.

        reconstruct: indices of the frames to reconstruct; default: all.
        """
        frames = list(range(images.shape[1]) if reconstruct is None else reconstruct)
        context = images[:, : self.context_frames]
        predicted = [frame for _, frame in unroll(self, context, actions, generator)]
        return {
            "reconstructed": self.reconstruct(images, actions, frames),
            "predicted": torch.stack(predicted, dim=1),
        }

    def loss(self, images: Tensor, actions: Tensor, config: LossConfig, distance: Distance) -> LossOutput:
        """The training loss of clips (B, T, 3, H, W), weighted by `config`; distance: the perceptual distance.

        The default combines losses of a rollout and of reconstructions; an architecture may define its own.
        """
        context = self.context_frames
        frames = frames_to_reconstruct(images.shape[1], context, config.recon_frames if self.training else None)
        output = self.forward(images, actions, frames)  # not self(...): FSDP's hooks are on `loss`
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
        indices = torch.tensor(frames, device=images.device).expand(len(images), -1)
        return LossOutput(per_clip, parts, output["reconstructed"], indices, predicted)

    def param_groups(self) -> dict[str, dict[str, nn.Parameter]]:
        """Named parameters by part, see `PARTS`; parts without parameters are omitted."""
        groups: dict[str, dict[str, nn.Parameter]] = {part: {} for part in (*PARTS, "rest")}
        for name, parameter in self.named_parameters():
            part = name.split(".", 1)[0]
            groups[part if part in PARTS else "rest"][name] = parameter
        return {part: named for part, named in groups.items() if named}

    def end_weights(self) -> set[str]:
        """Names of input, output and embedding weights, which Muon leaves to AdamW."""
        return set()

    def parallel_units(self) -> list[Unit]:
        """Submodules that FSDP shards and torch.compile compiles separately; only the named methods are called."""
        return [Unit(getattr(self, part)) for part in PARTS if isinstance(getattr(self, part, None), nn.Module)]

    def enable_gradient_checkpointing(self, enabled: bool = True) -> None:
        """Recompute activations in the backward pass in all modules that support it; gradients stay the same."""
        for module in self.modules():
            if isinstance(module, GradientCheckpointing):
                module.gradient_checkpointing = enabled

    @classmethod
    def current_name(cls, name: str, format: int) -> str:
        """The current name of the weight that is called `name` in a checkpoint of an older format."""
        return name


class MotionFields(NamedTuple):
    """How a step composed its frame. flow: (B, 2, H, W), backward flow in pixels from each pixel to the previous frame,
    x before y; new: (B, 1, H, W) in [0, 1], mask of content generated in this step; retained: (B, 1, H, W) in [0, 1],
    how much of the last real frame still shows; overlay: (B, 3, H, W), content generated so far, times its opacity."""

    flow: Tensor
    new: Tensor
    retained: Tensor
    overlay: Tensor


@runtime_checkable
class HasMotion(Protocol):
    """Optional: a model that warps previous frames and provides its motion fields."""

    def motion_fields(self, state: State) -> MotionFields:
        """The motion fields of the step that led to `state`."""


@runtime_checkable
class HasLatents(Protocol):
    """Optional: a model with a grid of latents per frame and a recurrent state on a grid."""

    def encode(self, images: Tensor) -> Tensor:
        """images (B, T, 3, H, W) → latents (B, T, D, h, w)."""

    def memory_grid(self, state: State) -> Tensor:
        """The recurrent state, (B, D', h, w)."""


@runtime_checkable
class HasFeatures(Protocol):
    """Optional: a model with a network whose features describe short windows of frames, for the critic."""

    def feature_network(self) -> nn.Module:
        """Maps windows (N, 3, 3, H, W) in [-1, 1], the newest frame last, to feature maps (N, C, h, w)."""


def frames_to_reconstruct(length: int, context_frames: int, count: int | None) -> list[int]:
    """Indices of the `count` newest frames of the context; of all frames if `count` is None or at least `length`."""
    if count is None or count >= length:
        return list(range(length))
    return list(range(context_frames))[-count:]
