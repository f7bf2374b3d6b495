"""Environment variables of other tools: each of the table in docs/UTILITIES_GUIDE.md."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest
import torch

from daydrive import cli, distributed, perceptual
from daydrive.cli.environment import wandb_overrides
from daydrive.config import Config, load_config
from daydrive.data.prepare.prepare import prepare
from daydrive.data.store.store import Store
from daydrive.distributed import adopt_slurm, first_host
from daydrive.errors import UserError
from daydrive.progress import DriveProgress
from daydrive.training import run as run_module
from helpers.open_formats import write_lerobot
from helpers.paths import REPO
from helpers.refusals import Refuse

STEP = {
    "SLURM_JOB_ID": "123456", "SLURM_STEP_ID": "2", "SLURM_STEP_NUM_TASKS": "8", "SLURM_STEP_NUM_NODES": "2",
    "SLURM_PROCID": "5", "SLURM_LOCALID": "1", "SLURM_STEP_NODELIST": "gpu[03-04]",
}  # fmt: skip
"""Variables of a task started by srun."""


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_MODE", "WANDB_PROJECT", "WANDB_NAME", "WANDB_DIR", "WANDB_DISABLED", "HF_HOME", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, []),
        ({"WANDB_MODE": "", "WANDB_PROJECT": ""}, []),
        ({"WANDB_MODE": "offline"}, ['logging.wandb_mode="offline"']),
        ({"WANDB_MODE": "dryrun"}, ['logging.wandb_mode="offline"']),
        ({"WANDB_MODE": "disabled"}, ['logging.wandb_mode="disabled"']),
        ({"WANDB_DISABLED": "true", "WANDB_MODE": "online"}, ['logging.wandb_mode="disabled"']),
        ({"WANDB_DISABLED": "false"}, []),
        (
            {"WANDB_PROJECT": "a: b", "WANDB_NAME": "17"},
            ['logging.wandb_project="a: b"', 'logging.wandb_name="17"'],
        ),
    ],
)
def test_wandb_variables_are_settings(environment: dict[str, str], expected: list[str]) -> None:
    assert wandb_overrides(environment) == expected


def test_invalid_wandb_mode() -> None:
    with pytest.raises(UserError, match=r"WANDB_MODE=ofline.*did you mean 'offline'"):
        wandb_overrides({"WANDB_MODE": "ofline"})


def started(config: Path, patch: pytest.MonkeyPatch, *words: str) -> Config:
    """The settings with which training is started."""
    found: list[Config] = []

    def train_run(config: Config, *_: object) -> int:
        found.append(config)
        return 0

    patch.setattr(run_module, "train_run", train_run)
    patch.setattr(sys, "argv", ["daydrive", "train", "--config", str(config), *words])
    with pytest.raises(SystemExit):
        cli.main()
    return found[0]


def test_precedence_of_flags_environment_and_file(
    tiny_config: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_config.write_text(tiny_config.read_text().replace("logging:", "logging:\n  wandb_project: file"))
    assert load_config(tiny_config).logging.wandb_project == "file"
    for name, value in {"MODE": "offline", "PROJECT": "roads", "NAME": "first"}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    assert started(tiny_config, monkeypatch).logging.wandb_project == "file"  # W&B is not asked for
    logging = started(tiny_config, monkeypatch, "--use-wandb").logging
    assert (logging.wandb_mode, logging.wandb_project, logging.wandb_name) == ("offline", "roads", "first")
    logging = started(
        tiny_config, monkeypatch, "--use-wandb", "--wandb-mode", "online", "--wandb-project", "flag",
        "logging.wandb_name=override",
    ).logging  # fmt: skip
    assert (logging.wandb_mode, logging.wandb_project, logging.wandb_name) == ("online", "flag", "override")


def test_training_uses_wandb_variables(
    tiny_config: Path, road_store: Path, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without an API key."""
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("HOME", str(here / "home"))
    monkeypatch.setenv("WANDB_DIR", str(here / "all"))

    def train(run: str, *words: str) -> str:
        command = ["train", "--config", str(tiny_config), "--data-root", str(road_store), "--run-dir", run]
        monkeypatch.setattr(sys, "argv", ["daydrive", *command, "--use-wandb", "training.max_steps=1", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert not ended.value.code
        return capsys.readouterr().out

    monkeypatch.setenv("WANDB_MODE", "offline")
    output = train("first")
    assert list((here / "all/wandb").glob("offline-run-*/*.wandb")) and not (here / "first/wandb").exists()
    assert f"wandb sync {here}/all/wandb/*run-*" in output.replace("\n", "")
    shutil.rmtree(here / "all")
    monkeypatch.setenv("WANDB_DISABLED", "true")
    assert "disabled by logging.wandb_mode or the environment" in train("second", "--dry-run")
    train("third")
    assert not (here / "all").exists() and not (here / "third/wandb_id").exists()


def test_srun_tasks_form_one_training() -> None:
    environment = dict(STEP)
    adopt_slurm(environment)
    assert {name: environment[name] for name in environment.keys() - STEP.keys()} == {
        "RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4", "MASTER_ADDR": "gpu03",
        "MASTER_PORT": str(20_000 + 123_458 % 20_000),
    }  # fmt: skip


@pytest.mark.parametrize(
    "environment",
    [
        {"RANK": "0", "WORLD_SIZE": "2", **STEP},
        {"SLURM_JOB_ID": "1", "SLURM_NTASKS": "8", "SLURM_PROCID": "0"},
        {**STEP, "SLURM_STEP_NUM_TASKS": "1"},
    ],
    ids=["torchrun", "a batch script", "one task"],
)
def test_other_slurm_environments_are_ignored(environment: dict[str, str]) -> None:
    before = dict(environment)
    adopt_slurm(environment)
    assert environment == before


def test_existing_variables_are_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**STEP, "MASTER_ADDR": "here", "MASTER_PORT": "7"}.items():
        monkeypatch.setenv(name, value)
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    assert distributed.launched_processes() == 8 and not distributed.is_first_process()
    assert (distributed.os.environ["MASTER_ADDR"], distributed.os.environ["MASTER_PORT"]) == ("here", "7")  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("nodes", "first"),
    [("node7", "node7"), ("a1,b2", "a1"), ("n[1-4]", "n1"), ("n[5,7]-ib", "n5-ib"), ("", "localhost")],
)
def test_first_host_of_a_node_list(nodes: str, first: str) -> None:
    assert first_host(nodes) == first


