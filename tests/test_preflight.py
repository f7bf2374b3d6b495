"""Preflight: what would end a training is said before it begins, and looking leaves no trace."""

from __future__ import annotations

import gc
import random
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import psutil
import pytest
import torch
from torch import Tensor

from daydrive.config import Config, load_config
from daydrive.data.clips import ClipIndex, read_clips
from daydrive.data.drives import Drives
from daydrive.data.store import Store
from daydrive.errors import UserError
from daydrive.models import build_world_model
from daydrive.training import checklist, memory, preflight, wandb_access
from daydrive.training.optim import build_optimizers
from daydrive.types import Batch, to_signed

CPU = torch.device("cpu")
CUDA = torch.device("cuda")
GIB = 2**30


class Result(NamedTuple):
    loss: Tensor
    parts: dict[str, Tensor]


class Training:
    """A model, its optimizers and its step, as a trainer has them."""

    def __init__(self, file: Path, store: Path, run: Path, *overrides: str) -> None:
        self.store, self.run = Store.open(store), run
        self.config = load_config(file, [*overrides, "model.image_size=[64, 64]"])
        torch.manual_seed(0)
        self.model = build_world_model(self.config)
        self.optimizers = build_optimizers(self.model, self.config.optimizer)
        self.seen: list[Batch] = []

    def batch(self, length: int = 5) -> Batch:
        index = ClipIndex(self.store, "train", self.config.data.sequence_length)
        return read_clips(self.store, [index.clip(i, length) for i in range(self.config.training.batch_size)])

    def step(self, batch: Batch) -> Result:
        self.seen.append(batch)
        images = to_signed(batch.images)
        context = self.config.training.context_frames
        output = self.model(images, batch.actions, context)
        painted = torch.cat([output["reconstructed"] - images, output["predicted"] - images[:, context:]], dim=1)
        per_clip = painted.abs().flatten(1).mean(dim=1)
        return Result(per_clip.mean(), {"loss": per_clip.detach(), "pred_loss": per_clip.detach()})

    def check(self, batch: Batch | None = None, step: Callable[[Batch], Result] | None = None) -> list[checklist.Check]:
        return preflight.preflight(
            self.config, self.store, self.run, self.model, self.optimizers, batch or self.batch(), step or self.step,
            total_steps=12, steps_per_epoch=10.0, device=CPU, resumed=False,
        )  # fmt: skip


Make = Callable[..., Training]


@pytest.fixture
def make(tiny_config: Path, road_store: Path, tmp_path: Path) -> Make:
    return lambda *overrides: Training(tiny_config, road_store, tmp_path / "run", *overrides)


def one_sentence(error: pytest.ExceptionInfo[UserError]) -> str:
    text = str(error.value)
    assert "\n" not in text and len(text) < 400 and not text.endswith("."), text
    return text


def test_a_sound_training_is_told_what_was_looked_at(make: Make) -> None:
    training = make()
    checks = training.check()
    assert {"data", "shapes", "disk", "step", "memory"} <= {check.name for check in checks if check.outcome == "ok"}
    lines = preflight.report(checks).splitlines()
    assert len(lines) == len(checks) and all(line.startswith(("ok ", "warning ")) for line in lines)
    assert not training.run.exists()


def test_the_pass_is_as_long_as_the_longest_unroll(make: Make) -> None:
    training = make()
    training.check(training.batch(5))
    assert [tuple(batch.images.shape[:2]) for batch in training.seen] == [(2, 6)]
    assert training.seen[0].images[:, :5].equal(training.batch(5).images)


@pytest.mark.parametrize(
    ("unroll", "longest"), [("[]", 6), ("[{start: 0.5, steps: 1}]", 6), ("[{start: 0, steps: 1}]", 5)]
)
def test_the_longest_clip_follows_the_unroll(make: Make, unroll: str, longest: int) -> None:
    assert preflight.longest_clip(make(f"training.unroll={unroll}").config, 12) == longest


def random_numbers() -> list[float]:
    return [float(torch.rand(1)), random.random(), float(np.random.rand())]


