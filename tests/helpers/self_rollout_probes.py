"""Probes of `training.self_rollout` and `model.stabilizer`: the schedule of the lanes, their losses, the critic."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch

from daydrive.config import Config
from daydrive.data.sampling.lanes import LaneOrder
from daydrive.models.texture.config import TextureConfig
from daydrive.models.texture.stabilizer import measure, stabilize
from daydrive.training.context import TrainingContext, TrainOptions, build_context
from daydrive.training.distributed import DistributedContext
from helpers.probes import Probe, differs, gives, near

CPU = torch.device("cpu")
GIVEN = (
    "data.sequence_length=10", "training.use_amp=false", "training.self_rollout.start=0.0",
    "training.self_rollout.lanes=4", "model.image_size=[64, 64]",
)  # fmt: skip
CRITIC = (*GIVEN, "training.self_rollout.critic.weight=0.1")
STEP = 4
"""Clips of a step in `TINY_TRAINING`."""


def built(config: Config) -> tuple[TrainingContext, LaneOrder]:
    assert config.data.root is not None
    with tempfile.TemporaryDirectory() as folder:
        context = build_context(
            config, config.data.root, Path(folder), DistributedContext.single(CPU), TrainOptions()
        )  # fmt: skip
    assert isinstance(context.order, LaneOrder)
    return context, context.order


def steps_with_lanes(config: Config) -> list[bool]:
    _, order = built(config)
    return [order.has_lanes(STEP * step) for step in range(8)]


def lanes_of_two_steps(config: Config) -> list[int]:
    _, order = built(config)
    return [order.visit(sample).lane for sample in range(2 * STEP)]


def frames_read(config: Config) -> tuple[int, ...]:
    context, _ = built(config)
    return next(context.prefetcher()).images.shape


def lives(lane: int, config: Config) -> list[bool]:
    """Whether each of the first visits of a lane starts a rollout."""
    _, order = built(config)
    samples = range(lane, 10 * config.training.self_rollout.lanes, config.training.self_rollout.lanes)  # type: ignore[union-attr]
    return [order.visit(sample).origin == sample for sample in samples]


def after_a_step(config: Config) -> tuple[TrainingContext, dict[str, float]]:
    """The first step on lanes, with the critic's update; its mean losses."""
    context, _ = built(config)
    assert context.self_rollout is not None
    torch.manual_seed(0)
    (result,) = context.accumulate(context.longest_batch(), last=True)
    parts = {name: float(part.mean()) for name, part in result.parts.items()}
    context.self_rollout.update_critic()
    return context, parts


def passes_of_the_decoder(config: Config) -> int:
    """Predicted frames per clip in a step on lanes."""
    context, _ = built(config)
    passes = []
    model = context.engine.model
    model.decoder.motion_head.register_forward_hook(lambda *_: passes.append(1))  # type: ignore[union-attr]
    next(context.accumulate(context.longest_batch(), last=True))
    return len(passes)


def loss_of(name: str, key: str, config: Config) -> float:
    """How much of the loss the part `name` contributes, found by leaving it out: weight times part."""
    lanes = config.training.self_rollout
    assert lanes is not None
    without = config.model_copy(
        update={"training": config.training.model_copy(update={"self_rollout": lanes.model_copy(update={key: 0.0})})}
    )
    whole, rest = after_a_step(config)[1], after_a_step(without)[1]
    return (whole["loss"] - rest["loss"]) / whole[name]


def critic_weights(config: Config, steps: int = 1) -> float:
    """The sum of the critic's absolute weights after these steps; every second one has the other regularization."""
    context, _ = after_a_step(config)
    assert context.self_rollout is not None
    batches = context.prefetcher()
    for number in range(steps * config.training.gradient_accumulation):
        batch = next(batches)
        if number >= config.training.gradient_accumulation:
            list(context.accumulate(batch, last=True))
            context.self_rollout.update_critic()
    weights = [v for n, v in context.self_rollout.contents().items() if n.startswith("critic.weights.critic.pixels")]
    return float(sum(value.double().abs().sum() for value in weights))


