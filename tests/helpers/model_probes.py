"""Probes of `model`, `loss`, `optimizer` and `scheduler`: modules, losses and updates."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from daydrive.config import Config
from daydrive.data.sampling.clips import fixed_clips, read_clips
from daydrive.data.store.store import Store
from daydrive.models import build_world_model
from daydrive.models.texture.model import TextureWorldModel
from daydrive.perceptual import BACKBONES, LPIPS, build_perceptual
from daydrive.training.distributed import DistributedContext
from daydrive.training.engine import Engine
from daydrive.training.optim.param_groups import build_optimizers, learning_rates, set_learning_rates
from daydrive.training.step import StepResult
from helpers.probes import Probe, differs, gives, near

CPU = torch.device("cpu")
PARTS = ("recon", "pred", "perceptual", "latent_reg", "temporal")
SQUARE = "model.image_size=[64, 64]"


def built(config: Config) -> TextureWorldModel:
    torch.manual_seed(0)
    model = build_world_model(config).eval()
    assert isinstance(model, TextureWorldModel)
    return model


def images(config: Config) -> torch.Tensor:
    height, width = config.model.image_size or (64, 64)
    return torch.rand(1, 4, 3, height, width, generator=torch.Generator().manual_seed(0)) * 2 - 1


@torch.no_grad()
def latent_channels(config: Config) -> int:
    return built(config).encode(images(config)).shape[2]


@torch.no_grad()
def latent_grid(config: Config) -> tuple[int, ...]:
    return tuple(built(config).encode(images(config)).shape[3:])


@torch.no_grad()
def memory_shapes(config: Config) -> list[tuple[int, ...]]:
    state = built(config).init_state(images(config), torch.zeros(1, 3, config.model.action_dim))
    return [tuple(layer.shape[1:]) for layer in state.hidden]


@torch.no_grad()
def features_of_the_stages(config: Config) -> list[int]:
    return [feature.shape[1] for feature in built(config).encoder(images(config)[:, :3]).features]


@torch.no_grad()
def painted(config: Config) -> list[float]:
    """Weights without zeros; the last ones of the attention are initialized with zeros."""
    model = built(config)
    for weight in model.parameters():
        nn.init.normal_(weight, std=0.2)
    return model.decode(model.encode(images(config)[:, :1])).flatten()[:50].tolist()


@torch.no_grad()
def painted_motion(config: Config) -> list[float]:
    """The rollout of weights without zeros."""
    model = built(config)
    for weight in model.parameters():
        nn.init.normal_(weight, std=0.2)
    return model(images(config), torch.zeros(1, 3, 4))["predicted"].flatten()[:50].tolist()


@torch.no_grad()
def rollout_size(config: Config) -> tuple[int, ...]:
    return tuple(built(config)(images(config), torch.zeros(1, 3, 4))["predicted"].shape[-2:])


@torch.no_grad()
def widths_of_the_decoder(config: Config) -> list[int]:
    """Shapes of the outputs of each stage."""
    model, widths = built(config), []
    for stage in model.decoder.stages:
        stage.register_forward_hook(lambda _, __, output: widths.append(output.shape[1]))
    model.decode(torch.zeros(1, config.model.latent_dim, 16, 16))
    return widths


@torch.no_grad()
def actions_taken(config: Config) -> list[int]:
    """The supported sizes of an action vector."""
    model, taken = built(config), []
    for count in (4, 6):
        try:
            model(images(config), torch.zeros(1, 3, count))
            taken.append(count)
        except RuntimeError:
            pass
    return taken


@torch.no_grad()
def rollouts_agree_in_training(config: Config) -> bool:
    model, actions = built(config).train(), torch.zeros(1, 3, 4)
    first, second = (model(images(config), actions)["predicted"] for _ in range(2))
    return torch.equal(first, second)


@torch.no_grad()
def seeds_agree(config: Config) -> bool:
    """Whether rollouts with different seeds are the same."""
    model, actions = built(config).eval(), torch.zeros(1, 3, 4)
    first, second = (
        model(images(config), actions, generator=torch.Generator().manual_seed(seed))["predicted"] for seed in (0, 1)
    )
    return torch.equal(first, second)


def evaluated(config: Config) -> StepResult:
    """A batch of two clips of the store."""
    store = Store.open(config.data.root or Path())
    engine = Engine(config, DistributedContext.single(CPU))
    engine.wrapped.train()
    return engine.evaluate(read_clips(store, fixed_clips(store, "train", config.data.sequence_length, 2)))


def frames_reconstructed(config: Config) -> list[int]:
    frames = evaluated(config).output.frames
    assert frames is not None
    return frames[0].tolist()


def factor(part: str) -> Callable[[Config], float]:
    """The factor of one term in the total loss."""

    def see(config: Config) -> float:
        result = evaluated(config)
        return result.loss.item() / float(result.parts[f"{part}_loss"].mean())

    return see


def convolutions_of_the_perceptual_loss(config: Config) -> int:
    kind = config.loss.perceptual
    distance = build_perceptual(kind, untrained_network(kind, Path("weights-1.safetensors")), CPU)
    return sum(isinstance(layer, nn.Conv2d) for layer in distance.modules()) if isinstance(distance, nn.Module) else 0


def perceptual_distance(config: Config) -> float:
    assert config.loss.perceptual_weights is not None
    untrained_network(config.loss.perceptual, config.loss.perceptual_weights)
    return float(evaluated(config).parts["perceptual_loss"].mean())


def untrained_network(kind: str, file: Path) -> Path | None:
    """Write LPIPS weights that depend on the number in the file's name."""
    if kind == "structure":
        return None
    network = LPIPS(BACKBONES[kind])
    for weight in network.calibration:
        nn.init.constant_(weight, int(file.stem.split("-")[1]))
    save_file(network.state_dict(), file)
    return file


