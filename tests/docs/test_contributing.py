"""The exercises of CONTRIBUTING.md work in a copy of the repository and are as short as documented."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from safetensors.torch import load_file

from daydrive import checkpoint
from daydrive.data.prepare.prepare import prepare
from helpers.guide import blocks, small
from helpers.paths import REPO
from helpers.runs import logged, same, wait_for_step
from helpers.source_packages import install

GUIDE = REPO / "CONTRIBUTING.md"
LONGEST = {"Add a source": 60, "Add a metric": 60, "Add a model": 80}
IN_THE_TREE = ("Add a source", "Add a metric")
COPIED = ("src", "tests", "docs", "configs", "scripts", "examples", "pyproject.toml", "README.md", "CONTRIBUTING.md")


def lines_of(exercise: str) -> range:
    """Lines of CONTRIBUTING.md from the heading of the exercise to the next heading."""
    text = GUIDE.read_text(encoding="utf-8")
    begin = text.index(f"\n## {exercise}\n")
    end = text.index("\n## ", begin + 1)
    return range(text[:begin].count("\n"), text[:end].count("\n"))


def parts(exercise: str, *languages: str) -> list[str]:
    where = lines_of(exercise)
    return [block.text for language in languages for block in blocks(language, GUIDE) if block.line in where]


def carry_out(exercise: str, tree: Path) -> list[Path]:
    """Write the files and apply the changes; each changed place must occur exactly once."""
    touched = []
    for text in parts(exercise, "python", "toml", "yaml"):
        name, _, body = text.partition("\n")
        file = tree / name.removeprefix("# ")
        assert not file.exists(), file
        file.parent.mkdir(exist_ok=True)
        file.write_text(body, encoding="utf-8")
        touched.append(file)
    for text in parts(exercise, "diff"):
        name, _, body = text.partition("\n")
        file = tree / name.removeprefix("# ")
        changed = file.read_text(encoding="utf-8")
        for hunk in body.split("@@\n"):
            old, new = sides(hunk)
            assert changed.count(old) == 1, f"{file.name}: {old!r} is there {changed.count(old)} times"
            changed = changed.replace(old, new)
        file.write_text(changed, encoding="utf-8")
        touched.append(file)
    return touched


def sides(hunk: str) -> tuple[str, str]:
    """The old and the new text of a hunk."""
    lines = hunk.splitlines(keepends=True)
    old, new = ("".join(line[1:] for line in lines if not line.startswith(left_out)) for left_out in "+-")
    return old, new


def copy_of_the_repository(folder: Path) -> Path:
    for name in COPIED:
        source = REPO / name
        if source.is_symlink():
            (folder / name).symlink_to(source.readlink())
        elif source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", "images"))
        elif source.exists():
            shutil.copy(source, folder / name)
    return folder


@pytest.mark.parametrize("exercise", LONGEST)
def test_exercise_is_short(exercise: str) -> None:
    written = [line for text in parts(exercise, "python", "diff", "toml", "yaml") for line in text.splitlines()[1:]]
    assert 0 < len(written) < LONGEST[exercise]


@pytest.mark.parametrize("exercise", LONGEST)
def test_code_of_an_exercise_passes_ruff(exercise: str, tmp_path: Path) -> None:
    code = [str(file) for file in carry_out(exercise, copy_of_the_repository(tmp_path)) if file.suffix == ".py"]
    ruff = [sys.executable, "-m", "ruff", "check", "--no-cache", *code]
    done = subprocess.run(ruff, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("exercise", IN_THE_TREE)
def test_exercise_works(exercise: str, tmp_path: Path) -> None:
    tree = copy_of_the_repository(tmp_path)
    carry_out(exercise, tree)
    prepare("road", None, tree / "data/processed/road", (64, 64), drives=12, frames=12, seed=0, workers=1)
    commands = [command for text in parts(exercise, "bash") for command in text.splitlines()]
    if any("runs/first" in command for command in commands):
        commands = [
            "python scripts/train.py --config configs/training/demo.yaml --data-root data/processed/road "
            "--run-dir runs/first",
            *commands,
        ]
    for command in commands:
        done = subprocess.run(
            [sys.executable, *small(command)[1:]], cwd=tree, env={**os.environ, "PYTHONPATH": str(tree / "src")},
            capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, f"{shlex.join(small(command))}\n{done.stdout[-3000:]}{done.stderr[-2000:]}"
    if exercise == "Add a metric":
        assert '"edge_similarity_interval"' in (tree / "runs/first/evaluation/evaluation.json").read_text()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_model_of_another_package_is_trained_resumed_and_evaluated(tmp_path: Path) -> None:
    for needed in ("pip", "setuptools"):
        if find_spec(needed) is None:
            pytest.skip(f"there is no {needed} here")
    carry_out("Add a model", tmp_path)
    for name in ("scripts", "configs"):
        (tmp_path / name).symlink_to(REPO / name)
    installed = install(tmp_path / "residual-model", tmp_path / "installed")
    path = os.pathsep.join([str(installed), str(REPO / "src")])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    prepare("road", None, tmp_path / "data/processed/road", (64, 64), drives=12, frames=16, seed=0, workers=1)
    shown = [block for block in blocks("bash", GUIDE) if block.line in lines_of("Add a model") and not block.reason]
    train, resume, report = (shlex.split(command) for block in shown for command in block.commands)
    run = tmp_path / "runs/residual"

    def started(words: list[str]) -> subprocess.Popen[bytes]:
        command = [sys.executable, *words[1:], "--device", "cpu"]
        return subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )

    process = started(train)
    wait_for_step(process, run, 25)
    process.kill()
    process.wait()
    assert 0 < checkpoint.read_state(checkpoint.find(run, "last"))["step"] < 60
    for words in (resume, report):
        process = started(words)
        _, output = process.communicate()
        assert process.returncode == 0, output.decode()[-3000:]
    assert logged(run)[-1]["step"] == 60 and "train/pred_loss" in logged(run)[-1]
    evaluation = json.loads((run / "evaluation/evaluation.json").read_text())
    assert evaluation["training_step"] in (30, 60), "the best of its validations"
    assert (run / "evaluation/report.html").is_file()
    killed = load_file(checkpoint.find(run, "last") / checkpoint.WEIGHTS)
    shutil.rmtree(run)
    assert started(train).wait() == 0
    assert same(killed, load_file(checkpoint.find(run, "last") / checkpoint.WEIGHTS)), "as if it had not been killed"