def stabilized(config: Config) -> torch.Tensor:
    assert isinstance(config.model, TextureConfig) and config.model.stabilizer is not None
    reference = measure(torch.full((1, 2, 3, 8, 8), 0.5))
    image, adapted = stabilize(torch.zeros(1, 3, 8, 8), reference, config.model.stabilizer)
    return torch.stack([image.mean(), adapted.mean.mean()])


def brightened(config: Config) -> float:
    return round(float(stabilized(config)[0]), 4)


def adapted(config: Config) -> float:
    return round(float(stabilized(config)[1]), 4)


def by_rows(config: Config) -> float:
    """How much brighter the upper half becomes than the lower one, if it was so in the reference."""
    assert isinstance(config.model, TextureConfig) and config.model.stabilizer is not None
    sky = torch.zeros(1, 1, 3, 32, 8)
    sky[..., :16, :] = 0.8
    image, _ = stabilize(torch.full((1, 3, 32, 8), 0.4), measure(sky), config.model.stabilizer)
    return round(float(image[..., :8, :].mean() - image[..., -8:, :].mean()), 3)


LANES = "training.self_rollout"
PROBES: dict[str, Probe] = {
    f"{LANES}.start": gives(
        steps_with_lanes, {"0.0": [True] * 8, "0.5": [False] * 6 + [True] * 2}, *GIVEN, "training.max_steps=12"
    ),
    f"{LANES}.interval": gives(
        steps_with_lanes, {"1": [True] * 8, "4": [True, False, False, False] * 2}, *GIVEN
    ),
    f"{LANES}.lanes": gives(lanes_of_two_steps, {"4": [0, 1, 2, 3] * 2, "8": list(range(8))}, *GIVEN),
    f"{LANES}.steps": gives(frames_read, {"2": (2, 9, 3, 64, 64), "3": (2, 10, 3, 64, 64)}, *GIVEN),
    f"{LANES}.free_steps": gives(frames_read, {"0": (2, 7, 3, 64, 64), "2": (2, 9, 3, 64, 64)}, *GIVEN),
    f"{LANES}.max_age": gives(
        lambda config: lives(1, config),
        {"12": [True] + [visit % 2 == 1 for visit in range(1, 10)], "60": [v in (0, 3) for v in range(10)]},
        *GIVEN,
    ),
    f"{LANES}.short_age": gives(
        lambda config: lives(0, config),
        {"3": [True] * 10, "9": [visit in (0, 1, 4, 7) for visit in range(10)]},
        *GIVEN,
    ),
    f"{LANES}.samples": gives(passes_of_the_decoder, {"1": 3, "2": 6}, *GIVEN, f"{LANES}.free_steps=0"),
    f"{LANES}.truth_age": differs(lambda config: after_a_step(config)[1]["rollout_pred_loss"], ["1.0", "8.0"], *GIVEN),
    f"{LANES}.coarse_weight": gives(
        lambda config: loss_of("coarse_loss", "coarse_weight", config), {"0.5": near(0.5), "2.0": near(2.0)}, *GIVEN
    ),
    f"{LANES}.detail_weight": gives(
        lambda config: loss_of("detail_loss", "detail_weight", config), {"0.5": near(0.5), "2.0": near(2.0)}, *GIVEN
    ),
    f"{LANES}.critic.weight": differs(lambda config: after_a_step(config)[1]["loss"], ["0.0", "3.0"], *GIVEN),
    f"{LANES}.critic.action_weight": differs(lambda config: after_a_step(config)[1]["loss"], ["0.0", "3.0"], *CRITIC),
    f"{LANES}.critic.lr": differs(critic_weights, ["1e-3", "1e-2"], *CRITIC),
    f"{LANES}.critic.penalty": differs(critic_weights, ["0.0", "100.0"], *CRITIC),
    f"{LANES}.critic.mismatch_weight": differs(lambda config: critic_weights(config, 2), ["0.0", "10.0"], *CRITIC),
    "model.stabilizer.pull": gives(
        brightened, {"0.0": 0.0, "0.4": 0.2}, "model.stabilizer.row_pull=0.0"
    ),
    "model.stabilizer.row_pull": gives(by_rows, {"0.0": 0.0, "0.5": 0.4}, "model.stabilizer.pull=0.0"),
    "model.stabilizer.adaptation": gives(adapted, {"0.0": 0.5, "0.2": 0.4}),
}  # fmt: skip
