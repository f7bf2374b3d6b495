"""The learning-rate finder: the end of a sweep, its files, and the accuracy of the suggestion."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from daydrive import cli
from daydrive.config import Config, load_config
from daydrive.data.prepare.prepare import prepare
from daydrive.data.sampling.clips import ClipIndex
from daydrive.data.sampling.loader import ClipLoader
from daydrive.data.store.store import Store
from daydrive.models import build_world_model
from daydrive.training.interruption import Interruption
from daydrive.training.lr_finder import sweep
from daydrive.training.lr_finder.suggestion import (
    rate_text,
)
from daydrive.training.optim.param_groups import build_optimizers
from helpers.paths import REPO
from helpers.runs import logged, run_training

CPU = torch.device("cpu")


@pytest.fixture
def config(tiny_config: Path) -> Config:
    return load_config(tiny_config, ["optimizer.encoder_lr=3e-4"])


def rates_by_part(config: Config, part: str, rate: float, warmed: float) -> dict[str, float]:
    model = build_world_model(config.model.model_copy(update={"image_size": (64, 64)}))
    optimizers = build_optimizers(model, config.optimizer)
    sweep.set_rates(optimizers, part, rate, config.optimizer.lr, warmed)
    found: dict[str, set[float]] = {}
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            found.setdefault(group["part"], set()).add(group["lr"])
    assert all(len(rates) == 1 for rates in found.values())
    return {part: rates.pop() for part, rates in found.items()}


def test_sweep_preserves_the_ratios_of_the_parts(config: Config) -> None:
    found = rates_by_part(config, "all", 1e-2, 0.1)
    assert found == pytest.approx({"encoder": 1e-3, "dynamics": 1e-2, "decoder": 1e-2})


def test_sweep_of_one_part_leaves_the_others_unchanged(config: Config) -> None:
    assert rates_by_part(config, "dynamics", 1e-5, 1.0) == pytest.approx(
        {"encoder": 3e-4, "dynamics": 1e-5, "decoder": 3e-3}
    )
    assert rates_by_part(config, "dynamics", 1e-5, 0.5) == pytest.approx(
        {"encoder": 1.5e-4, "dynamics": 1e-5, "decoder": 1.5e-3}
    )


Losses = Callable[[int], float]
Plant = Callable[[Losses], None]


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> Plant:
    """Makes sweeps with given losses for each step, without computing anything."""

    def plant(loss: Losses) -> None:
        steps = iter(range(10**6))
        monkeypatch.setattr(sweep, "_update", lambda engine, batches, augment: True)
        monkeypatch.setattr(sweep, "fixed_loss", lambda engine, batch: loss(next(steps)))

    return plant


def run_sweep(config: Config, store: Path, part: str = "all", steps: int = 50) -> sweep.Sweep:
    over = sweep.Range(1e-6, 1e-1, steps)
    swept = sweep.sweep(config, Store.open(store), Path("none"), part, over, CPU, Interruption(), lambda *_: None)
    assert swept is not None
    return swept


def test_sweep_stops_at_divergence(config: Config, road_store: Path, planted: Plant) -> None:
    planted(lambda step: 1.0 - 0.02 * step if step < 30 else 3.0)
    swept = run_sweep(config, road_store)
    assert 30 < len(swept.rates) < 40
    assert swept.smoothed[-1] > 2 * min(swept.smoothed) >= swept.smoothed[-2]
    assert swept.stopped_because.startswith("diverged") and rate_text(swept.rates[-1]) in swept.stopped_because
    assert swept.suggestion.rate is not None and swept.suggestion.rate < swept.rates[30]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_non_finite_loss_stops_the_sweep(config: Config, road_store: Path, planted: Plant, bad: float) -> None:
    planted(lambda step: 1.0 - 0.02 * step if step < 30 else bad)
    swept = run_sweep(config, road_store)
    assert len(swept.rates) == len(swept.losses) == len(swept.smoothed) == 30
    assert all(map(math.isfinite, swept.losses)) and "not finite" in swept.stopped_because


def test_non_finite_gradient_stops_the_sweep(config: Config, road_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    norms = iter([1.0, 1.0, math.nan])
    monkeypatch.setattr(sweep.Engine, "clip_gradients", lambda engine: next(norms))
    swept = run_sweep(config, road_store)
    assert len(swept.rates) == 2 and "not finite" in swept.stopped_because


def test_too_high_minimum_rate_is_rejected(
    command: Command, tiny_config: Path, road_store: Path, planted: Plant
) -> None:
    planted(lambda step: math.nan)
    code, _, err = command("--config", tiny_config, "--data-root", road_store)
    assert code == cli.BAD_INPUT and "not finite after one step at --min-lr 1e-06" in err
    assert not list(Path().iterdir())


def test_sweep_uses_the_first_clips_of_training(
    config: Config, road_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    accumulate = sweep.Engine.accumulate

    def note(engine: sweep.Engine, batch: sweep.Batch, last: bool) -> Iterator[object]:
        seen.append((batch.clips, batch.images.shape[1], last))
        return accumulate(engine, batch, last)

    monkeypatch.setattr(sweep.Engine, "accumulate", note)
    run_sweep(config, road_store, steps=20)
    loader = iter(ClipLoader(ClipIndex(Store.open(road_store), "train", 6), batch_size=2, clip_length=_five))
    assert len(seen) == 2 * 20
    for clips, frames, _ in seen[:8]:
        assert clips == next(loader).clips and frames == 5
    assert [last for _, _, last in seen] == [False, True] * 20


def _five(sample: int) -> int:
    return 5


Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """`daydrive find-lr` in an empty working directory: exit code, stdout, stderr."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["daydrive", "find-lr", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert isinstance(ended.value.code, int)
        return ended.value.code, *capfd.readouterr()

    return run


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_only_plot_and_json_are_written(command: Command, tiny_config: Path, road_store: Path) -> None:
    before = files(road_store)
    code, output, _ = command(
        "--config", tiny_config, "--data-root", road_store, "--steps", 20, "optimizer.encoder_lr=1e-3"
    )
    assert code == 0
    (folder,) = Path("runs").iterdir()
    assert folder.name.startswith("find-lr-tiny-")
    assert files(Path()) == {str(folder / "find_lr.json"), str(folder / "find_lr.png")}
    assert files(road_store) == before

    result = json.loads((folder / "find_lr.json").read_text())
    swept = result["sweeps"]["all"]
    assert len(swept["rates"]) == len(swept["losses"]) == len(swept["smoothed"]) == 20
    assert swept["rates"][0] == pytest.approx(1e-6) and swept["rates"][-1] == pytest.approx(1e-1)
    assert swept["stopped_because"] and swept["reason"] and swept["seconds"] > 0
    assert result["settings"]["config"]["optimizer"]["encoder_lr"] == 1e-3 and result["settings"]["steps"] == 20
    rate = swept["suggestion"]
    assert result["settings_to_write"]["optimizer"]["lr"] == rate
    assert result["settings_to_write"]["optimizer"]["encoder_lr"] == pytest.approx(rate / 3, rel=0.05)
    assert f"  lr: {rate_text(rate)}\n" in output and swept["reason"] in output
    assert "all 10/20  rate " in output and "left 0:" in output

    with Image.open(folder / "find_lr.png") as image:
        pixels = np.asarray(image.convert("RGB"), dtype=int)
    assert pixels.shape[1] >= 900
    marked = (np.abs(pixels - np.array([0xD5, 0x5E, 0x00])).sum(axis=2) < 30).sum(axis=0)
    assert marked.max() > 100, "the suggestion is marked by a line"


