"""Probes of `training`, `logging` and `alarms`: steps, precision, processes, logging, checkpoints, messages."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from daydrive.config import Config, parse_config
from daydrive.data.sampling.clips import fixed_clips, read_clips
from daydrive.data.store.store import Store
from daydrive.errors import UserError
from daydrive.training import engine as engine_module
from daydrive.training.context import TrainOptions
from daydrive.training.distributed import DistributedContext, check_processes, training_processes
from daydrive.training.engine import Engine
from daydrive.training.logging import RunLogger
from daydrive.training.logging.alarms import AlarmMonitor
from daydrive.training.trainer import train
from helpers.model_probes import evaluated
from helpers.probes import Probe, differs, gives, near
from helpers.training_plan import CPU, plan, planned

SQUARE = "model.image_size=[64, 64]"
FOUR_STEPS = (
    "training.max_steps=4", "training.batch_size=2", "training.gradient_accumulation=1", "training.unroll=[]",
    "data.sequence_length=5", "logging.log_interval=4", "logging.eval_interval=4", "logging.save_interval=4",
    "logging.histogram_interval=4", "logging.keep_checkpoints=9", "logging.num_samples=1",
)  # fmt: skip


def after_backward(config: Config) -> Engine:
    store = Store.open(config.data.root or Path())
    batch = read_clips(store, fixed_clips(store, "train", config.data.sequence_length, 2))
    engine = Engine(config, DistributedContext.single(CPU))
    engine.wrapped.train()
    engine.backward(batch)
    return engine


def predicted_frames(config: Config) -> int:
    predicted = evaluated(config).output.predicted
    assert predicted is not None
    return predicted.shape[1]


def computed_in(config: Config) -> torch.dtype:
    """On a CPU with bfloat16."""
    found: list[torch.dtype] = []
    store = Store.open(config.data.root or Path())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine_module, "has_bfloat16", lambda device: True)
        engine = Engine(config, DistributedContext.single(CPU))
    engine.model.encoder.in_proj[0].register_forward_hook(lambda _, __, output: found.append(output.dtype))
    engine.evaluate(read_clips(store, fixed_clips(store, "train", config.data.sequence_length, 1)))
    return found[0]


def norm_after_clipping(config: Config) -> float:
    engine = after_backward(config)
    engine.clip_gradients()
    norms = [p.grad.norm() for p in engine.model.parameters() if p.grad is not None]
    return float(torch.stack(norms).norm())


def drawn(config: Config) -> list[float]:
    return Engine(config, DistributedContext.single(CPU)).model.encoder.in_proj[0].weight.flatten()[:20].tolist()


def keeps_less(config: Config) -> bool:
    """Bytes of the tensors stored for the backward pass, relative to training without gradient checkpointing."""
    stored = [0, 0]
    store = Store.open(config.data.root or Path())
    batch = read_clips(store, fixed_clips(store, "train", config.data.sequence_length, 1))
    for which, checkpointing in enumerate((config.training.use_gradient_checkpointing, False)):
        training = config.training.model_copy(update={"use_gradient_checkpointing": checkpointing})
        engine = Engine(config.model_copy(update={"training": training}), DistributedContext.single(CPU))
        engine.wrapped.train()
        storages: dict[int, int] = {}

        def note(tensor: torch.Tensor, storages: dict[int, int] = storages) -> torch.Tensor:
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            engine.evaluate(batch)
        stored[which] = sum(storages.values())
    return stored[0] < 0.9 * stored[1]


def average_keeps(config: Config) -> float:
    """The share of the initial weights in the exported ones after one update."""
    engine = after_backward(config)
    weight = engine.model.encoder.in_proj[1].weight.detach()
    first = weight.clone()
    engine.clip_gradients()
    engine.update()
    exported = engine.contents().weights["encoder.in_proj.1.weight"]
    moved = (first - weight).abs() > 1e-5
    return round(float(((exported - weight) / (first - weight))[moved].mean()), 2)


def processes_taken(config: Config) -> int | str:
    with pytest.MonkeyPatch.context() as two:
        two.setenv("WORLD_SIZE", "2")
        try:
            return check_processes(config.training)[0]
        except UserError as error:
            return str(error).split(",")[0]


def backends(config: Config) -> tuple[str, bool]:
    """The backend of torch.distributed on GPUs, and whether a machine without a GPU gets a message."""
    backends_used: list[str] = []

    class JoinedError(Exception):
        pass

    def init(backend: str, **_: Any) -> None:
        backends_used.append(backend)
        raise JoinedError

    with pytest.MonkeyPatch.context() as two:
        two.setenv("WORLD_SIZE", "2")
        two.setenv("RANK", "0")
        _, sentence = check_processes(config.training)
        two.setattr(torch.cuda, "is_available", lambda: True)
        two.setattr(torch.cuda, "set_device", lambda device: None)
        two.setattr(dist, "rendezvous", lambda *_, **__: iter([(dist.HashStore(), 0, 2)]))
        two.setattr(dist, "init_process_group", init)
        with pytest.raises(JoinedError), training_processes(config.training, torch.device("cuda")):
            pass
    return backends_used[0], sentence is not None


def shared_out_by(config: Config) -> list[str]:
    how: list[str] = []

    def note(name: str) -> Callable[[Any, DistributedContext], Any]:
        def share(model: Any, context: DistributedContext) -> Any:
            how.append(name)
            return model

        return share

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine_module, "shard_model", note("parameters sharded"))
        patch.setattr(engine_module, "replicate_model", note("model replicated"))
        Engine(config, DistributedContext(0, 2, CPU))
    return how


def run_of(config: Config) -> Path:
    """The run folder of a training with these settings, trained once."""
    return _run_of(config.model_dump_json())


_runs = tempfile.TemporaryDirectory()


@cache
def _run_of(settings: str) -> Path:
    config = parse_config(json.loads(settings))
    run = Path(tempfile.mkdtemp(dir=_runs.name))
    assert config.data.root is not None
    assert train(config, config.data.root, run, DistributedContext.single(CPU), TrainOptions()) == 0
    return run


def steps_with(name: str) -> Callable[[Config], list[int]]:
    def look(config: Config) -> list[int]:
        lines = [json.loads(line) for line in (run_of(config) / "metrics.jsonl").read_text().splitlines()]
        return [line["step"] for line in lines if name in line]

    return look


def retained_steps(config: Config) -> list[int]:
    return sorted(int(folder.name.split("-")[1]) for folder in (run_of(config) / "checkpoints").glob("step-*"))


def steps_with_histograms(config: Config) -> list[int]:
    events = EventAccumulator(str(run_of(config)), {"histograms": 0})
    events.Reload()
    tag = next(tag for tag in events.Tags()["histograms"] if tag.startswith("gradients/"))
    return [event.step for event in events.Histograms(tag)]


def height_of_the_samples(config: Config) -> int:
    events = EventAccumulator(str(run_of(config)), {"images": 0})
    events.Reload()
    return int(events.Images("val/samples")[0].height)


def wandb_argument(name: str) -> Callable[[Config], object]:
    """An argument of wandb.init; for '' whether it is called."""

    class CalledError(Exception):
        pass

    def look(config: Config) -> object:
        wandb = pytest.importorskip("wandb")
        arguments: dict[str, Any] = {}

        def init(**named: Any) -> None:
            arguments.update(named)
            raise CalledError

        with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
            patch.setattr(wandb, "init", init)
            patch.setattr(wandb, "setup", lambda *_: None)
            try:
                RunLogger(Path(folder), 0, config).close()
            except CalledError:
                return arguments[name] if name else True
        return False

    return look


def alarms(*moments: tuple[int, dict[str, float]]) -> Callable[[Config], list[str]]:
    """Names of the alarms raised by metrics at some steps, in a training of 100 steps and ten epochs."""

    def look(config: Config) -> list[str]:
        watch = AlarmMonitor(config, total_steps=100, steps_per_epoch=10)
        return [alarm.name for step, metrics in moments for alarm in watch.observe(step, metrics)]

    return look


def validated(psnr: float, **more: float) -> dict[str, float]:
    return {"val/psnr": psnr, **{f"val/{name}": value for name, value in more.items()}}


STEADY = [(step, validated(26.0 if step == 10 else 25.9)) for step in (10, 20, 30, 40, 50, 60)]
HALF_IDLE = {"speed/device_use": 0.5}
OFFLINE = ("logging.use_wandb=true", "logging.wandb_mode=offline")

PROBES: dict[str, Probe] = {
    "training.batch_size": gives(plan(lambda p: len(p.batches[0].images)), {"1": 1, "3": 3}),
    "training.num_epochs": gives(plan(lambda p: p.context.total_steps), {"1": 9, "2": 19}, "training.max_steps=null"),
    "training.max_steps": gives(plan(lambda p: p.context.total_steps), {"3": 3, "5": 5}),
    "training.use_amp": gives(computed_in, {"true": torch.bfloat16, "false": torch.float32}, SQUARE),
    "training.amp_dtype": gives(computed_in, {"auto": torch.bfloat16, "float16": torch.float16}, SQUARE),
    "training.gradient_accumulation": gives(plan(lambda p: len(p.batches)), {"1": 1, "3": 3}),
    "training.max_grad_norm": gives(norm_after_clipping, {"1e-2": near(1e-2), "1e-3": near(1e-3)}, SQUARE),
    "training.seed": differs(lambda config: (drawn(config), planned(config).clips(20)), ["0", "1"], SQUARE),
    "training.context_frames": gives(
        lambda config: predicted_frames(config), {"3": 3, "4": 2}, SQUARE
    ),
    "training.unroll.start": gives(
        plan(lambda p: [p.context.length_at(step) for step in range(4)]),
        {
            "[{start: 0.0, steps: 1}, {start: 0.25, steps: 2}]": [5, 6, 6, 6],
            "[{start: 0.0, steps: 1}, {start: 0.75, steps: 2}]": [5, 5, 5, 6],
        },
        "training.max_steps=4",
        of="training.unroll",
    ),
    "training.unroll.steps": gives(
        plan(lambda p: p.batches[0].images.shape[1]),
        {"[{start: 0.0, steps: 1}]": 5, "[{start: 0.0, steps: 2}]": 6},
        of="training.unroll",
    ),
    "training.use_gradient_checkpointing": gives(keeps_less, {"false": False, "true": True}, SQUARE),
    "training.compile": gives(plan(lambda p: p.compiled), {"false": False, "true": True}),
    "training.ema_decay": gives(average_keeps, {"null": 0.0, "0.1": 0.1, "0.15": 0.15}, SQUARE, "optimizer.lr=1e-2"),
    "training.distributed": gives(processes_taken, {"true": 2, "false": "2 processes were started"}),
    "training.backend": gives(
        backends,
        {"auto": ("cpu:gloo,cuda:nccl", False), "nccl": ("cpu:gloo,cuda:nccl", True), "gloo": ("gloo", False)},
        "training.distributed=true",
    ),
    "training.strategy": gives(
        shared_out_by, {"ddp": ["model replicated"], "fsdp": ["parameters sharded"]}, SQUARE
    ),
    "logging.log_interval": gives(steps_with("train/loss"), {"2": [2, 4], "4": [4]}, *FOUR_STEPS),
    "logging.eval_interval": gives(steps_with("val/psnr"), {"2": [2, 4], "4": [4]}, *FOUR_STEPS),
    "logging.save_interval": gives(retained_steps, {"1": [1, 2, 3, 4], "4": [4]}, *FOUR_STEPS),
    "logging.keep_checkpoints": gives(
        retained_steps, {"2": [3, 4], "9": [1, 2, 3, 4]}, *FOUR_STEPS, "logging.save_interval=1"
    ),
    "logging.histogram_interval": gives(steps_with_histograms, {"2": [2, 4], "4": [4]}, *FOUR_STEPS),
    "logging.num_samples": differs(height_of_the_samples, ["1", "2"], *FOUR_STEPS),
    "logging.use_wandb": gives(wandb_argument(""), {"false": False, "true": True}),
    "logging.wandb_project": gives(wandb_argument("project"), {"roads": "roads", "rain": "rain"}, *OFFLINE),
    "logging.wandb_name": gives(wandb_argument("name"), {"null": None, "first": "first"}, *OFFLINE),
    "logging.wandb_mode": gives(wandb_argument("mode"), {"online": "online", "offline": "offline"}, *OFFLINE),
    "alarms.min_psnr": gives(alarms((60, validated(20.0))), {"25.0": ["low_psnr"], "15.0": []}),
    "alarms.max_gap": gives(alarms((20, validated(26.0, train_psnr=29.0))), {"2.0": ["overfitting"], "4.0": []}),
    "alarms.patience": gives(alarms(*STEADY), {"4": ["no_improvement"], "10": []}),
    "alarms.min_action_cost": gives(
        alarms((60, validated(26.0, shuffled_actions_psnr=25.5))), {"0.1": [], "1.0": ["actions_ignored"]}
    ),
    "alarms.min_device_use": gives(alarms((10, HALF_IDLE), (20, HALF_IDLE)), {"0.7": ["starving"], "0.4": []}),
}  # fmt: skip
