"""W&B contains each step once, however the run ended. Offline: no test needs a network."""

from __future__ import annotations

import json
import math
import os
import pty
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from torch import nn

from daydrive.config import as_tree, load_config
from daydrive.errors import UserError
from daydrive.training.logging import RunLogger
from daydrive.training.logging.wandb import last_step, read_records
from helpers.logs import (
    OFFLINE,
    PLAIN,
    check_video,
    in_another_process,
    log_steps,
    moving_square,
    steps_in_jsonl,
    steps_in_tensorboard,
)
from helpers.paths import REPO


@pytest.fixture(autouse=True)
def home_of_its_own(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_DATA_DIR", "NETRC"):
        monkeypatch.delenv(name, raising=False)


def wandb_records(run: Path) -> Iterator[Any]:
    for file in sorted((run / "wandb").glob("offline-run-*/*.wandb"), key=lambda file: file.stat().st_mtime_ns):
        yield from read_records(file)


def wandb_rows(run: Path) -> list[tuple[int, dict[str, Any]]]:
    """Steps and values as W&B would upload them; a key of several parts is joined by dots."""
    rows = []
    for record in wandb_records(run):
        if record.HasField("history"):
            items = {".".join(i.nested_key) or i.key: json.loads(i.value_json) for i in record.history.item}
            rows.append((record.history.step.num, {k: v for k, v in items.items() if not k.startswith("_")}))
    return rows


def test_offline_run_contains_everything(tmp_path: Path) -> None:
    run, checkpoint = tmp_path / "run", tmp_path / "step-00000002"
    checkpoint.mkdir()
    (checkpoint / "model.safetensors").write_bytes(b"weights")
    logger = RunLogger(run, 0, OFFLINE)
    logger.scalars(1, {"train/loss": 0.5, "lr": 1e-4})
    logger.image(2, "val/samples", np.zeros((4, 6, 3), np.uint8))
    logger.video(2, "val/rollout", moving_square(), 10)
    logger.histograms(2, nn.Linear(3, 2))
    logger.scalars(2, {"val/psnr": math.nan})
    logger.note(2, "the actions are ignored")
    logger.checkpoint(2, checkpoint, ["last", "best"])
    state, where = logger.state(), logger.where()
    (checkpoint / "model.safetensors").unlink()
    began = time.monotonic()
    logger.close()
    assert time.monotonic() - began < 15

    records = list(wandb_records(run))
    begun = next(record.run for record in records if record.HasField("run"))
    assert (begun.project, begun.display_name, begun.run_id) == ("roads", "first", state["wandb_id"])
    assert (run / "wandb_id").read_text().strip() == state["wandb_id"]
    settings = {item.key: json.loads(item.value_json) for item in begun.config.update}
    assert {key: settings[key] for key in as_tree(OFFLINE)} == as_tree(OFFLINE)

    (first, plain), (second, rich) = wandb_rows(run)
    assert (first, plain) == (1, {"train/loss": 0.5, "lr": 1e-4})
    assert second == 2 and math.isnan(rich["val/psnr"]) and sum(rich["weights/weight.values"]) == 6
    media = next((run / "wandb").glob("offline-run-*/files"))
    assert Image.open(media / rich["val/samples.path"]).size == (6, 4)
    check_video((media / rich["val/rollout.path"]).read_bytes())

    artifact = next(record.artifact for record in records if record.HasField("artifact"))
    assert (artifact.type, artifact.name) == ("model", f"model-{state['wandb_id']}")
    assert {"last", "best"} <= set(artifact.aliases) and json.loads(artifact.metadata) == {"step": 2}
    file = Path(artifact.manifest.contents[0].local_path)
    assert file.is_relative_to(run) and file.read_bytes() == b"weights"
    assert next(record.exit.exit_code for record in records if record.HasField("exit")) == 0
    alert = next(record.alert for record in records if record.HasField("alert"))
    assert alert.text == "the actions are ignored"
    assert any("wandb sync" in sentence for sentence in where)


def test_failed_run_is_marked(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), closing(RunLogger(tmp_path, 0, OFFLINE)):
        raise ZeroDivisionError
    assert next(record.exit.exit_code for record in wandb_records(tmp_path) if record.HasField("exit")) == 1


def test_resumed_run_has_each_step_once(tmp_path: Path) -> None:
    """W&B retains steps 5 and 6 as the first process logged them."""
    log_steps(tmp_path, 0, range(1, 7), OFFLINE)
    log_steps(tmp_path, 4, range(5, 9), OFFLINE)
    assert [step for step, _ in wandb_rows(tmp_path)] == [*range(1, 9)]
    assert len({r.run.run_id for r in wandb_records(tmp_path) if r.HasField("run")}) == 1
    assert len(list((tmp_path / "wandb").glob("offline-run-*"))) == 2


def test_steps_lost_by_a_kill_are_restored(tmp_path: Path) -> None:
    killed = in_another_process(
        """
        logger = RunLogger(run, 0, config)
        for step in range(1, 1201):
            logger.scalars(step, {f"train/part_{i}": step + i / 100 for i in range(20)})
        os.kill(os.getpid(), signal.SIGKILL)
        """,
        tmp_path,
    )
    assert killed.returncode == -9, killed.stderr
    known = (tmp_path / "wandb_id").read_text().strip()
    assert last_step(tmp_path / "wandb", known) < 1200, "W&B writes at once now: `rows` are not needed any more"
    logger = RunLogger(tmp_path, 1100, OFFLINE)
    for step in range(1101, 1301):
        logger.scalars(step, {f"train/part_{i}": step + i / 100 for i in range(20)})
    logger.close()
    rows = wandb_rows(tmp_path)
    assert [step for step, _ in rows] == [*range(1, 1301)]
    assert all(row == {f"train/part_{i}": step + i / 100 for i in range(20)} for step, row in rows)


def test_enabling_wandb_later_uploads_earlier_steps(tmp_path: Path) -> None:
    log_steps(tmp_path, 0, range(1, 5))
    log_steps(tmp_path, 3, range(4, 6), OFFLINE)
    assert [step for step, _ in wandb_rows(tmp_path)] == [1, 2, 3, 4, 5]


def test_missing_package_names_the_install_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match=r'pip install "daydrive\[wandb\]"'):
        RunLogger(tmp_path, 0, OFFLINE)
    RunLogger(tmp_path, 0, PLAIN).close()


