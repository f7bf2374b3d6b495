"""Several processes: the same run for any number, one message if one of them fails, no lost steps.

The processes are real, joined by gloo, and every wait has a timeout.
"""

import shutil
import signal
import socket
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
import yaml
from safetensors.torch import load_file

from daydrive import checkpoint
from daydrive.config import load_config
from daydrive.errors import UserError
from daydrive.training.distributed import check_processes
from helpers.processes import (
    PATIENCE,
    command,
    finish,
    keep_only,
    logged,
    start,
    torchrun,
    trained,
    wait_for_checkpoint,
    worst_gap,
)
from helpers.tiny_training import TINY_TRAINING


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """float32 and AdamW: Muon's Newton-Schulz iterations in bfloat16 would hide the effect of the number of
    processes."""
    tree = {
        **TINY_TRAINING,
        "model": {**TINY_TRAINING["model"], "dynamics": {"num_layers": 1, "dropout": 0.0}},
        "training": {"use_amp": False, "max_steps": 20, "distributed": True, "unroll": [{"start": 0.0, "steps": 1}]},
        "optimizer": {"type": "adamw", "lr": 1e-3},
        "logging": {"log_interval": 1, "eval_interval": 10, "save_interval": 1, "num_samples": 1},
    }
    file = tmp_path_factory.mktemp("config") / "tiny.yaml"
    file.write_text(yaml.safe_dump(tree))
    return file


@pytest.mark.slow
def test_run_depends_only_on_the_global_batch(config: Path, road_store: Path, tmp_path: Path) -> None:
    runs = {
        world: trained(world, config, road_store, tmp_path / str(world), f"training.batch_size={16 // world}")
        for world in (1, 2, 4)
    }
    assert [line["step"] for line in runs[1]] == list(range(1, 21))
    for world in (2, 4):
        assert worst_gap(runs[world], runs[1], "train/loss") < 1e-4
        assert worst_gap(runs[world], runs[1], "train/grad_norm") < 1e-3
        assert worst_gap(runs[world], runs[1], "val/psnr") < 1e-4
        assert worst_gap(runs[world], runs[1], "val/train_psnr") < 1e-4
    moved = abs(runs[1][0]["train/loss"] - runs[1][-1]["train/loss"]) / runs[1][0]["train/loss"]
    assert moved > 0.05, "a run that learns nothing would agree as well"


@pytest.mark.slow
def test_fsdp_matches_ddp(config: Path, road_store: Path, tmp_path: Path) -> None:
    steps = ["training.max_steps=6", "training.batch_size=4", "training.gradient_accumulation=2", "optimizer.type=muon"]
    whole = trained(2, config, road_store, tmp_path / "ddp", *steps)
    shared = trained(
        2, config, road_store, tmp_path / "fsdp", *steps, "training.strategy=fsdp", "training.ema_decay=0.9"
    )
    assert worst_gap(shared, whole, "train/loss") < 1e-3
    folder = checkpoint.find(tmp_path / "fsdp", "last")
    assert sorted(path.suffix for path in (folder / "optimizer").iterdir()) == [".safetensors", ".safetensors"]
    ours, theirs = (
        load_file(folder / checkpoint.TRAINED),
        load_file(checkpoint.find(tmp_path / "ddp", "last") / "model.safetensors"),
    )
    assert ours.keys() == theirs.keys()
    assert max(float((ours[name] - theirs[name]).abs().max()) for name in ours) < 5e-3


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_resuming_with_another_number_of_processes(
    config: Path, road_store: Path, tmp_path: Path, strategy: str
) -> None:
    settings = ["training.batch_size=4", "logging.save_interval=3", f"training.strategy={strategy}"]
    unbroken = trained(2, config, road_store, tmp_path / "unbroken", *settings, "training.max_steps=9")
    run = tmp_path / "run"
    for world, until in ((2, 3), (1, 6), (2, 9)):
        process = start(
            [
                *torchrun(world),
                *command(config, road_store, run, *settings, "training.max_steps=9", *["--resume"][: until > 3]),
            ]
        )
        wait_for_checkpoint(run, until)
        if until < 9:
            for child in psutil.Process(process.pid).children(recursive=True):
                child.kill()
        finish(process)
        keep_only(run, until)
    state = checkpoint.read_state(checkpoint.find(run, "last"))
    assert (state["step"], state["sample"], state["clips_per_step"]) == (9, 72, 8)
    assert worst_gap(logged(run), unbroken, "train/loss") < 1e-4


