"""The model benchmark measures the documented quantities for every model; the speed itself is not tested here."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from torch import Tensor, nn

from daydrive.benchmarks import interleaved_timing as clock
from daydrive.benchmarks.findings import Findings, Target
from daydrive.benchmarks.model import candidates, cost, energy, latency, scene, throughput
from daydrive.checkpoint import load
from daydrive.cli import app
from daydrive.data.store.store import Store
from daydrive.evaluation.adapter import AdaptedModel, Context
from daydrive.evaluation.metrics.baselines import constant_flow
from daydrive.files import read_json
from daydrive.models.rollout import Session, rollout_uint8
from helpers.paths import REPO
from helpers.refusals import Refuse
from helpers.runs import CPU

COPY_LAST = f"{REPO / 'examples/adapters/copy_last.py'}:load"
SEEN = scene.noise((8, 8), 3, 10.0)


class Net:
    """One convolution of 3 to 3 channels, one product of 4 to 2 numbers, attention over 8 places."""

    context = 2

    def __init__(self) -> None:
        self.conv, self.linear = nn.Conv2d(3, 3, 3, padding=1), nn.Linear(4, 2, bias=False)

    def reset(self, context: Context) -> None:
        self.last = self.conv(context.images[:, -1].float())

    def step(self, action: Tensor) -> Tensor:
        self.linear(action)
        nn.functional.scaled_dot_product_attention(*[self.last[:, :, :, :4]] * 3)
        self.last = self.conv(self.last)
        return self.last.clamp(0, 255).to(torch.uint8)


def test_flops_and_weights_are_counted() -> None:
    """A multiplication and an addition count as two; attention on the CPU is included."""
    counted = cost.flops(Session(AdaptedModel("", "", Net())), SEEN)
    assert counted is not None
    conv, linear, attention = 2 * 3 * 3 * 9 * 64, 2 * 4 * 2, 2 * (2 * 3 * 8 * 8 * 4)
    assert counted["frame_flops"] == conv + linear + attention
    assert counted["first_frame_flops"] == 2 * conv + linear + attention
    assert set(counted["frame_flops_by"]) > {"convolution", "mm"}
    assert cost.weights(Session(AdaptedModel("", "", Net()))) == {
        "parameters": 3 * 3 * 9 + 3 + 8,
        "weight_bytes": 4 * (3 * 3 * 9 + 3 + 8),
    }
    still = Session(candidates.CopyLast())
    assert cost.flops(still, SEEN) is None and cost.weights(still) is None


class Slower(candidates.CopyLast):
    """Each frame of a rollout takes a millisecond longer, by a fake clock."""

    def __init__(self, now: list[float]) -> None:
        self.now = now

    def init_state(self, images: Tensor, actions: Tensor, generator: torch.Generator | None = None) -> Tensor:
        self.steps = 0
        self.now[0] += 0.5
        return super().init_state(images, actions, generator)

    def step(self, state: Tensor, action: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        self.steps += 1
        self.now[0] += self.steps / 1000
        return super().step(state, action, generator)


def test_the_first_frame_includes_the_context_and_a_slowdown_is_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    monkeypatch.setattr(latency.time, "perf_counter", lambda: now[0])
    effort = latency.LatencyEffort(rounds=3, firsts=2, steps=11, seconds=100)
    latencies = latency.measure_latency({"slower": Session(Slower(now))}, SEEN, effort)["slower"]
    assert latencies.first == pytest.approx([0.501] * 9)
    assert np.allclose(latencies.later, np.tile(np.arange(2, 12) / 1000, (3, 1)))
    summary = latency.summary(latencies)
    assert summary["next_frame_ms_min"] == pytest.approx(2) and summary["next_frame_ms_p50"] == pytest.approx(6.5)
    assert summary["next_frame_ms_p99"] > 10.9 and summary["later_frames"] == pytest.approx(10.5 / 2.5)
    assert summary["first_frames_timed"] == 9 and summary["next_frames_timed"] == 30
    assert 0 <= summary["next_frame_processor_ms_p50"] < 1000
    hurried = latency.measure_latency({"slower": Session(Slower(now))}, SEEN, effort._replace(seconds=0))["slower"]
    assert len(hurried.later) == 2


def test_frames_per_second_count_all_clips(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(clock.time, "perf_counter", lambda: now[0])

    class Greedy(Slower):
        def init_state(self, images: Tensor, actions: Tensor, generator: torch.Generator | None = None) -> Tensor:
            if len(images) > 4:
                raise torch.OutOfMemoryError
            return super().init_state(images, actions, generator)

        def step(
            self, state: Tensor, action: Tensor, generator: torch.Generator | None = None
        ) -> tuple[Tensor, Tensor]:
            self.now[0] += 0.25
            return state, state

    one, four, sixteen = throughput.frames_per_second(Session(Greedy(now)), SEEN, (1, 4, 16), clock.QUICK, CPU)
    assert (one["frames_per_second"], four["frames_per_second"]) == (4, 16)
    assert sixteen == {"batch": 16, "image_size": [8, 8], "reason": "the device has not enough memory"}


def test_step_by_step_predictions_equal_whole_rollouts(trained: Path, road_store: Path) -> None:
    seen = scene.of_store(Store.open(road_store), 4, 1)
    assert seen is not None and seen.image_size == (64, 64) and "drive" in seen.text
    context, actions = seen.context(4, batch=2), scene.swaying_actions(6)[:, 3:].expand(2, -1, -1)
    model = load(trained).model
    for predictor, predicted in (
        (model, rollout_uint8(model, context.images, torch.cat((context.actions, actions), 1))),
        (candidates.ConstantFlow(), constant_flow(seen.images[0], 3).expand(2, -1, -1, -1, -1)),
        (candidates.CopyLast(), context.images[:, -1:].expand(-1, 3, -1, -1, -1)),
    ):
        session = Session(predictor)
        session.reset(*context)
        assert torch.equal(torch.stack([session.step(actions[:, t]) for t in range(3)], 1), predicted)


def counter(root: Path, name: str, *readings: int) -> Path:
    folder = root / name
    folder.mkdir()
    (folder / "energy_uj").write_text(str(readings[0]))
    (folder / "max_energy_range_uj").write_text("999999")
    return folder / "energy_uj"


def test_energy_counters_and_overflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy, "POWERCAP", tmp_path)
    assert energy.energy_of(list, 0, CPU) == energy.Energy(
        None, reason=f"the processor has no energy counter in {tmp_path}"
    )
    first, second = counter(tmp_path, "intel-rapl:0", 900_000), counter(tmp_path, "intel-rapl:1", 100)
    core = counter(tmp_path, "intel-rapl:0:0", 0)

    def work() -> None:
        first.write_text("100000")
        second.write_text("300100")
        core.write_text("77777")

    measured = energy.energy_of(work, 0, CPU)
    assert measured.joules == pytest.approx(0.2 + 0.3) and measured.source.startswith("RAPL, 2 packages")
    first.unlink()
    first.mkdir()
    assert "intel-rapl:0/energy_uj cannot be read" in energy.energy_of(list, 0, CPU).reason


def test_the_model_suite_measures_everything(trained: Path, road_store: Path, tmp_path: Path) -> None:
    output = tmp_path / "figures" / "model.json"
    adapter = tmp_path / "peer.py"
    shutil.copy(COPY_LAST.partition(":")[0], adapter)
    adapter.write_text(adapter.read_text().replace('name = "copy_last"', 'name = "peer"'))
    arguments = ["benchmark", "model", "--checkpoint", str(trained), "--adapter", f"{adapter}:load@weights"]
    arguments += ["--output", str(output), "--data-root", str(road_store), "--quick", "--device", "cpu"]
    app(arguments, standalone_mode=False)
    result = read_json(output, "benchmark")
    json.dumps(result, allow_nan=False)
    assert result["suite"] == "model" and result["quick"] and result["machine"]["threads"] >= 1
    run, peer, *baselines = result["raw"]["dreams"]
    assert [row["name"] for row in baselines] == ["copy_last", "constant_flow"] and run["name"] == trained.name
    assert peer["made_from"] == f"{adapter}:load@weights" and peer["kind"] == "peer" and run["device"] == "cpu"
    assert run["parameters"] == sum(p.numel() for p in load(trained).model.parameters())
    assert run["frame_flops"] > 2 * run["parameters"] and "parameters" not in peer and "frame_flops" not in peer
    assert run["resident_bytes"] > 2**26 > run["working_bytes"] > 0
    ratios = ("real_time", "later_frames", "vs_copy_last", "vs_constant_flow")
    assert result["ratios"].keys() >= {f"{ratio}_{name}_cpu" for ratio in ratios for name in (trained.name, "peer")}
    assert all(math.isfinite(value) and value > 0 for value in result["ratios"].values())
    assert result["ratios"][f"real_time_{trained.name}_cpu"] == pytest.approx(100 / run["next_frame_ms_p50"])
    entries = result["raw"]["frames_per_second"]
    assert [(e["name"], e["batch"], e["image_size"][0], "untrained" in e) for e in entries] == [
        *((name, batch, 64, False) for name in (trained.name, "peer") for batch in (1, 4)),
        *((trained.name, batch, 128, True) for batch in (1, 4)),
    ]
    assert sorted(file.name for file in output.parent.iterdir()) == ["model.json", "model.png"]
    assert Pillow.open(output.with_suffix(".png")).width > 600


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["model"], "the suite 'model' needs --checkpoint"),
        (["all"], "the suite 'all' needs --checkpoint"),
        (["modle", "--checkpoint", "RUN"], "did you mean 'model'"),
        (["data", "--checkpoint", "RUN"], "for the suites 'model' and 'all', not for 'data'"),
        (["training", "--adapter", "a.py:b@c"], "for the suites 'model' and 'all', not for 'training'"),
        (["model", "--checkpoint", "RUN", "--config", "a.yaml"], "--config is for the suites 'training' and 'all'"),
        (["data", "--data-root", "STORE"], "'data' generates its own drives"),
        (["model", "--checkpoint", "nowhere"], "there is no checkpoint nowhere"),
        (["model", "--checkpoint", "RUN", "--output", "."], "is a folder; give a file"),
        (["model", "--checkpoint", "RUN", "--output", "a.png"], "name the JSON file"),
        (["model", "--checkpoint", "RUN", "--data-root", "SMALL"], "expects images of 64x64 and the store"),
        (["model", "--checkpoint", "RUN", "--adapter", "a.py:load"], "has to be FILE.py:NAME@CHECKPOINT"),
        (["model", "--checkpoint", "RUN", "--adapter", "a.py:load@b"], "there is no file a.py"),
        (
            ["model", "--checkpoint", "RUN", "--adapter", f"{COPY_LAST}@b"],
            "two models of this benchmark are called 'copy_last'",
        ),
    ],
)
def test_invalid_input_fails_before_anything_is_measured(
    arguments: list[str], message: str, refuse: Refuse, trained: Path, road_store: Path, small_store: Path
) -> None:
    paths = {"RUN": trained, "STORE": road_store, "SMALL": small_store}
    refuse("benchmark", *(paths.get(word, word) for word in arguments), message=message)


def test_all_suites_in_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def suite(name: str) -> Callable[..., tuple[Findings, dict[str, Target]]]:
        def measure(file: Path, *_: object) -> tuple[Findings, dict[str, Target]]:
            file.write_text("{}")
            found = Findings({f"{name}_speed": 2.0, f"{name}_compared": 1.0}, {name: [1]}, {f"{name}_gpu": "no GPU"})
            targets = {f"{name}_speed": Target(3, True, "more"), f"{name}_gpu": Target(1, True, "")}
            return found, targets | {f"{name}_compared": Target(None, True, "to compare")}

        return measure

    for name in ("model", "data", "training"):
        monkeypatch.setattr(f"daydrive.benchmarks.{name}.benchmark_{name}", suite(name))
    output = tmp_path / "new" / "all.json"
    app(["benchmark", "all", "--checkpoint", "any", "--output", str(output), "--device", "cpu"], standalone_mode=False)
    result = read_json(output, "benchmark")
    names = ("model", "data", "training")
    assert result["suite"] == "all" and result["raw"] == {name: [1] for name in names}
    assert result["ratios"].keys() == {f"{name}_{kind}" for name in names for kind in ("speed", "compared")}
    assert result["targets"]["data_speed"] == {"what": "more", "target": ">= 3", "met": False}
    assert result["targets"]["data_compared"] == {"what": "to compare", "target": "", "met": None}
    assert result["not_measured"].keys() == {f"{name}_gpu" for name in names}
    assert sorted(file.name for file in output.parent.iterdir()) == ["all.json", "all.png"]