def test_it_leaves_no_trace(make: Make) -> None:
    training = make()
    training.model.register_buffer("seen", torch.zeros(1))
    held = torch.ones_like(next(training.model.parameters()))
    next(training.model.parameters()).grad = held
    training.model.eval()
    before = {name: value.clone() for name, value in training.model.state_dict().items()}
    torch.manual_seed(7)
    random.seed(7)
    np.random.seed(7)
    expected = random_numbers()
    torch.manual_seed(7)
    random.seed(7)
    np.random.seed(7)

    def step(batch: Batch) -> Result:
        assert training.model.training
        training.model.get_buffer("seen").add_(1)
        random_numbers()
        return training.step(batch)

    training.check(step=step)
    assert random_numbers() == expected
    after = training.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    first, *others = training.model.parameters()
    assert first.grad is held and torch.equal(held, torch.ones_like(held)) and all(p.grad is None for p in others)
    assert not training.model.training and not any(module.training for module in training.model.modules())
    assert not any(optimizer.state for optimizer in training.optimizers)


def test_training_is_bit_identical_with_and_without_it(make: Make) -> None:
    ends = []
    for looked in (False, True):
        training = make()
        training.model.train()
        torch.manual_seed(1)
        if looked:
            training.check()
        for _ in range(3):
            training.step(training.batch()).loss.backward()
            for optimizer in training.optimizers:
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
        ends.append(training.model.state_dict())
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_a_failure_leaves_no_trace_either(make: Make) -> None:
    training = make()

    def fail(batch: Batch) -> Result:
        torch.rand(1)
        raise RuntimeError("a bug")

    torch.manual_seed(3)
    state = torch.get_rng_state()
    with pytest.raises(RuntimeError, match="a bug"):
        training.check(step=fail)
    assert torch.equal(torch.get_rng_state(), state) and all(p.grad is None for p in training.model.parameters())


def test_actions_that_are_no_numbers_name_the_drive(make: Make) -> None:
    training = make()
    batch = training.batch(6)
    batch.actions[1, 2, 0] = float("nan")
    with pytest.raises(UserError) as error:
        training.check(batch)
    assert f"no finite numbers, drive '{batch.clips[1].drive}'" in one_sentence(error)


def test_a_loss_that_is_not_finite_names_part_and_clip(make: Make) -> None:
    training = make()

    def broken(batch: Batch) -> Result:
        result = training.step(batch)
        return Result(result.loss * float("nan"), {**result.parts, "pred_loss": torch.tensor([0.1, float("nan")])})

    batch = training.batch()
    with pytest.raises(UserError) as error:
        training.check(batch, broken)
    assert f"loss is nan (pred_loss for the clip at row {batch.clips[1].start} (drive" in one_sentence(error)


def test_a_gradient_that_is_not_finite_names_the_weight(make: Make) -> None:
    training = make()
    name, weight = list(training.model.named_parameters())[3]

    def broken(batch: Batch) -> Result:
        result = training.step(batch)
        return result._replace(loss=result.loss + (weight * 0).abs().sqrt().sum())

    with pytest.raises(UserError) as error:
        training.check(step=broken)
    assert f"gradient of '{name}' is not finite" in one_sentence(error)


def test_a_split_without_drives_and_a_lost_table_are_found(make: Make, road_store: Path, tmp_path: Path) -> None:
    training = make()
    entries = [entry for entry in training.store.metadata["drives"] if entry["split"] == "train"]
    training.store.drives = Drives.read(entries)
    with pytest.raises(UserError, match=r"the split 'val' of .* has no drives"):
        training.check()
    training = make()
    batch = training.batch()
    shutil.copytree(road_store, tmp_path / "copy")
    training.store = Store.open(tmp_path / "copy")
    for file in (tmp_path / "copy" / "frames.lance" / "data").iterdir():
        file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(UserError, match="damaged"):
        training.check(batch)


def test_shapes_that_do_not_agree_name_the_key(make: Make) -> None:
    training = make("model.action_dim=3")
    with pytest.raises(UserError) as error:
        training.check()
    assert "model.action_dim" in one_sentence(error)
    training = make()
    training.config = training.config.model_copy(
        update={"model": training.config.model.model_copy(update={"image_size": (32, 64)})}
    )
    with pytest.raises(UserError) as error:
        training.check()
    assert "model.image_size = [32, 64]" in one_sentence(error)


def plant_memory(monkeypatch: pytest.MonkeyPatch, there: int) -> None:
    monkeypatch.setattr(memory, "available_memory", lambda device: there)


