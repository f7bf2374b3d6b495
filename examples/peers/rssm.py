"""A recurrent state-space model: the world model of Dreamer (Hafner et al. 2019, 2020, 2023) in small, for a processor.

Its state is a vector that a GRU carries along and a few categorical variables. The posterior sees the frame, the prior
has to foresee it; the loss brings them together. Pictures are decoded from the state, with nothing copied.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.distributions import Categorical, kl_divergence
from torch.nn import functional as F

from daydrive.evaluation.adapter import Context

FREE_NATS = 1.0
DYNAMICS, REPRESENTATION = 1.0, 0.1
"""What the prior's way to the posterior costs, and the posterior's to the prior (KL balancing, DreamerV3)."""
UNIFORM = 0.01
"""Share of the uniform distribution in each categorical."""


SHARP = 4.0
"""Factor of the logits: drawn from nearly uniform ones, as new weights give, the variables would be noise that the
decoder learns to ignore."""
LOUD = 5.0
"""Factor of the actions, small numbers beside one-hot variables."""


class State(NamedTuple):
    """memory: (B, memory); variables: (B, groups * classes), one-hot each."""

    memory: Tensor
    variables: Tensor

    @property
    def features(self) -> Tensor:
        return torch.cat(self, -1)


class RSSM(nn.Module):
    """image_size: divisible by 16. channels: of the encoder at 1/2 to 1/16 of the picture's size, of the decoder
    backwards. memory: of the GRU. groups, classes: how many categorical variables, and of how many values."""

    lr, batch_size, clip_length = 1e-3, 8, 12
    """For training."""

    def __init__(
        self,
        image_size: Sequence[int] = (64, 64),
        channels: Sequence[int] = (24, 48, 96, 128),
        memory: int = 256,
        hidden: int = 256,
        groups: int = 32,
        classes: int = 16,
    ) -> None:
        super().__init__()
        self.settings: dict[str, Any] = {
            "image_size": list(image_size), "channels": list(channels), "memory": memory, "hidden": hidden,
            "groups": groups, "classes": classes,
        }  # fmt: skip
        self.groups, self.classes, self.memory = groups, classes, memory
        grid = (channels[-1], image_size[0] // 16, image_size[1] // 16)
        cells = grid[0] * grid[1] * grid[2]
        variables = groups * classes
        down = [_down(a, b) for a, b in pairwise((3, *channels))]
        self.encoder = nn.Sequential(*down, nn.Flatten(), nn.Linear(cells, hidden))
        self.enter = nn.Sequential(nn.Linear(variables + 4, hidden), nn.LayerNorm(hidden), nn.SiLU())
        self.cell = nn.GRUCell(hidden, memory)
        self.prior = _head(memory, hidden, variables)
        self.posterior = _head(memory + hidden, hidden, variables)
        up = [_up(a, b) for a, b in pairwise(channels[::-1])]
        self.decoder = nn.Sequential(
            nn.Linear(memory + variables, cells), nn.Unflatten(1, grid), *up,
            nn.ConvTranspose2d(channels[0], 3, 4, 2, 1),
        )  # fmt: skip
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def begin(self, batch: int) -> State:
        zeros = next(self.parameters()).new_zeros
        return State(zeros(batch, self.memory), zeros(batch, self.groups * self.classes))

    def encode(self, images: Tensor) -> Tensor:
        """uint8 (..., 3, H, W) → (..., hidden)."""
        flat = images.flatten(0, -4).float().div_(255).sub_(0.5)
        return self.encoder(flat.contiguous(memory_format=torch.channels_last)).unflatten(0, images.shape[:-3])

    def decode(self, features: Tensor) -> Tensor:
        """(..., memory + variables) → pictures (..., 3, H, W), around [-0.5, 0.5]."""
        return self.decoder(features.flatten(0, -2)).unflatten(0, features.shape[:-1])

    def advance(self, state: State, action: Tensor) -> Tensor:
        """The memory after an action (B, 4)."""
        return self.cell(self.enter(torch.cat((state.variables, LOUD * action), -1)), state.memory)

    def logits(self, head: nn.Module, inputs: Tensor) -> Tensor:
        """(..., groups, classes), normalised."""
        odds = (SHARP * head(inputs)).unflatten(-1, (self.groups, self.classes)).softmax(-1)
        return ((1 - UNIFORM) * odds + UNIFORM / self.classes).log()

    def draw(self, logits: Tensor, noise: Tensor) -> Tensor:
        """One-hot draws (B, groups * classes), whose gradient is that of their probabilities; noise: uniform in (0, 1),
        which chooses by Gumbel's trick."""
        chosen = F.one_hot((logits - (-noise.log()).log()).argmax(-1), self.classes).to(logits)
        odds = logits.exp()
        return (chosen + odds - odds.detach()).flatten(-2)

    def observe(self, images: Tensor, actions: Tensor, noise: Tensor) -> tuple[list[State], Tensor, Tensor]:
        """uint8 (B, T, 3, H, W), (B, T-1, 4), uniform (T, B or 1, groups, classes) → T states, and the logits
        (B, T, groups, classes) of posterior and prior."""
        seen = self.encode(images)
        before = torch.cat((torch.zeros_like(actions[:, :1]), actions), 1)
        state, states, posteriors = self.begin(len(images)), [], []
        for t in range(images.shape[1]):
            memory = self.advance(state, before[:, t])
            posteriors.append(self.logits(self.posterior, torch.cat((memory, seen[:, t]), -1)))
            state = State(memory, self.draw(posteriors[-1], noise[t]))
            states.append(state)
        priors = self.logits(self.prior, torch.stack([state.memory for state in states], 1))
        return states, torch.stack(posteriors, 1), priors

    def imagine(self, state: State, action: Tensor, noise: Tensor) -> State:
        """The next state without seeing; noise as for `draw`."""
        memory = self.advance(state, action)
        return State(memory, self.draw(self.logits(self.prior, memory), noise))

    def loss(self, images: Tensor, actions: Tensor) -> Tensor:
        """Squared error of the pictures, summed over pixels, and the two divergences; means over frames.

        Pictures are what costs time: half of the frames are decoded, other ones each time.
        """
        shape = (images.shape[1], len(images), self.groups, self.classes)
        states, posterior, prior = self.observe(images, actions, uniform(shape))
        some = torch.randperm(len(states))[: (len(states) + 1) // 2]
        decoded = self.decode(torch.stack([states[t].features for t in some.tolist()], 1))
        error = (decoded - (images[:, some].float() / 255 - 0.5)).square().sum((-3, -2, -1)).mean()
        return error + balanced(posterior, prior)


def uniform(shape: Sequence[int], generator: torch.Generator | None = None) -> Tensor:
    """In (0, 1), both ends left out."""
    return torch.rand(*shape, generator=generator).clamp_(1e-6, 1 - 1e-6)


def balanced(posterior: Tensor, prior: Tensor) -> Tensor:
    """The divergence of normalised logits (..., groups, classes), each side with a weight of its own."""
    dynamics, representation = _divergence(posterior.detach(), prior), _divergence(posterior, prior.detach())
    return DYNAMICS * dynamics + REPRESENTATION * representation


def _divergence(posterior: Tensor, prior: Tensor) -> Tensor:
    nats = kl_divergence(Categorical(logits=posterior), Categorical(logits=prior)).sum(-1)
    return nats.mean().clamp(min=FREE_NATS)


def _head(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.LayerNorm(hidden), nn.SiLU(), nn.Linear(hidden, outputs))


def _down(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 4, 2, 1), nn.GroupNorm(1, outputs), nn.SiLU())


