"""Each training config as its file says, on 64 px drives: it starts, steps, saves and evaluates; one at its own 256 px.

Only the number of steps, of loading processes, of passes and, of the larger, of clips is cut; model and precision are
the file's. These tests take gigabytes each, so they stay in one file: the slow tests run two files at a time.
"""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from daydrive import checkpoint
from daydrive.config import as_tree, load_config
from daydrive.data.prepare.prepare import prepare
from helpers.paths import REPO
from helpers.runs import logged

CONFIGS = REPO / "configs/training"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen training clips of ten frames, which is as many as the largest step here takes, and two for validation."""
    folder = tmp_path_factory.mktemp("recipes") / "road"
    return prepare("road", None, folder, (64, 64), drives=22, frames=10, seed=0, workers=1)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("name", "processes", "steps", "fewer"),
    [
        ("base", 1, 1, ["training.gradient_accumulation=1", "training.batch_size=4"]),
        ("distributed", 2, 1, ["training.batch_size=2"]),
        ("demo", 1, 2, []),
        ("rssm", 1, 2, ["data.sequence_length=10"]),
        ("diffusion", 1, 2, []),
        ("recipes/quick_prototype", 1, 1, ["training.gradient_accumulation=1", "training.batch_size=8"]),
        ("recipes/memory_efficient", 1, 1, []),
        ("recipes/long_rollouts", 1, 2, ["training.self_rollout.start=0.5"]),
        ("recipes/sampled_rollouts", 1, 2, ["training.self_rollout.start=0.5"]),
        ("recipes/road", 1, 2, ["training.self_rollout.start=0.5"]),
        ("recipes/best_quality", 1, 1, ["training.gradient_accumulation=1", "training.batch_size=2"]),
    ],
)
def test_config_trains_saves_and_evaluates(
    name: str, processes: int, steps: int, fewer: list[str], store: Path, tmp_path: Path
) -> None:
    file, run = CONFIGS / f"{name}.yaml", tmp_path / "run"
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    done(
        *(torchrun if processes > 1 else []), "scripts/train.py", "--config", str(file), "--data-root", str(store),
        "--run-dir", str(run), "--device", "cpu", f"training.max_steps={steps}", "data.num_workers=1", *fewer,
    )  # fmt: skip

    metrics = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()][-1]
    assert metrics["step"] == steps
    assert all(math.isfinite(metrics[figure]) for figure in ("train/loss", "val/psnr", "val/copy_last_psnr"))
    folder = checkpoint.find(run, "last")
    state = checkpoint.read_state(folder)
    assert (state["step"], state["world"]) == (steps, processes)
    asked, used = load_config(file, fewer), checkpoint.read_config(folder)
    assert state["clips_per_step"] == asked.training.batch_size * asked.training.gradient_accumulation * processes
    tree = as_tree(used)
    tree["training"]["max_steps"], tree["model"]["image_size"] = asked.training.max_steps, asked.model.image_size
    tree["data"] |= {"num_workers": asked.data.num_workers, "root": None}
    assert tree == as_tree(asked)
    assert (folder / checkpoint.TRAINED).is_file() == (asked.training.ema_decay is not None)
    assert all(bool(weight.isfinite().all()) for weight in load_file(folder / checkpoint.WEIGHTS).values())

    done(
        "scripts/evaluate.py", "--checkpoint", str(run), "--data-root", str(store), "--output", str(run / "evaluation"),
        "--clips", "2", "--horizon", "2", "--device", "cpu",
    )  # fmt: skip
    result = json.loads((run / "evaluation/evaluation.json").read_text())
    assert (result["training_step"], result["clips"]) == (steps, 2)
    assert (run / "evaluation/strip.png").stat().st_size > 1000


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_base_config_trains_at_full_size(tmp_path: Path) -> None:
    """One clip of ten frames of 256x256 pixels; the sixteen at once that the file says want a GPU."""
    store = prepare("road", None, tmp_path / "road", (256, 256), drives=5, frames=11, seed=0)
    done(
        "scripts/train.py", "--config", str(CONFIGS / "base.yaml"), "--data-root", str(store),
        "--run-dir", str(tmp_path / "run"), "--device", "cpu", "training.max_steps=1",
        "training.gradient_accumulation=1", "training.batch_size=1", "data.num_workers=1",
    )  # fmt: skip
    (last,) = logged(tmp_path / "run")
    assert last["step"] == 1 and 0 < last["train/loss"] < 5


def done(*arguments: str) -> None:
    process = subprocess.run(
        [sys.executable, *arguments], cwd=REPO, capture_output=True, text=True, env=dict(os.environ), timeout=1700
    )
    assert process.returncode == 0, (process.stdout + process.stderr)[-3000:]