def test_killed_process_ends_all_within_seconds(config: Path, road_store: Path, tmp_path: Path) -> None:
    process = start(
        [
            *torchrun(2),
            *command(config, road_store, tmp_path / "run", "training.max_steps=5000", "training.batch_size=2"),
        ]
    )
    wait_for_checkpoint(tmp_path / "run", 1)
    ranks = [child for child in psutil.Process(process.pid).children() if "train.py" in " ".join(child.cmdline())]
    assert len(ranks) == 2
    ranks[1].kill()
    began = time.monotonic()
    output = finish(process, 60)
    assert time.monotonic() - began < 20
    assert process.returncode != 0
    assert output.count("error: ") <= 1
    assert not any(rank.is_running() and rank.status() != psutil.STATUS_ZOMBIE for rank in ranks)
    assert checkpoint.read_state(checkpoint.find(tmp_path / "run", "last"))["step"] >= 1


def test_bad_data_in_one_process_ends_all_with_one_sentence(config: Path, tmp_path: Path, damaged_store: Path) -> None:
    process = start(
        [
            *torchrun(2),
            *command(config, damaged_store, tmp_path / "run", "training.batch_size=2", "training.max_steps=500"),
        ]
    )
    output = finish(process)
    assert process.returncode != 0
    sentences = [line for line in output.splitlines() if line.startswith("error: ")]
    assert len(sentences) == 1, output[-3000:]
    assert "damaged image" in sentences[0] and "(process " in sentences[0]


@pytest.fixture
def damaged_store(road_store: Path, tmp_path: Path) -> Path:
    """One image of a training drive cannot be decoded."""
    import lance
    import pyarrow as pa

    from daydrive.data.store.store import TABLE, Store

    folder = tmp_path / "damaged"
    shutil.copytree(road_store, folder)
    drive = next(drive for drive in Store.open(folder).drives if drive.split == "train")
    table = lance.dataset(str(folder / TABLE)).to_table()
    images = table.column("image").to_pylist()
    images[drive.start + drive.frames // 2] = b"not a supported image"
    place = table.schema.get_field_index("image")
    table = table.set_column(place, table.schema.field("image"), pa.array(images, table.schema.field("image").type))
    shutil.rmtree(folder / TABLE)
    lance.write_dataset(table, str(folder / TABLE))
    return folder


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGUSR1, 138)])
def test_signal_saves_and_sets_the_exit_code(
    config: Path, road_store: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    """As started and ended by Slurm: without torchrun, configured by variables."""
    run = tmp_path / "run"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    settings = ["training.max_steps=5000", "training.batch_size=2", "logging.save_interval=1000"]
    processes = [
        start(
            [sys.executable, *command(config, road_store, run, *settings)],
            RANK=str(rank), WORLD_SIZE="2", LOCAL_RANK=str(rank), MASTER_ADDR="127.0.0.1", MASTER_PORT=port,
        )
        for rank in range(2)
    ]  # fmt: skip
    deadline = time.monotonic() + PATIENCE
    while not (run / "metrics.jsonl").is_file() or len(logged(run)) < 2:
        assert time.monotonic() < deadline and all(process.poll() is None for process in processes)
        time.sleep(0.05)
    for process in processes:
        process.send_signal(number)
    output = [finish(process, 60) for process in processes]
    assert [process.returncode for process in processes] == [code, code], output
    assert "--resume" in output[0]
    assert checkpoint.read_state(checkpoint.find(run, "last"))["step"] == logged(run)[-1]["step"]


def test_unexpected_processes_are_rejected(monkeypatch: pytest.MonkeyPatch, tiny_config: Path) -> None:
    training = load_config(tiny_config).training
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(UserError, match=r"4 processes were started.*set training\.distributed=true"):
        check_processes(training)
    distributed = training.model_copy(update={"distributed": True, "backend": "nccl"})
    if not torch.cuda.is_available():
        world, output = check_processes(distributed)
        assert world == 4 and output is not None and "gloo" in output
    monkeypatch.delenv("WORLD_SIZE")
    world, output = check_processes(distributed)
    assert world == 1 and output is not None and "torchrun --nproc_per_node" in output


@pytest.mark.slow
def test_indivisible_step_is_rejected(config: Path, road_store: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    trained(1, config, road_store, run, "training.max_steps=2", "training.batch_size=3")
    process = start(
        [*torchrun(2), *command(config, road_store, run, "training.max_steps=2", "training.batch_size=3", "--resume")]
    )
    output = finish(process)
    assert process.returncode != 0
    assert (
        "a step of this run has 3 clips, which 2 processes with training.batch_size = 3 cannot divide evenly" in output
    )
