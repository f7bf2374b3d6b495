"""The critic learns to tell windows apart, by frames, by position and by actions, and gives the model a gradient."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from daydrive import losses
from daydrive.config import CriticConfig
from daydrive.distributed import DistributedContext
from daydrive.models import WorldModel, build_world_model
from daydrive.training.engine import Precision
from daydrive.training.self_rollout.adversary import Adversary, Windows
from daydrive.training.self_rollout.critic import ActionReader, Critic, commands, mismatched
from helpers.architectures import config_of

CPU = torch.device("cpu")
SIZE = (32, 48)


@pytest.fixture(scope="module")
def model() -> WorldModel:
    torch.manual_seed(0)
    return build_world_model(config_of("texture", SIZE))


def adversary(model: WorldModel, **settings: float) -> Adversary:
    precision = Precision(config_of("texture", SIZE, use_amp=False).training, CPU)
    return Adversary(CriticConfig(**settings), model, DistributedContext.single(CPU), precision, seed=1)


def turning(steering: Tensor) -> tuple[Tensor, Tensor]:
    """Windows (N, 3, 3, H, W) of a texture that moves by 20 pixels per frame and unit of steering, and the actions."""
    texture = torch.nn.functional.avg_pool2d(torch.rand(len(steering), 3, 32, 96), 5, 1, 2) * 4 - 2
    moved = [
        [image.roll(int(20 * s) * t, -1) for t in range(3)] for image, s in zip(texture, steering.tolist(), strict=True)
    ]
    frames = torch.stack([torch.stack(window) for window in moved])[..., 24:72].clamp(-1, 1)
    actions = torch.zeros(len(steering), 2, 4)
    actions[..., 0] = steering[:, None]
    return frames, actions


def test_critic_learns_to_tell_blurred_frames_and_wrong_actions_from_real_ones(model: WorldModel) -> None:
    torch.manual_seed(0)
    trained = adversary(model)
    for step in range(40):
        real, actions = turning(0.2 * torch.randn(6).clamp(-2, 2))
        blurred = torch.nn.functional.avg_pool2d(real.flatten(0, 1), 3, 1, 1).view_as(real)
        trained.start(model, step)
        trained.losses(Windows(blurred, real, actions))
        metrics = trained.update()
    assert metrics["critic_accuracy"].mean() > 0.9
    with torch.no_grad():
        wrong = trained.critic(real, mismatched(actions))
        right = trained.critic(real, actions)
    assert losses.relativistic_loss(right, wrong).mean() < losses.relativistic_loss(wrong, right).mean()


def test_reader_learns_the_steering_from_real_windows(model: WorldModel) -> None:
    torch.manual_seed(0)
    reader = ActionReader(SIZE)
    optimizer = torch.optim.AdamW(reader.parameters(), 3e-3)
    for _ in range(80):
        frames, actions = turning(torch.randint(-4, 5, (16,)) / 20)
        loss = (reader(frames) - commands(actions)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    frames, actions = turning(torch.randint(-4, 5, (64,)) / 20)
    with torch.no_grad():
        error = (reader(frames) - commands(actions))[:, 0].square().mean()
    assert error < 0.4 * commands(actions)[:, 0].var()


def test_losses_reach_the_predicted_frames_and_not_the_critic(model: WorldModel) -> None:
    trained = adversary(model)
    real, actions = turning(torch.zeros(4))
    predicted = real.clone().requires_grad_()
    trained.start(model, 100)
    total, parts = trained.losses(Windows(predicted, real, actions))
    assert total.shape == (4,) and set(parts) == {"realism_loss", "action_loss"}
    total.sum().backward()
    assert predicted.grad is not None and predicted.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in trained.parameters())


def test_weight_of_the_losses_rises(model: WorldModel) -> None:
    trained = adversary(model)
    real, actions = turning(torch.zeros(2))
    totals = []
    for step in (0, 14, 29, 90):
        trained.start(model, step)
        totals.append(float(trained.losses(Windows(real, real, actions))[0].sum()))
    assert totals[1] == pytest.approx(15 * totals[0], rel=1e-4) and totals[2] == totals[3]


def test_features_are_those_of_the_model_at_the_first_step(model: WorldModel) -> None:
    trained = adversary(model)
    other = build_world_model(config_of("texture", SIZE))
    with torch.no_grad():
        next(other.encoder.parameters()).add_(1.0)
    trained.start(other, 0)
    assert trained.critic.features is not None
    frozen = next(trained.critic.features.parameters())
    assert torch.equal(frozen, next(other.encoder.parameters())) and not frozen.requires_grad
    trained.start(model, 1)
    assert torch.equal(frozen, next(other.encoder.parameters()))


def test_contents_restore_weights_and_moments(model: WorldModel) -> None:
    torch.manual_seed(0)
    real, actions = turning(0.2 * torch.randn(6))
    first, second = adversary(model), adversary(model)
    for step in range(4):
        if step == 2:
            second.load({name: value.clone() for name, value in first.contents().items()})
        for one in (first, *([second] if step >= 2 else [])):
            torch.manual_seed(step)
            one.start(model, step)
            one.losses(Windows(real.flip(0), real, actions))
            one.update()
    for name, value in first.contents().items():
        assert torch.equal(value, second.contents()[name]), name


@pytest.mark.parametrize("size", [(64, 64), (32, 48), (128, 256)])
def test_critic_works_for_every_image_size(size: tuple[int, int]) -> None:
    critic = Critic(size, None)
    logits = critic(torch.rand(2, 3, 3, *size), torch.rand(2, 2, 4))
    assert [len(part) for part in logits] == [2, 2]


def test_mismatched_actions_swap_left_and_right() -> None:
    actions = torch.zeros(3, 2, 4)
    actions[:, 1, 0] = torch.tensor([0.5, -0.5, 0.0])
    assert mismatched(actions)[:, 1, 0].tolist() == [-0.5, 0.5, 0.0]