ONLINE = """
    import daydrive.training.logging.wandb as room
    room.INIT_SECONDS = 2
    try:
        RunLogger(run, 0, parse_config({"logging": {"use_wandb": True}}))
    except UserError as error:
        print(error)
        print(sorted(path.name for path in run.iterdir()))
"""
KEY = {"WANDB_API_KEY": "a" * 40}


def test_missing_login_gives_one_sentence_on_a_terminal(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    try:
        check_refusal(in_another_process(ONLINE, tmp_path, stdin=theirs, stderr=theirs))
    finally:
        os.close(theirs)
        os.close(ours)


def test_unreachable_server_times_out(tmp_path: Path) -> None:
    began = time.monotonic()
    check_refusal(in_another_process(ONLINE, tmp_path, **KEY, WANDB_BASE_URL="http://127.0.0.1:9"))
    assert time.monotonic() - began < 60


@pytest.mark.slow
def test_rejected_key_is_reported(tmp_path: Path) -> None:
    class Refusal(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_error(401)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Refusal) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        check_refusal(in_another_process(ONLINE, tmp_path, **KEY, WANDB_BASE_URL=url))
        server.shutdown()


def check_refusal(ended: subprocess.CompletedProcess[str]) -> None:
    sentence, left = ended.stdout.splitlines()
    assert "`wandb login`" in sentence and "--wandb-mode offline" in sentence
    assert "metrics.jsonl" not in left and "wandb_id" not in left


def test_training_continues_if_wandb_fails(tmp_path: Path) -> None:
    ended = in_another_process(
        """
        import psutil, time
        logger = RunLogger(run, 0, config)
        logger.scalars(1, {"train/loss": 1.0})
        next(child for child in psutil.Process().children(recursive=True) if "wandb-core" in child.name()).kill()
        time.sleep(0.5)
        for step in range(2, 5):
            logger.scalars(step, {"train/loss": 1 / step})
        logger.close()
        """,
        tmp_path,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.count("training continues without it, --resume reconnects") == 1
    assert "Traceback" not in ended.stderr
    assert steps_in_jsonl(tmp_path) == steps_in_tensorboard(tmp_path) == [1, 2, 3, 4]


def test_sweep_values_are_valid_settings() -> None:
    from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

    sweep = yaml.safe_load((REPO / "configs/sweeps/learning_rates.yaml").read_text())
    assert (REPO / sweep["program"]).is_file() and sweep["metric"] == {"name": "val/psnr", "goal": "maximize"}
    for end in ("min", "max"):
        chosen = {name: {"value": float(value[end])} for name, value in sweep["parameters"].items()}
        words = create_sweep_command_args({"args": chosen})
        command = []
        for word in create_sweep_command(sweep["command"]):
            command += words["args_no_hyphens"] if word == "${args_no_hyphens}" else [word]
        assert command[:4] == ["${env}", "${interpreter}", "${program}", "--config"] and "--use-wandb" in command
        config = load_config(REPO / command[4], [word for word in command[5:] if "=" in word])
        for name, value in chosen.items():
            section, key = name.split(".")
            assert getattr(getattr(config, section), key) == value["value"]