def test_sweep_is_deterministic(config: Config, road_store: Path) -> None:
    one, two = (run_sweep(config, road_store, "decoder", steps=20) for _ in range(2))
    assert one.losses == two.losses and one.suggestion == two.suggestion


def test_sweeps_per_part(command: Command, tiny_config: Path, road_store: Path, tmp_path: Path) -> None:
    options = ("--data-root", road_store, "--steps", 20, "--max-lr", 1, "--output", tmp_path / "deep" / "out")
    code, _, _ = command("--config", tiny_config, *options, "--per-part", "training.gradient_accumulation=1")
    result = json.loads((tmp_path / "deep" / "out" / "find_lr.json").read_text())
    assert code == 0 and list(result["sweeps"]) == ["encoder", "dynamics", "decoder"]
    suggested = {f"{part}_lr": s["suggestion"] for part, s in result["sweeps"].items() if s["suggestion"] is not None}
    assert suggested and result["settings_to_write"] == {"optimizer": suggested}
    losses = [sweep["losses"] for sweep in result["sweeps"].values()]
    assert losses[0] != losses[1] != losses[2], "another part was swept"


def test_interrupted_sweep_writes_partial_results(
    command: Command, tiny_config: Path, road_store: Path, tmp_path: Path, planted: Plant
) -> None:
    def loss(step: int) -> float:
        if step == 24:
            os.kill(os.getpid(), signal.SIGINT)
        return 1.0 - 0.01 * step

    planted(loss)
    options = ("--config", tiny_config, "--data-root", road_store, "--steps", 50, "--output", tmp_path / "out")
    code, output, _ = command(*options, "--per-part")
    result = json.loads((tmp_path / "out" / "find_lr.json").read_text())
    assert code == 130 and list(result["sweeps"]) == ["encoder"]
    assert len(result["sweeps"]["encoder"]["rates"]) == 25
    assert "interrupted" in result["sweeps"]["encoder"]["stopped_because"] and "may be higher" in output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--min-lr", "1e-2", "--max-lr", "1e-3"], r"--min-lr 0.01 has to be below --max-lr 0.001"),
        (["--min-lr", "1e-3", "--max-lr", "1e-3"], r"has to be below"),
        (["--min-lr", "0"], r"--min-lr 0: .*above 0"),
        (["--min-lr=-1e-4"], r"--min-lr -0.0001: .*above 0"),
        (["--max-lr", "nan"], r"--max-lr nan: .*above 0"),
        (["--max-lr", "inf"], r"--max-lr inf: .*above 0"),
        (["--min-lr", "tiny"], r"'--min-lr'.*number"),
        (["--steps", "19"], r"--steps 19: .*at least 20 are needed"),
        (["--part", "encodr"], r"--part encodr: .*did you mean 'encoder'"),
        (["--part", "encoder", "--per-part"], r"omit --part encoder or --per-part"),
        (["--output", "/proc/daydrive"], r"the output folder /proc/daydrive cannot be written"),
        (["--output", "file"], r"the output folder file is a file"),
        (["--output", "run"], r"the output folder run holds a training"),
        (["--config", "none.yaml"], r"there is no config file none.yaml"),
        (["--data-root", "none"], r"none"),
        (["--device", "tpu"], r"--device tpu"),
        (["optimizer.lr=-1"], r"optimizer.lr"),
        (["training.batch_size=100000"], r"lower training.batch_size"),
    ],
)
def test_invalid_input_gives_one_sentence(
    command: Command, tiny_config: Path, road_store: Path, options: list[str], message: str
) -> None:
    Path("file").write_text("")
    Path("run/checkpoints").mkdir(parents=True)
    defaults = [] if "--data-root" in options else ["--data-root", str(road_store)]
    defaults += [] if "--config" in options else ["--config", str(tiny_config)]
    code, out, err = command(*defaults, *options)
    assert code == cli.BAD_INPUT and not out
    assert err.startswith("error: ") and err.count("\n") == 1 and re.search(message, err), err
    assert {path.name for path in Path().iterdir()} == {"file", "run"}


