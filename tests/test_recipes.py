"""Each training config as its file says, on 64 px drives: it starts, steps, saves and evaluates.

Only the number of steps, of loading processes and of passes is cut, of the largest the batch as well; model and precision
are the file's.
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
from daydrive.data.prepare import prepare

REPO = Path(__file__).parent.parent
CONFIGS = REPO / "configs/training"

pytestmark = pytest.mark.xdist_group("gigabytes")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """32 training clips of ten frames, which is as many as two processes take at once, and four for validation."""
    folder = tmp_path_factory.mktemp("recipes") / "road"
    return prepare("road", None, folder, (64, 64), drives=22, frames=11, seed=0, workers=1)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("name", "processes", "steps", "fewer"),
    [
        ("base", 1, 1, ["training.gradient_accumulation=1"]),
        ("distributed", 2, 1, []),
        ("demo", 1, 2, []),
        ("recipes/quick_prototype", 1, 1, ["training.gradient_accumulation=1"]),
        ("recipes/memory_efficient", 1, 1, []),
        ("recipes/best_quality", 1, 1, ["training.gradient_accumulation=1", "training.batch_size=4"]),
    ],
)
def test_a_config_starts_steps_saves_and_evaluates(
    name: str, processes: int, steps: int, fewer: list[str], store: Path, tmp_path: Path
) -> None:
    file, run = CONFIGS / f"{name}.yaml", tmp_path / "run"
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    done(
        *(torchrun if processes > 1 else []), "scripts/train.py", "--config", str(file), "--data-root", str(store),
        "--run-dir", str(run), "--device", "cpu", f"training.max_steps={steps}", "data.num_workers=1", *fewer,
    )  # fmt: skip

    figures = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()][-1]
    assert figures["step"] == steps
    assert all(math.isfinite(figures[figure]) for figure in ("train/loss", "val/psnr", "val/copy_last_psnr"))
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
        "--clips", "2", "--horizon", "6", "--device", "cpu",
    )  # fmt: skip
    result = json.loads((run / "evaluation/evaluation.json").read_text())
    assert (result["training_step"], result["clips"]) == (steps, 2)
    assert (run / "evaluation/strip.png").stat().st_size > 1000


def done(*arguments: str) -> None:
    process = subprocess.run(
        [sys.executable, *arguments], cwd=REPO, capture_output=True, text=True, env=dict(os.environ), timeout=1700
    )
    assert process.returncode == 0, (process.stdout + process.stderr)[-3000:]