def test_a_step_larger_than_the_memory_names_a_batch_size(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    training = make("training.batch_size=8")
    plant_memory(monkeypatch, 2**20)
    with pytest.raises(UserError) as error:
        training.check()
    text = one_sentence(error)
    assert "a step with training.batch_size = 8 takes" in text and "1 MiB are free" in text
    assert "use_gradient_checkpointing=true" in text


@pytest.mark.skipif(not hasattr(psutil, "RLIMIT_DATA"), reason="the limit is Linux's")
def test_an_allocation_beyond_the_memory_fails_instead_of_the_process(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = make("training.batch_size=8", "training.use_gradient_checkpointing=true")
    plant_memory(monkeypatch, GIB)
    limits = psutil.Process().rlimit(psutil.RLIMIT_DATA)

    def greedy(batch: Batch) -> Result:
        held = [torch.empty(2**28) for _ in range(4)]
        return Result(sum(h[0] for h in held) * next(training.model.parameters()).sum(), {})

    with pytest.raises(UserError) as error:
        training.check(step=greedy)
    assert one_sentence(error) == (
        "a step with training.batch_size = 8 takes more than the 1.0 GiB of memory that are free; set "
        "training.batch_size=4 with training.gradient_accumulation=4 (the same 16 clips an update)"
    )
    assert psutil.Process().rlimit(psutil.RLIMIT_DATA) == limits


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried to"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:75] DefaultCPUAllocator: not enough memory: you tried to"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        MemoryError("std::bad_alloc"),
    ],
)
def test_errors_of_memory_are_known(error: BaseException) -> None:
    assert memory.is_out_of_memory(error)
    assert not memory.is_out_of_memory(RuntimeError("shape '[2, 3]' is invalid for input of size 5"))


