"""The training benchmark measures the documented ratios; the speed itself is not tested here."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import threading
import time
from pathlib import Path

import pynvml
import pytest
import torch

from daydrive import gpu
from daydrive.benchmarks.findings import Findings, outcomes
from daydrive.benchmarks.interleaved_timing import QUICK, least, peak_bytes, time_interleaved
from daydrive.benchmarks.model import energy
from daydrive.benchmarks.training import benchmark_training, steps, throughput
from daydrive.benchmarks.training.steps import PlainLoop, newton_schulz
from daydrive.benchmarks.training.suite import sum_up, targets_on
from daydrive.benchmarks.training.workload import build_workload
from daydrive.cli import app
from daydrive.config import load_config
from daydrive.data.sampling.clips import fixed_clips, read_clips
from daydrive.data.store.store import Store
from daydrive.errors import UserError
from daydrive.training.distributed import DistributedContext
from daydrive.training.engine import Engine
from daydrive.types import Batch
from helpers.paths import REPO
from helpers.runs import CPU

OF_EACH = ("step_vs_eager_fp32", "loader_wait", "save_stall", "logging_cost")


@pytest.mark.slow
def test_the_training_suite_measures_everything(tiny_config: Path, road_store: Path, tmp_path: Path) -> None:
    output = tmp_path / "figures" / "training.json"
    arguments = ["benchmark", "training", "--output", str(output), "--config", str(tiny_config), "--quick"]
    app([*arguments, "--data-root", str(road_store), "--device", "cpu"], standalone_mode=False)
    result = json.loads(output.read_text())
    expected = {*OF_EACH, *(f"{name}_tiny" for name in OF_EACH)}
    expected |= {"checkpointing_memory", "checkpointing_time", "ranks_2_vs_1", "auto_precision", "self_rollout_cost"}
    assert result["ratios"].keys() == expected == result["targets"].keys()
    assert all(math.isfinite(value) and value >= 0 for value in result["ratios"].values())
    assert result["ratios"]["checkpointing_memory"] < 1
    assert result["not_measured"].keys() == {"amp_speed", "amp_memory"}
    assert result["machine"]["processors"] >= 1 and result["machine"]["torch"] == torch.__version__
    plain, ours = (min(result["raw"]["step_tiny"]["seconds"][kind]) for kind in ("plain", "ours"))
    assert result["ratios"]["step_vs_eager_fp32_tiny"] == pytest.approx(plain / ours)
    assert result["raw"]["ranks"]["clips_a_second"].keys() == {"1", "2", "2 apart"}
    assert result["raw"]["saving_tiny"]["bytes"] > 4 * result["raw"]["step_tiny"]["workload"]["parameters"]
    assert sorted(path.name for path in output.parent.iterdir()) == ["training.json", "training.png"]


def test_invalid_input_fails_before_anything_is_measured(tiny_config: Path, tmp_path: Path) -> None:
    def run(output: Path, *configs: Path) -> None:
        benchmark_training(output, configs, None, CPU, True, print)

    with pytest.raises(UserError, match="have the same name: tiny, tiny"):
        run(tmp_path / "a.json", tiny_config, tiny_config)
    with pytest.raises(UserError, match="is a folder"):
        run(tmp_path, tiny_config)
    with pytest.raises(UserError, match="there is no config file"):
        run(tmp_path / "a.json", tmp_path / "absent.yaml")
    with pytest.raises(
        UserError, match="no benchmark 'trianing' among model, data, training, all; did you mean 'training'"
    ):
        app(["benchmark", "trianing", "--output", str(tmp_path / "a.json")], standalone_mode=False)
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.yaml"]


def test_script_equals_the_command() -> None:
    done = subprocess.run(
        [sys.executable, str(REPO / "scripts/benchmark.py"), "--help"], capture_output=True, text=True, cwd=REPO
    )
    assert done.returncode == 0 and "--output" in done.stdout


def test_measurements_are_interleaved_after_a_warmup() -> None:
    order: list[str] = []
    effort = QUICK._replace(rounds=3)
    seconds = time_interleaved({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, effort, CPU)
    assert "".join(order) == "ab" + 3 * "ab"
    assert {name: len(each) for name, each in seconds.items()} == {"a": 3, "b": 3}
    longer = time_interleaved({"a": lambda: time.sleep(0.01)}, effort._replace(seconds=0.2), CPU)
    assert len(longer["a"]) > 3 and min(longer["a"]) >= 0.01
    assert least({"a": [3.0, 1.0, 2.0]}) == {"a": 1.0}


def test_peak_memory_is_the_maximum_of_live_memory() -> None:
    mebibyte = 2**20
    before = torch.zeros(64 * mebibyte // 4)

    def run() -> torch.Tensor:
        for _ in range(3):
            x = torch.empty(16 * mebibyte // 4)
            del x
        y = torch.empty(16 * mebibyte // 4)
        return torch.cat([y, torch.empty(8 * mebibyte // 4)])

    assert peak_bytes(run, CPU) / mebibyte == pytest.approx(16 + 8 + 24, rel=0.01)
    del before


def test_targets_use_the_worst_config() -> None:
    findings = Findings({"loader_wait_a": 0.01, "loader_wait_b": 0.06, "ranks_2_vs_1": 1.9, "amp_speed_x": 1.0})
    sum_up(findings, ["a", "b"])
    assert findings.ratios["loader_wait"] == 0.06
    met = {name: outcome["met"] for name, outcome in outcomes(findings, targets_on("cpu")).items()}
    assert met == {
        "loader_wait": False, "loader_wait_a": True, "loader_wait_b": False, "ranks_2_vs_1": True, "amp_speed_x": False,
    }  # fmt: skip
    assert targets_on("cpu")["step_vs_eager_fp32"].bound == 2.0
    assert targets_on("cuda")["step_vs_eager_fp32"].bound == 1.8


@pytest.mark.parametrize("kind", ["adamw", "adam", "sgd", "muon"])
def test_plain_loop_is_equivalent(tiny_config: Path, road_store: Path, kind: str) -> None:
    """In float32 both have the same loss, and the same weights after an update, within rounding."""
    settings = ["model.image_size=[64, 64]", "training.use_amp=false", "model.dynamics.dropout=0.0"]
    config = load_config(tiny_config, [*settings, f"optimizer.type={kind}", "optimizer.lr=1e-3"])
    store = Store.open(road_store)
    batch = read_clips(store, fixed_clips(store, "train", 6, 2))
    batch = Batch(batch.images, batch.actions, weights=torch.full((2,), 0.5))
    engine, plain = Engine(config, DistributedContext.single(CPU)), PlainLoop(config, CPU)
    before = {name: p.detach().clone() for name, p in engine.model.named_parameters()}
    (result,) = engine.accumulate(batch, last=True)
    engine.clip_gradients()
    engine.update()
    assert plain.step([batch]) == pytest.approx(float(result.loss.detach()), rel=1e-5)
    with torch.no_grad():
        moved = torch.cat([(p - before[name]).flatten() for name, p in engine.model.named_parameters()])
        moved_plain = torch.cat([(p - before[name]).flatten() for name, p in plain.model.named_parameters()])
    similarity = torch.cosine_similarity(moved, moved_plain, dim=0)
    assert float(similarity) > (0.9 if kind == "muon" else 0.999) and float(moved.norm()) > 0
    assert not any(m.gradient_checkpointing for m in plain.model.modules() if hasattr(m, "gradient_checkpointing"))


def test_newton_schulz_gives_singular_values_of_about_one() -> None:
    for shape in ((16, 40), (40, 16)):
        values = torch.linalg.svdvals(
            newton_schulz(torch.randn(shape, generator=torch.Generator().manual_seed(0))).float()
        )
        assert float(values.min()) > 0.6 and float(values.max()) < 1.3


def test_workload_is_the_config_with_fewer_clips(road_store: Path, tmp_path: Path) -> None:
    config = load_config(REPO / "configs/training/base.yaml")
    assert config.model.native_image_size == (256, 256)
    assert load_config(REPO / "configs/training/demo.yaml").model.native_image_size == (64, 64)
    small = config.model_copy(update={"model": load_config(REPO / "configs/training/demo.yaml").model})
    workload = build_workload("small", small, road_store, tmp_path, QUICK, CPU)
    training = workload.setup.config.training
    assert (training.batch_size, training.gradient_accumulation) == (16, 1) and workload.share == 0.25
    assert workload.lengths == (10, 10) and not any(tmp_path.iterdir())
    (batch,) = workload.batches(7)
    assert batch.images.shape == (16, 7, 3, 64, 64) and batch.actions.shape == (16, 6, 4)
    assert float(batch.weights.sum()) == pytest.approx(1.0)  # type: ignore[union-attr]


def test_mixed_precision_uses_less_memory(tiny_config: Path, road_store: Path, tmp_path: Path) -> None:
    """The GPU measurement, run on a CPU, including CPUs that emulate bfloat16."""
    config = load_config(tiny_config, ["training.amp_dtype=bfloat16"])
    workload = build_workload("tiny", config, road_store, tmp_path, QUICK, CPU)
    found = steps.mixed_precision(workload)
    assert found.ratios["amp_memory"] < 1 and found.ratios["amp_speed"] > 0


def test_gpu_utilization_is_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[torch.device] = []
    sampled = threading.Event()

    def utilization(device: torch.device) -> int:
        asked.append(device)
        if len(asked) == 2:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        if len(asked) == 3:
            sampled.set()
        return 40 if len(asked) == 1 else 60

    monkeypatch.setattr(torch.cuda, "utilization", utilization)
    monkeypatch.setattr(gpu, "SAMPLE_INTERVAL", 0.0)
    with throughput.gpu_use(torch.device("cuda")) as used:
        assert sampled.wait(60) and used == []
    assert used[:2] == [0.4, 0.6] and set(asked) == {torch.device("cuda")}
    with throughput.gpu_use(CPU) as used:
        pass
    assert used == []


def test_gpu_without_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_library() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", no_library)
    monkeypatch.setattr(torch.cuda, "power_draw", lambda device: no_library())
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    assert gpu.driver_cuda_version() is None
    assert "NVML does not report the power" in energy.energy_of(list, 0.0, torch.device("cuda")).reason


def test_cuda_version_of_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, answer in (("nvmlInit", None), ("nvmlShutdown", None), ("nvmlSystemGetCudaDriverVersion", 12080)):
        monkeypatch.setattr(pynvml, name, lambda answer=answer: answer)
    assert gpu.driver_cuda_version() == 12080