def optimizers_of(config: Config) -> tuple[TextureWorldModel, list[torch.optim.Optimizer]]:
    model = built(config)
    return model, build_optimizers(model, config.optimizer)


def kinds_of_optimizers(config: Config) -> list[str]:
    return [type(optimizer).__name__ for optimizer in optimizers_of(config)[1]]


def rates(config: Config) -> dict[str, float]:
    return learning_rates(optimizers_of(config)[1])


def updated(config: Config, steps: int) -> list[torch.Tensor]:
    """A weight of the encoder before and after several updates with a gradient of ones."""
    model, optimizers = optimizers_of(config)
    weight = model.encoder.in_proj[1].weight
    values = [weight.detach().clone()]
    for _ in range(steps):
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        for optimizer in optimizers:
            optimizer.step()
        values.append(weight.detach().clone())
    return values


def decay(config: Config) -> float:
    """The additional decrease of a weight that is larger by one, relative to the learning rate."""
    before, after = updated(config, 1)
    moved, high, low = (before - after).flatten(), before.argmax(), before.argmin()
    return float((moved[high] - moved[low]) / (before.max() - before.min())) / config.optimizer.lr


def moments(config: Config) -> list[float]:
    """AdamW's moments after one gradient of ones."""
    model, optimizers = optimizers_of(config)
    weight = model.encoder.in_proj[1].weight
    weight.grad = torch.ones_like(weight)
    optimizers[0].step()
    return [float(optimizers[0].state[weight][name].mean()) for name in ("exp_avg", "exp_avg_sq")]


def second_step_over_first(config: Config) -> float:
    start, once, twice = updated(config, 2)
    return float(((twice - once) / (once - start)).mean())


def schedule(config: Config) -> list[float]:
    """The rate of the decoder at the steps 0, 2, 4, 8 and 20 of 21, in thousandths."""
    optimizers = optimizers_of(config)[1]
    rates = []
    for step in (0, 2, 4, 8, 20):
        set_learning_rates(optimizers, step, 21, config.scheduler)
        rates.append(round(1e3 * learning_rates(optimizers)["decoder"], 4))
    return rates


def only(part: str) -> list[str]:
    return [f"loss.{other}_weight=0.0" for other in PARTS if other != part] + [SQUARE, "training.use_amp=false"]


def rates_with(**own: float) -> dict[str, object]:
    return {part: near(own.get(part, 1e-2)) for part in ("encoder", "dynamics", "decoder")}


THREE_SEEN = "training.context_frames=3"
PLAIN = ("optimizer.type=sgd", "optimizer.lr=1e-2", "optimizer.momentum=0.0", "optimizer.weight_decay=0.0", SQUARE)
FOUR_STEPS = ("scheduler.warmup_steps=4", "scheduler.min_lr=0.0", "optimizer.lr=1e-3", SQUARE)

