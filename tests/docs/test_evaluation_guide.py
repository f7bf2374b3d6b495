"""The commands and snippets of docs/EVALUATION.md run, and its tables are complete."""

from __future__ import annotations

import runpy
import shlex
import shutil
import sys
from pathlib import Path

import pytest
import yaml

from daydrive.data.prepare.prepare import prepare
from daydrive.files import read_json
from daydrive.report.rows import BASELINES
from helpers.guide import blocks
from helpers.paths import REPO
from helpers.runs import run_training
from helpers.tiny_training import TINY_TRAINING

GUIDE = REPO / "docs/EVALUATION.md"
FEW = ["--clips", "4", "--horizon", "6"]


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like a clone, with a store and two trained runs."""
    folder = tmp_path_factory.mktemp("reader")
    config = folder / "tiny.yaml"
    config.write_text(yaml.safe_dump(TINY_TRAINING))
    (folder / "scripts").symlink_to(REPO / "scripts")
    store = prepare("road", None, folder / "data/processed/road", (64, 64), drives=12, frames=14, seed=0, workers=1)
    assert run_training(config, store, folder / "runs/first", "training.max_steps=1") == 0
    shutil.copytree(folder / "runs/first", folder / "runs/second")
    return folder


def test_commands_run(reader: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(reader)
    for block in (block for block in blocks("bash", GUIDE) if not block.reason):
        for command in block.commands:
            _, script, *words = shlex.split(command)
            monkeypatch.setattr(sys, "argv", [script, *words, *FEW])
            with pytest.raises(SystemExit) as ended:
                runpy.run_path(script, run_name="__main__")
            assert not ended.value.code, command
    second = read_json(reader / "runs/second/evaluation/evaluation.json", "evaluation")
    assert not any(second["compared"]["runs/first/evaluation"]["psnr"])
    text = GUIDE.read_text()
    assert all(f"`{name}`" in text for name in BASELINES.values())
    written = {file.name for file in (reader / "runs/second/evaluation").iterdir()}
    assert all(f"`{name}`" in text for name in written)


def test_snippets_run(reader: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(reader)
    card, evaluation = blocks("python", GUIDE)
    exec(compile(card.text, str(GUIDE), "exec"), {})
    assert capsys.readouterr().out.startswith("copies\n**Copies.** ")
    exec(compile(evaluation.text, str(GUIDE), "exec"), {})
    assert capsys.readouterr().out.split() == ["0.0"] and (reader / "copier/report.html").is_file()