def test_nothing_is_downloaded_offline(refuse: Refuse, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", download)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    refuse("fetch-weights", "alexnet", message="HF_HUB_OFFLINE is set.*alexnet")
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    with pytest.raises(AssertionError):
        perceptual.fetch_weights("alexnet")


@pytest.mark.parametrize(("variable", "below"), [("HF_HOME", "hf/lerobot"), ("HF_LEROBOT_HOME", "hf")])
def test_downloaded_lerobot_dataset_is_found_by_name(
    variable: str, below: str, here: Path, monkeypatch: pytest.MonkeyPatch, refuse: Refuse
) -> None:
    write_lerobot(here / below / "owner/cars", [6, 6, 6])
    monkeypatch.delenv("HF_LEROBOT_HOME", raising=False)
    monkeypatch.setenv(variable, str(here / "hf"))
    store = Store.open(prepare("lerobot", Path("owner/cars"), here / "s", (32, 32), workers=0))
    assert store.metadata["request"]["data_root"] == str((here / below / "owner/cars").resolve())
    refuse("prepare-dataset", "--dataset", "lerobot", "--data-root", "owner/vans", message="owner/vans does not exist")


@pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)])
def test_no_color(
    no_color: str, coloured: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("NO_COLOR", no_color)
    with DriveProgress([4], [4]) as progress:
        progress.print_message("careful", "bold yellow")
    output = "".join(capsys.readouterr())
    assert output and bool(re.search(r"\x1b\[[0-9;]*[34][0-9]", output)) == coloured


def test_guide_lists_all_variables() -> None:
    text = (REPO / "docs/UTILITIES_GUIDE.md").read_text(encoding="utf-8")
    table = text.split("## Environment variables")[1].split("\n## ")[0]
    named = set(re.findall(r"`([A-Z][A-Z0-9_]+)`", table))
    read = {
        name
        for file in (REPO / "src").rglob("*.py")
        for name in re.findall(r"environ(?:ment)?(?:\.get\(|\.setdefault\(|\[)\"([A-Z_0-9]+)\"", file.read_text())
    }
    assert read - {"LANCE_CPU_THREADS", "LANCE_IO_THREADS", "RAY_USAGE_STATS_ENABLED", "SDL_VIDEODRIVER"} <= named