PROBES: dict[str, Probe] = {
    "model.type": gives(
        lambda config: type(build_world_model(config)).__name__,
        {"texture": "TextureWorldModel", "rssm": "RSSM", "diffusion": "Diffusion"},
        "model={}",
        SQUARE,
    ),
    "model.latent_dim": gives(latent_channels, {"8": 8, "12": 12}, SQUARE),
    "model.action_dim": gives(actions_taken, {"4": [4], "6": [6]}, SQUARE, THREE_SEEN),
    "model.hidden_dim": gives(memory_shapes, {"16": [(16, 16, 16)], "24": [(24, 16, 16)]}, SQUARE),
    "model.image_size": gives(rollout_size, {"[64, 64]": (64, 64), "[64, 128]": (64, 128)}, THREE_SEEN),
    "model.encoder.stages": gives(features_of_the_stages, {"[8, 16]": [8, 16], "[6, 8, 12]": [6, 8, 12]}, SQUARE),
    "model.encoder.num_heads": differs(painted, ["1", "2", "4"], SQUARE),
    "model.dynamics.num_layers": gives(
        memory_shapes, {"1": [(16, 16, 16)], "3": [(16, 16, 16)] * 3}, SQUARE
    ),
    "model.dynamics.dropout": gives(rollouts_agree_in_training, {"0.0": True, "0.3": False}, SQUARE, THREE_SEEN),
    "model.source_detail": differs(painted_motion, ["true", "false"], SQUARE, THREE_SEEN),
    "model.noise": gives(seeds_agree, {"false": True, "true": False}, SQUARE, THREE_SEEN),
    "model.context_noise": gives(
        rollouts_agree_in_training, {"0.0": True, "0.3": False}, SQUARE, THREE_SEEN, "model.dynamics.dropout=0.0"
    ),
    "model.decoder.stages": gives(widths_of_the_decoder, {"[16, 8]": [16, 8], "[12, 8, 4]": [12, 8, 4]}, SQUARE),
    "model.decoder.init_size": gives(latent_grid, {"16": (16, 16), "32": (32, 32)}, SQUARE),
    **{f"loss.{part}_weight": gives(factor(part), {"0.5": near(0.5), "2.0": near(2.0)}, *only(part)) for part in PARTS},
    "loss.perceptual": gives(convolutions_of_the_perceptual_loss, {"structure": 0, "alexnet": 5, "vgg16": 13}),
    "loss.perceptual_weights": differs(
        perceptual_distance, ["weights-1.safetensors", "weights-2.safetensors"], "loss.perceptual=alexnet", SQUARE
    ),
    "loss.recon_frames": gives(
        lambda config: frames_reconstructed(config), {"1": [3], "2": [2, 3], "null": [0, 1, 2, 3, 4, 5]}, SQUARE
    ),
    "optimizer.type": gives(
        kinds_of_optimizers,
        {"adamw": ["AdamW"], "adam": ["Adam"], "sgd": ["SGD"], "muon": ["AdamW", "Muon"]},
        SQUARE,
    ),
    "optimizer.lr": gives(
        rates, {"1e-2": rates_with(), "1e-3": rates_with(encoder=1e-3, dynamics=1e-3, decoder=1e-3)}, SQUARE
    ),
    **{
        f"optimizer.{part}_lr": gives(
            rates, {"null": rates_with(), "1e-3": rates_with(**{part: 1e-3})}, SQUARE, "optimizer.lr=1e-2"
        )
        for part in ("encoder", "dynamics", "decoder")
    },
    "optimizer.weight_decay": gives(decay, {"0.1": near(0.1), "0.5": near(0.5)}, *PLAIN),
    "optimizer.betas": gives(
        moments, {"[0.8, 0.9]": [near(0.2), near(0.1)], "[0.9, 0.99]": [near(0.1), near(0.01)]},
        "optimizer.type=adamw", SQUARE,
    ),
    "optimizer.momentum": gives(second_step_over_first, {"0.0": near(1.0), "0.5": near(1.5)}, *PLAIN),
    "scheduler.type": gives(
        schedule,
        {
            "cosine": [0.25, 0.75, 1.0, 0.8536, 0.0],
            "linear": [0.25, 0.75, 1.0, 0.75, 0.0],
            "constant": [0.25, 0.75, 1.0, 1.0, 1.0],
        },
        *FOUR_STEPS,
    ),
    "scheduler.warmup_steps": gives(
        schedule, {"0": [1.0, 0.9, 0.8, 0.6, 0.0], "4": [0.25, 0.75, 1.0, 0.75, 0.0]},
        *FOUR_STEPS, "scheduler.type=linear",
    ),
    "scheduler.min_lr": gives(
        schedule, {"0.0": [0.25, 0.75, 1.0, 0.8536, 0.0], "1e-4": [0.25, 0.75, 1.0, 0.8682, 0.1]}, *FOUR_STEPS
    ),
}  # fmt: skip