def test_several_processes_are_rejected(
    command: Command, tiny_config: Path, road_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    code, _, err = command("--config", tiny_config, "--data-root", road_store)
    assert code == cli.BAD_INPUT and "without torchrun" in err and not list(Path().iterdir())


def test_insufficient_memory_names_settings(
    command: Command, tiny_config: Path, road_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> bool:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(sweep, "_update", fail)
    code, _, err = command("--config", tiny_config, "--data-root", road_store)
    assert code == cli.BAD_INPUT and "training.batch_size=1 with training.gradient_accumulation=4" in err
    assert not list(Path().iterdir())


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_suggestion_is_within_a_factor_of_three_of_the_best(tmp_path: Path) -> None:
    """The demo's model and settings; each rate of the grid trains for 60 steps with a warmup and a cosine."""
    store = prepare("road", None, tmp_path / "road", (64, 64), drives=16, frames=100, seed=1, workers=2)
    demo = REPO / "configs/training/demo.yaml"
    short = ["training.unroll=[{start: 0, steps: 2}]", "data.sequence_length=6", "data.num_workers=0"]
    short += ["training.max_steps=60", "scheduler.warmup_steps=6", "scheduler.min_lr=0", "logging.eval_interval=60"]
    losses = {}
    for rate in (1e-3, 3e-3, 1e-2, 3e-2):
        run = tmp_path / f"run-{rate}"
        assert run_training(demo, store, run, *short, f"optimizer.lr={rate}", "logging.save_interval=60") == 0
        losses[rate] = logged(run)[-1]["val/loss"]
    found = run_sweep(load_config(demo, short), store, steps=80).suggestion.rate
    best = vertex(losses)
    assert found is not None and best / 3 <= found <= 3 * best, (found, best, losses)


def vertex(losses: dict[float, float]) -> float:
    """The minimum of a parabola through the best rate and its neighbours, so that ties do not decide."""
    rates = sorted(losses)
    at = min(max(rates.index(min(rates, key=losses.__getitem__)), 1), len(rates) - 2)
    around = rates[at - 1 : at + 2]
    a, b, _ = np.polyfit(np.log10(around), [losses[rate] for rate in around], 2)
    return float(np.clip(10 ** (-b / (2 * a)), rates[0], rates[-1])) if a > 0 else rates[at]
