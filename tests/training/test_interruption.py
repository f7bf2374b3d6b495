"""Interruptions: kills, signals, a full disk, a second process; resuming gives the same run."""

import json
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from daydrive import checkpoint
from daydrive.errors import UserError
from daydrive.workspace import exclusive_lock
from helpers.runs import logged, run_training, same, start, wait_for_step, weights
from helpers.tiny_training import TINY_TRAINING


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("config") / "tiny.yaml"
    file.write_text(yaml.safe_dump(TINY_TRAINING))
    return file


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("wanted", "extra"),
    [(14, []), (6, ["training.ema_decay=0.9", "training.amp_dtype=float16", "data.num_workers=1"])],
)
def test_kills_at_random_moments_do_not_change_the_result(
    config: Path, road_store: Path, tmp_path: Path, wanted: int, extra: list[str]
) -> None:
    """Saves at every step, so that many kills hit a checkpoint that is being written."""
    chance = random.Random(0)
    last = 6 * wanted
    steps = [f"training.max_steps={last}", "logging.save_interval=1", *extra]
    assert run_training(config, road_store, tmp_path / "unbroken", *steps) == 0
    run = tmp_path / "killed"
    kills = 0
    for attempt in range(60):
        process = start(config, road_store, run, *steps, resume=attempt > 0)
        if kills < wanted:
            wait_for_step(process, run, 1 + 5 * kills)
            time.sleep(chance.uniform(0, 0.4))
        if kills < wanted and process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
            continue
        assert process.wait(300) == 0
        break
    assert kills == wanted
    assert same(weights(run), weights(tmp_path / "unbroken"))
    for name in (checkpoint.TRAINED, checkpoint.MOMENTS):
        assert same(weights(run, name), weights(tmp_path / "unbroken", name))
    assert logged(run) == logged(tmp_path / "unbroken")
    events = EventAccumulator(str(run))
    events.Reload()
    assert [event.step for event in events.Scalars("train/loss")] == list(range(3, last + 1, 3))
    assert [event.step for event in events.Scalars("val/psnr")] == list(range(4, last + 1, 4))


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGUSR1, 138)])
def test_resuming_after_a_signal_is_exact(
    config: Path, road_store: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    run = tmp_path / "run"
    assert run_training(config, road_store, tmp_path / "unbroken") == 0
    process = start(config, road_store, run)
    wait_for_step(process, run, 3)
    process.send_signal(number)
    assert process.wait(60) == code
    assert checkpoint.read_state(checkpoint.find(run, "last"))["step"] < 12
    assert run_training(config, road_store, run, resume=True) == 0
    assert same(weights(run), weights(tmp_path / "unbroken"))
    assert logged(run) == logged(tmp_path / "unbroken")


def test_second_process_is_rejected_with_the_holder(config: Path, road_store: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = start(config, road_store, run, "training.max_steps=5000")
    wait_for_step(process, run, 1)
    second = subprocess.run(
        [sys.executable, "-m", "daydrive", "train", "--config", str(config), "--data-root", str(road_store),
         "--run-dir", str(run), "--resume", "training.max_steps=5000"],
        capture_output=True, text=True,
    )  # fmt: skip
    process.kill()
    process.wait()
    assert second.returncode == 2
    assert f"{run} is in use by process {process.pid} on {socket.gethostname()}" in second.stderr
    assert len(second.stderr.strip().splitlines()) == 1


def test_lock_is_released_when_its_holder_is_killed(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    code = (
        "import sys, time; from pathlib import Path; from daydrive.workspace import exclusive_lock\n"
        "with exclusive_lock(Path(sys.argv[1]), str): print('held', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(lock)], stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == b"held\n"
    with pytest.raises(UserError, match=f"process {process.pid} on"), exclusive_lock(lock, str):
        pass
    process.kill()
    process.wait()
    with exclusive_lock(lock, str):
        pass


@pytest.fixture
def small_disk(tmp_path: Path):
    """A file system of 3 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a small tmpfs needs rights that are not there")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_full_disk_retains_the_previous_checkpoint(
    config: Path, road_store: Path, tmp_path: Path, small_disk: Path
) -> None:
    run = small_disk / "run"
    steps = ["training.max_steps=4000", "logging.save_interval=1", "logging.eval_interval=5000"]
    process = start(config, road_store, run, *steps)
    wait_for_step(process, run, 6)
    with pytest.raises(OSError, match="No space left"), (small_disk / "filler").open("wb") as filler:
        while True:
            filler.write(bytes(4096))
            filler.flush()
    _, output = process.communicate(timeout=60)
    assert process.returncode == 2
    sentence = output.decode().strip().splitlines()[-1]
    assert sentence.startswith("error: ") and "No space left" in sentence and "--resume" in sentence, output
    (small_disk / "filler").unlink()
    folder = checkpoint.find(run, "last")
    step = checkpoint.read_state(folder)["step"]
    assert step >= 5 and not list((run / "checkpoints").glob(".*"))
    going_on = start(config, road_store, run, *steps, resume=True)
    wait_for_step(going_on, run, step + 3)
    going_on.kill()
    going_on.wait()
    assert checkpoint.read_state(checkpoint.find(run, "last"))["step"] > step


def test_changed_settings_are_listed_or_rejected(
    config: Path, road_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert run_training(config, road_store, run, "training.max_steps=4") == 0
    expected = r"pred_weight was 1\.0 in .* is 2\.0 now \(and 1 more: training\.max_steps\).*--allow-change"
    with pytest.raises(UserError, match=expected):
        run_training(config, road_store, run, "training.max_steps=8", "loss.pred_weight=2.0", resume=True)
    capsys.readouterr()
    settings = ["training.max_steps=8", "loss.pred_weight=2.0", "logging.log_interval=1"]
    assert run_training(config, road_store, run, *settings, resume=True, allow_change=True) == 0
    output = capsys.readouterr().out
    for change in (
        "max_steps was 4 and is now 8",
        "pred_weight was 1.0 and is now 2.0",
        "log_interval was 3 and is now 1",
    ):
        assert change in output
    assert [line["step"] for line in logged(run) if "train/loss" in line] == [3, 4, 5, 6, 7, 8]


def test_newest_and_best_checkpoints_are_retained(config: Path, road_store: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert run_training(config, road_store, run, "logging.keep_checkpoints=3", "logging.save_interval=1") == 0
    steps = {int(path.name[5:]) for path in (run / "checkpoints").glob("step-*")}
    assert steps == {10, 11, 12} | {checkpoint.read_state(checkpoint.find(run, "best"))["step"]}


@pytest.mark.slow
def test_state_contains_everything_needed_to_resume(config: Path, road_store: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert run_training(config, road_store, run, "training.ema_decay=0.5", "training.amp_dtype=float16") == 0
    state = checkpoint.read_state(checkpoint.find(run, "last"))
    assert (state["step"], state["sample"], state["clips_per_step"], state["world"]) == (12, 48, 4, 1)
    assert state["ema_updates"] + state["skipped_steps"] == 12 and state["scaler"]["scale"] > 0
    assert {"best", "meter", "alarms", "loggers", "seeds_of_the_next_step"} <= state.keys()


@pytest.mark.parametrize("damage", ["state", "moments", "trained"])
def test_incomplete_checkpoint_is_rejected(config: Path, road_store: Path, tmp_path: Path, damage: str) -> None:
    run = tmp_path / "run"
    extra = ["training.max_steps=2", "training.ema_decay=0.5"]
    assert run_training(config, road_store, run, *extra) == 0
    folder = checkpoint.find(run, "last")
    if damage == "state":
        state = json.loads((folder / "state.json").read_text())
        del state["clips_per_step"]
        (folder / "state.json").write_text(json.dumps(state))
        file = "state.json"
    else:
        file = checkpoint.MOMENTS if damage == "moments" else checkpoint.TRAINED
        (folder / file).write_bytes((folder / file).read_bytes()[:-50])
    with pytest.raises(UserError, match=file):
        run_training(config, road_store, run, *extra, resume=True)