def _up(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.ConvTranspose2d(inputs, outputs, 4, 2, 1), nn.GroupNorm(1, outputs), nn.SiLU())


class RSSMAdapter:
    """The model as a dreamer. All clips of a batch get the same noise, which is that of every dream, so that a dream
    depends on its own context and actions alone."""

    name, context = "rssm", 4

    def __init__(self, model: RSSM) -> None:
        self.model = model.eval()

    @torch.no_grad()
    def reset(self, context: Context) -> None:
        self._noise = torch.Generator().manual_seed(0)
        self._device = next(self.model.parameters()).device
        noise = self._uniform(context.images.shape[1], 1)
        states, _, _ = self.model.observe(context.images.to(self._device), context.actions.to(self._device), noise)
        self._state = states[-1]

    @torch.no_grad()
    def step(self, action: Tensor) -> Tensor:
        self._state = self.model.imagine(self._state, action.to(self._device), self._uniform(1))
        picture = self.model.decode(self._state.features)
        return picture.add(0.5).mul(255).round().clamp(0, 255).to(torch.uint8)

    def _uniform(self, *shape: int) -> Tensor:
        return uniform((*shape, self.model.groups, self.model.classes), self._noise).to(self._device)


def load(checkpoint: Path, device: torch.device) -> RSSMAdapter:
    """A folder that `train.py` made → its model, for `evaluate --adapter`."""
    model = RSSM(**json.loads((checkpoint / "model.json").read_text())["settings"])
    model.load_state_dict(load_file(checkpoint / "model.safetensors"))
    return RSSMAdapter(model.to(device))
