"""Every architecture with two processes: FSDP equals DDP, and resuming is exact.

Every process draws its own noise, so runs that sample depend on the number of processes.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file

from daydrive import checkpoint
from helpers.architectures import ARCHITECTURES, write_config
from helpers.processes import keep_only, logged, trained, worst_gap
from helpers.runs import same, weights

SETTINGS = [
    "training.distributed=true", "training.use_amp=false", "training.max_steps=6", "training.batch_size=2",
    "logging.log_interval=1", "logging.eval_interval=6", "logging.save_interval=3", "logging.keep_checkpoints=2",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_two_processes(architecture: str, road_store: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path, architecture, ema_decay=0.9)
    for strategy in ("ddp", "fsdp"):
        run = tmp_path / strategy
        trained(2, config, road_store, run, *SETTINGS, f"training.strategy={strategy}")
        again = shutil.copytree(run, tmp_path / f"{strategy}-again")
        keep_only(again, 3)
        trained(2, config, road_store, again, *SETTINGS, f"training.strategy={strategy}", "--resume")
        for name in (checkpoint.WEIGHTS, checkpoint.TRAINED):
            assert same(weights(again, name), weights(run, name)), (strategy, name)
        assert logged(again)[-1]["val/psnr"] == logged(run)[-1]["val/psnr"]
    ddp, fsdp = tmp_path / "ddp", tmp_path / "fsdp"
    assert worst_gap(logged(fsdp), logged(ddp), "train/loss") < 1e-3
    assert worst_gap(logged(fsdp), logged(ddp), "train/psnr") < 1e-3
    ours, theirs = (load_file(checkpoint.find(run, "last") / checkpoint.WEIGHTS) for run in (fsdp, ddp))
    assert max(float((ours[name] - theirs[name]).abs().max()) for name in ours) < 5e-3
    checkpoint.load(fsdp)