def test_memory_advice_keeps_the_clips_of_an_update(make: Make) -> None:
    config = make("training.batch_size=16", "training.gradient_accumulation=3").config
    advice = memory.memory_advice(17 * GIB, 10 * GIB, config, fixed=GIB, device="cuda")
    assert advice.startswith(
        "a step with training.batch_size = 16 takes 17.0 GiB of GPU memory, and 10.0 GiB are free; set "
        "training.batch_size=8 with training.gradient_accumulation=6 (the same 48 clips an update), or "
    )
    hopeless = memory.memory_advice(17 * GIB, GIB // 2, config, fixed=GIB)
    assert "batch_size=" not in hopeless and "data.sequence_length or model.hidden_dim" in hopeless
    in_passes = memory.memory_advice(9 * GIB, 6 * GIB, config, fixed=GIB, clips=4)
    assert "training.batch_size=2 with training.gradient_accumulation=24" in in_passes


def test_moments_to_come_and_those_there(make: Make) -> None:
    training = make("optimizer.type=adamw")
    weights = sum(p.numel() * 4 for p in training.model.parameters())
    assert memory.moment_bytes(training.optimizers) == 2 * weights
    assert memory.moment_bytes(training.optimizers, missing=True) == 2 * weights
    training.step(training.batch()).loss.backward()
    training.optimizers[0].step()
    assert memory.moment_bytes(training.optimizers, missing=True) == 0
    plain = torch.optim.SGD(training.model.parameters(), lr=0.1)
    with_momentum = torch.optim.SGD(training.model.parameters(), lr=0.1, momentum=0.9)
    assert (memory.moment_bytes([plain]), memory.moment_bytes([with_momentum])) == (0, weights)


def test_the_peak_of_memory_is_seen() -> None:
    gc.collect()
    with memory.PeakMemory(CPU) as peak:
        held = torch.ones(200 * 2**20 // 4)
        held = held + 1
        del held
    assert 360 * 2**20 < peak.growth < 440 * 2**20


@pytest.mark.parametrize(
    ("groups", "files", "left"),
    [
        ("0::/a/b\n", {"a/b/memory.max": "max", "a/memory.max": "1000", "a/memory.current": "600"}, [450]),
        ("0::/\n", {"memory.max": "300", "memory.current": "900"}, [0]),
        ("5:cpu:/x\n4:memory:/x\n", {"memory/memory.limit_in_bytes": "70", "memory/memory.usage_in_bytes": "50"}, [70]),
        ("0::/\n", {}, []),
    ],
)
def test_a_control_groups_limit_counts(tmp_path: Path, groups: str, files: dict[str, str], left: list[int]) -> None:
    for name, text in files.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        (file.parent / "memory.stat").write_text("anon 3\ninactive_file 50\n")
    assert memory.cgroup_available(groups, tmp_path) == left


def plant_disk(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(total=10 * free, free=free, used=0))


def test_a_disk_too_small_for_the_checkpoints_names_the_key(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    training = make("logging.keep_checkpoints=3", "optimizer.type=adamw", "training.ema_decay=0.99")
    one = 4 * sum(p.numel() * 4 for p in training.model.parameters())
    plant_disk(monkeypatch, 5 * one - 1)
    with pytest.raises(UserError) as error:
        training.check()
    text = one_sentence(error)
    assert "lower logging.keep_checkpoints (now 3)" in text and str(training.run) in text
    held = training.run / "checkpoints" / "step-00000002"
    held.mkdir(parents=True)
    (held / "model.safetensors").write_bytes(bytes(1000))
    assert training.check()[2].outcome == "warning"


def test_a_disk_with_room_to_spare_is_no_warning(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    training = make()
    plant_disk(monkeypatch, GIB)
    assert training.check()[2] == checklist.Check("disk", "ok", training.check()[2].said)


@pytest.fixture
def closed_port() -> Iterator[int]:
    with closing(socket.socket()) as held:  # bound and not listening: nobody else gets it, and nobody answers
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """A home folder without W&B's key and settings."""
    for name in ("WANDB_API_KEY", "WANDB_BASE_URL", "WANDB_CONFIG_DIR", "WANDB_IDENTITY_TOKEN_FILE", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(wandb_access.importlib.util, "find_spec", lambda name: object())
    return monkeypatch


def test_wandb_without_a_key_says_how_to_log_in(make: Make, account: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError) as error:
        make("logging.use_wandb=true").check()
    text = one_sentence(error)
    assert "api.wandb.ai" in text and "wandb login" in text and "--wandb-mode offline" in text


def test_wandb_that_does_not_answer_names_the_host(make: Make, account: pytest.MonkeyPatch, closed_port: int) -> None:
    account.setenv("WANDB_API_KEY", "0" * 40)
    account.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{closed_port}")
    with pytest.raises(UserError) as error:
        make("logging.use_wandb=true").check()
    text = one_sentence(error)
    assert f"http://127.0.0.1:{closed_port} can't be reached" in text and "--wandb-mode offline" in text


def test_wandb_answers_with_a_key_from_netrc_and_an_address_from_its_settings(
    make: Make, account: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        host = f"127.0.0.1:{server.getsockname()[1]}"
        (tmp_path / ".netrc").write_text(f"machine {host}\n login user\n password {'0' * 40}\n")
        (tmp_path / ".config" / "wandb").mkdir(parents=True)
        (tmp_path / ".config" / "wandb" / "settings").write_text(f"[default]\nbase_url = http://{host}\n")
        checks = make("logging.use_wandb=true").check()
    assert checklist.Check("wandb", "ok", f"{host} answers") in checks


def test_a_proxy_answers_in_place_of_wandb(account: pytest.MonkeyPatch) -> None:
    account.setenv("WANDB_API_KEY", "0" * 40)
    with closing(socket.create_server(("127.0.0.1", 0))) as proxy:
        account.setenv("https_proxy", f"127.0.0.1:{proxy.getsockname()[1]}")
        assert wandb_access.check_wandb("online") == "api.wandb.ai answers"


def test_wandb_that_is_silent_is_not_waited_for(account: pytest.MonkeyPatch) -> None:
    def silent(*_: object, **__: object) -> None:
        time.sleep(0.5)
        raise TimeoutError

    account.setattr(wandb_access.socket, "create_connection", silent)
    assert wandb_access._unreachable("https://api.wandb.ai", 0.05) == "no answer within 0.05 s"


def test_wandb_offline_needs_the_package_only(account: pytest.MonkeyPatch) -> None:
    assert wandb_access.check_wandb("offline").startswith("offline")
    account.setattr(wandb_access.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install .daydrive\[wandb\]"):
        wandb_access.check_wandb("offline")


@pytest.mark.parametrize(
    ("built", "driver", "usable", "said"),
    [
        (None, None, False, "built for processors only"),
        ("13.0", 12080, False, "built for CUDA 13.0, but the GPU's driver knows 12.8"),
        ("12.8", 12040, True, None),
        ("12.8", 13000, True, None),
        ("12.8", 0, False, "nvidia-smi"),
    ],
)
def test_driver_advice(built: str | None, driver: int | None, usable: bool, said: str | None) -> None:
    advice = checklist.driver_advice(built, driver, usable)
    assert advice is None if said is None else said in str(advice)


def warned(checks: Iterator[checklist.Check]) -> str:
    found = list(checks)
    assert all(check.outcome == "warning" and "\n" not in check.said for check in found)
    return " | ".join(check.said for check in found)


def settings(make: Make, *overrides: str) -> Config:
    return make(*overrides).config


def test_a_training_too_short_for_its_settings(make: Make) -> None:
    config = settings(make, "logging.eval_interval=1000", "scheduler.warmup_steps=12")
    said = warned(checklist.check_plan(config, 12, 10.0))
    assert "scheduler.warmup_steps = 12" in said and "logging.eval_interval = 1000: more than" in said
    assert "log_interval" not in said
    assert not warned(checklist.check_plan(config, 1000, 10.0))
    config = settings(make, "data.curriculum={phases: 3, epochs_per_phase: 2}")
    assert "data.curriculum" in warned(checklist.check_plan(config, 59, 10.0))
    assert not warned(checklist.check_plan(config, 60, 10.0))


def test_data_that_teaches_or_tells_little(make: Make) -> None:
    config = settings(make)
    sound = {"train": 1000, "val": 50}
    apart = {"train": ["a"], "val": ["b"]}
    assert not warned(checklist.check_data(config, sound, apart, 1))
    assert "'a' is in 'train' and in 'val'" in warned(checklist.check_data(config, sound, {**apart, "val": ["a"]}, 1))
    assert "'val' has 2 clips" in warned(checklist.check_data(config, {**sound, "val": 2}, apart, 1))
    assert "'train' has 30 clips" in warned(checklist.check_data(config, {**sound, "train": 30}, apart, 1))
    assert "takes 2000 clips" in warned(checklist.check_data(config, sound, apart, 500))


def test_a_machine_left_idle_or_asked_too_much(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    config = settings(make, "training.use_amp=false")
    assert not warned(checklist.check_machine(config, CPU, 2))
    said = warned(checklist.check_machine(config, CUDA, 16))
    assert all(key in said for key in ("data.num_workers = 0", "data.pin_memory = false", "training.use_amp = false"))
    config = settings(make, "data.num_workers=4", "data.pin_memory=true")
    assert not warned(checklist.check_machine(config, CUDA, 4))
    assert "4 worker processes share 2" in warned(checklist.check_machine(config, CUDA, 2))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert "16 worker processes share 8" in warned(checklist.check_machine(config, CUDA, 8))


def test_shared_memory_too_small_for_the_workers(make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = settings(make, "data.num_workers=4")
    plant_disk(monkeypatch, 64 * 2**20 // 10)
    said = warned(checklist.check_shared_memory(config, 32 * 2**20, tmp_path))
    assert "data.num_workers = 4" in said and "--shm-size" in said
    assert not warned(checklist.check_shared_memory(config, 2**20, tmp_path))
    assert not warned(checklist.check_shared_memory(settings(make), 2**40, tmp_path))


def test_a_resumed_training_hears_of_its_plan_no_more(make: Make) -> None:
    training = make("scheduler.warmup_steps=99")
    arguments = (
        training.config, training.store, training.run, training.model, training.optimizers, training.batch(),
        training.step, 12, 10.0, CPU,
    )  # fmt: skip
    assert "schedule" in {check.name for check in preflight.preflight(*arguments, resumed=False)}
    assert "schedule" not in {check.name for check in preflight.preflight(*arguments, resumed=True)}


def test_every_process_makes_one_pass_also_of_a_batch_that_goes_in_several(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = make("training.batch_size=5")
    monkeypatch.setattr(preflight, "clips_per_pass", lambda batch: 2)
    training.check()
    assert [len(batch.images) for batch in training.seen] == [2]
