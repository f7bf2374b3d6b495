"""Training of the critic and of the action reader, and the losses that they give the model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from daydrive import losses, tensors
from daydrive.config import CriticConfig
from daydrive.distributed import DistributedContext
from daydrive.models import HasFeatures, WorldModel
from daydrive.training.distributed import average_gradients
from daydrive.training.engine import Precision
from daydrive.training.self_rollout.critic import ActionReader, Critic, commands, mismatched

RAMP_STEPS = 30
"""Steps over which the weight of the losses rises to its full value, while critic and reader learn their first."""

NOISE = 0.05
"""Standard deviation of the noise under which the critic's logits should hardly change."""


class Windows(NamedTuple):
    """Windows of frames (N, 3, 3, H, W), continued by the model and real, of the same moments, with the actions (N, 2,
    action_dim) between their frames."""

    predicted: Tensor
    real: Tensor
    actions: Tensor


class Adversary(nn.Module):
    """Critic, action reader and their optimizer; the same on all processes.

    They are updated after each step of the model, on the windows of that step.
    """

    def __init__(
        self, config: CriticConfig, model: WorldModel, dist: DistributedContext, precision: Precision, seed: int
    ) -> None:
        super().__init__()
        self.config, self._dist, self._precision = config, dist, precision
        with torch.random.fork_rng([]):
            torch.manual_seed(seed)
            features = model.feature_network() if isinstance(model, HasFeatures) else None
            self.critic = Critic(model.image_size, features).to(dist.device)
            self.reader = ActionReader(model.image_size).to(dist.device)
        self._trained = [*self.critic.trained_parameters(), *self.reader.parameters()]
        self.optimizer = torch.optim.AdamW(self._trained, config.lr, betas=(0.5, 0.95), weight_decay=1e-4)
        self._windows: list[Windows] = []

    def start(self, model: WorldModel, step: int) -> None:
        """Prepare for step number `step` of the self-rollouts. At the first one, the critic's features become those of
        the model as it is now."""
        self._windows, self._step = [], step
        if step == 0 and isinstance(model, HasFeatures) and self.critic.features is not None:
            self.critic.features.load_state_dict(model.feature_network().state_dict())

    def losses(self, windows: Windows) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted loss (N,) of the predicted windows, and its parts. The windows are remembered for `update`."""
        self._windows.append(windows._replace(predicted=windows.predicted.detach()))
        with self._frozen(), self._precision.autocast():
            with torch.no_grad():
                real = self.critic(windows.real, windows.actions)
            predicted = self.critic(windows.predicted, windows.actions)
            realism = losses.relativistic_loss(_floats(predicted), _floats(real))
            read = self.reader(windows.predicted).float()
        action = (read - commands(windows.actions)).square().mean(1)
        ramp = min(1.0, (self._step + 1) / RAMP_STEPS)
        total = ramp * (self.config.weight * realism + self.config.action_weight * action)
        return total, {"realism_loss": realism, "action_loss": action}

    def update(self) -> dict[str, Tensor]:
        """One optimizer step on the windows of the step; returns metrics (N,) of them."""
        windows = Windows(*(torch.cat(parts) for parts in zip(*self._windows, strict=True)))
        self._windows = []
        with self._precision.autocast():
            predicted = _floats(self.critic(windows.predicted, windows.actions))
            real = _floats(self.critic(windows.real, windows.actions))
            read = self.reader(windows.real).float()
            loss = losses.relativistic_loss(real, predicted)
            regular = self._regularization(windows, predicted, real)
        reading = (read - commands(windows.actions)).square().mean(1)
        self.optimizer.zero_grad(set_to_none=True)
        (loss.mean() + regular + reading.mean()).backward()
        average_gradients(self._trained, self._dist)
        self.optimizer.step()
        right = torch.stack([(r > p).float().mean(1) for r, p in zip(real, predicted, strict=True)]).mean(0)
        metrics = {"critic_loss": loss, "critic_accuracy": right, "critic_reading_loss": reading}
        return {name: value.detach() for name, value in metrics.items()}

    def contents(self) -> dict[str, Tensor]:
        """Weights and moments by name."""
        weights = {f"weights.{name}": value for name, value in self.state_dict().items()}
        return {**weights, **{f"moments.{n}": v for n, v in tensors.moments([self.optimizer], self).items()}}

    def load(self, contents: dict[str, Tensor]) -> None:
        """Restore what `contents` returned. Raises RuntimeError for another critic's weights."""
        self.load_state_dict({n.removeprefix("weights."): v for n, v in contents.items() if n.startswith("weights.")})
        named = dict(self.named_parameters())
        for name, value in contents.items():
            if name.startswith("moments."):
                parameter, _, moment = name.removeprefix("moments.").partition(":")
                target = value.clone() if moment == "step" else value.to(named[parameter].device)
                self.optimizer.state[named[parameter]][moment] = target

    def _regularization(self, windows: Windows, predicted: list[Tensor], real: list[Tensor]) -> Tensor:
        """In turn: logits that hardly change under noise, and real windows with wrong actions as not real."""
        if self._step % 2 == 0:
            half = max(1, len(windows.actions) // 2)
            total = torch.zeros((), device=windows.actions.device)
            for frames, logits in ((windows.predicted, predicted), (windows.real, real)):
                noisy = frames[:half] + NOISE * torch.randn_like(frames[:half])
                changed = _floats(self.critic(noisy, windows.actions[:half]))
                total = total + sum((a[:half] - b).square().mean() for a, b in zip(logits, changed, strict=True))
            return self.config.penalty * total
        wrong = _floats(self.critic(windows.real, mismatched(windows.actions)))
        return self.config.mismatch_weight * losses.relativistic_loss(real, wrong).mean()

    @contextmanager
    def _frozen(self) -> Iterator[None]:
        for parameter in self._trained:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter in self._trained:
                parameter.requires_grad_(True)


def _floats(logits: list[Tensor]) -> list[Tensor]:
    return [part.float() for part in logits]
