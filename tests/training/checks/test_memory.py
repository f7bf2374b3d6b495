"""The memory of a step is estimated before it runs, with advice if it does not suffice."""

from __future__ import annotations

import gc
from pathlib import Path

import psutil
import pytest
import torch

from daydrive.errors import UserError
from daydrive.training.checks import memory
from daydrive.types import Batch
from helpers.training_setup import CPU, GIB, Make, Result, Training, one_sentence

CUDA = torch.device("cuda")


@pytest.fixture
def make(tiny_config: Path, road_store: Path, tmp_path: Path) -> Make:
    return lambda *overrides: Training(tiny_config, road_store, tmp_path / "run", *overrides)


def plant_memory(monkeypatch: pytest.MonkeyPatch, there: int) -> None:
    monkeypatch.setattr(memory, "available_memory", lambda device: there)


def test_insufficient_memory_suggests_a_batch_size(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    training = make("training.batch_size=8")
    plant_memory(monkeypatch, 0)  # what earlier tests have freed may suffice for the step
    with pytest.raises(UserError) as error:
        training.check()
    text = one_sentence(error)
    assert "a step with training.batch_size = 8 needs" in text and "0 MiB are free" in text
    assert "use_gradient_checkpointing=true" in text


@pytest.mark.skipif(not hasattr(psutil, "RLIMIT_DATA"), reason="the limit is Linux's")
def test_excessive_allocation_raises_instead_of_killing_the_process(
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
        "a step with training.batch_size = 8 needs more than the free 1.0 GiB of memory; set "
        "training.batch_size=4 with training.gradient_accumulation=4 (still 16 clips per update)"
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
def test_memory_errors_are_recognized(error: BaseException) -> None:
    assert memory.is_out_of_memory(error)
    assert not memory.is_out_of_memory(RuntimeError("shape '[2, 3]' is invalid for input of size 5"))


def test_memory_advice_preserves_clips_per_step(make: Make) -> None:
    config = make("training.batch_size=16", "training.gradient_accumulation=3").config
    advice = memory.memory_advice(17 * GIB, 10 * GIB, config, fixed=GIB, device="cuda")
    assert advice.startswith(
        "a step with training.batch_size = 16 needs 17.0 GiB of GPU memory, but 10.0 GiB are free; set "
        "training.batch_size=8 with training.gradient_accumulation=6 (still 48 clips per update), or "
    )
    hopeless = memory.memory_advice(17 * GIB, GIB // 2, config, fixed=GIB)
    assert "batch_size=" not in hopeless and "data.sequence_length or model.hidden_dim" in hopeless
    in_passes = memory.memory_advice(9 * GIB, 6 * GIB, config, fixed=GIB, clips=4)
    assert "training.batch_size=2 with training.gradient_accumulation=24" in in_passes


def test_expected_and_existing_optimizer_moments(make: Make) -> None:
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


def test_peak_memory_is_measured() -> None:
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
def test_cgroup_limit_is_respected(tmp_path: Path, groups: str, files: dict[str, str], left: list[int]) -> None:
    for name, text in files.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        (file.parent / "memory.stat").write_text("anon 3\ninactive_file 50\n")
    assert memory.cgroup_available(groups, tmp_path) == left
