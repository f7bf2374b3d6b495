"""Every shell block of the README, docs/ and examples/ is run by a test, or says why not.

The pages that have no test of their own are run here, small, each in a folder of its own like a fresh clone: a reader
begins at the top, and what a command needs that no command before it made is there already.
"""

from __future__ import annotations

import itertools
import re
import runpy
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import typer

from daydrive import cli
from daydrive.data.prepare.prepare import prepare
from helpers.guide import PAGES, Block, blocks, serves, small
from helpers.guide_recordings import RECORDINGS
from helpers.paths import REPO

RUN_BY = {
    "docs/TRAINING.md": "docs/test_training_guide.py",
    "docs/DATASETS.md": "docs/test_datasets_guide.py",
    "docs/STORES.md": "docs/test_datasets_guide.py",
    "docs/OWN_SOURCE.md": "docs/test_datasets_guide.py",
    "docs/EVALUATION.md": "docs/test_evaluation_guide.py",
    "docs/DASHCAM.md": "data/kinematics/test_dashcam.py",
    "CONTRIBUTING.md": "docs/test_contributing.py",
}
LANGUAGES = {None, "", "bash", "python", "yaml", "toml", "json", "diff", "text", "dockerfile"}
A_COMMAND = re.compile(r"\W*(python|daydrive|make|pip|docker|torchrun|uv|git|tensorboard) ")
LONG = re.compile(r"tensorboard|find_lr|torchrun|--counterfactual|--controllability|benchmark|visualize|export ")


def name_of(page: Path) -> str:
    return str(page.relative_to(REPO))


def to_run(page: Path) -> list[Block]:
    return [block for block in blocks("bash", page) if not block.reason]


OTHERS = [page for page in PAGES if name_of(page) not in RUN_BY and to_run(page)]


def takes_long(page: Path) -> bool:
    return any(LONG.search(block.text) for block in to_run(page))


class Inputs(NamedTuple):
    """Files available to readers: a store of road drives, their own drives, and a run with its evaluation."""

    store: Path
    drives: Path
    run: Path


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    folder = tmp_path_factory.mktemp("inputs")
    store = prepare("road", None, folder / "road", (64, 64), drives=12, frames=16, seed=0, workers=1)
    (folder / "configs").symlink_to(REPO / "configs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run_here(["daydrive", "record", "--env", "daydrive/Road-v0", "--drives", "12", "--frames", "16"], patch)
        train = "daydrive train --config configs/training/demo.yaml --data-root road --run-dir run"
        run_here(small(train), patch)
        evaluate = "daydrive evaluate --checkpoint run --data-root road --output run/evaluation"
        run_here(small(evaluate), patch)
    return Inputs(store, folder / "data/recorded/Road-v0", folder / "run")


def run_here(words: list[str], patch: pytest.MonkeyPatch) -> None:
    """Run a command of daydrive or a Python file in this process."""
    patch.setattr(sys, "argv", words[1:] if words[0] == "python" else words)
    code: object = 0
    try:
        if words[0] == "python":
            patch.syspath_prepend(Path(words[1]).resolve().parent)
            runpy.run_path(words[1], run_name="__main__")
        else:
            cli.main()
    except SystemExit as ended:
        code = ended.code or 0
    findings = (1, 3) if words[1:3] == ["data", "doctor"] else ()
    assert code in (0, *findings), f"{shlex.join(words)} ended with {code}"


def provide(words: list[str], inputs: Inputs) -> None:
    """Create the inputs of the command that no earlier command created."""
    for before, word in itertools.pairwise(words):
        place = Path(word)
        if place.exists() or before in ("--output", "--run-dir", "--folder"):
            continue
        if word.startswith("data/processed/"):
            shutil.copytree(inputs.store, place)
        elif word.startswith("runs/") and before != "--logdir":
            shutil.copytree(inputs.run, Path(*place.parts[:2]), dirs_exist_ok=True)
        elif before == "--data-root" and word == "my_drives":
            shutil.copytree(inputs.drives, place)
        elif before in ("--data-root", "actions") and word in RECORDINGS:
            place.parent.mkdir(parents=True, exist_ok=True)
            RECORDINGS[word](place)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "page",
    [pytest.param(page, id=name_of(page), marks=[pytest.mark.slow] * takes_long(page)) for page in OTHERS],
)
def test_commands_of_a_page_run(
    page: Path, inputs: Inputs, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("configs", "scripts", "examples"):
        (here / name).symlink_to(REPO / name)
    for block in to_run(page):
        for command in filter(str.strip, block.commands):
            words = small(command)
            provide(words, inputs)
            if words[0] == "tensorboard":
                serves(words, here)
            else:
                assert words[0] in ("python", "daydrive"), f"{block.name}: say why no test runs it"
                run_here(words, monkeypatch)
    capsys.readouterr()


def lines(page: Path) -> Iterator[tuple[str | None, str]]:
    """Lines with the language of their block; None for running text."""
    language = None
    for line in page.read_text(encoding="utf-8").splitlines():
        fence = re.match(r" *(?:```|~~~)(\S*)$", line)
        if fence is None:
            yield language, line
        else:
            language = fence[1] if language is None else None


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_command_is_in_a_bash_block(page: Path) -> None:
    assert {language for language, _ in lines(page)} <= LANGUAGES
    for language, line in lines(page):
        plain = language in ("", "text") or (language is None and line.startswith("    "))
        assert not (plain and A_COMMAND.match(line)), f"a command outside a bash block: {line}"
    assert all(len(block.reason) > 8 for block in blocks("bash", page) if block.reason)
    test = RUN_BY.get(name_of(page))
    assert test is None or (REPO / "tests" / test).is_file()


def commands(app: typer.Typer, prefix: str = "") -> Iterator[str]:
    """Names of all commands as typed, including the names of their groups."""
    group = typer.main.get_group(app)
    for name, command in group.commands.items():
        inner = getattr(command, "commands", None)
        yield from [f"{name} {sub}" for sub in inner] if inner else [prefix + name]


def test_every_command_is_documented() -> None:
    guide = REPO / "docs/UTILITIES_GUIDE.md"
    text = guide.read_text(encoding="utf-8")
    shown = "\n".join(block.text for block in blocks("bash", guide))
    for name in commands(cli.app):
        script = name.replace("-", "_")
        assert f"daydrive {name}" in shown or f"scripts/{script}.py" in shown, name
        assert f"### {name}\n" in text or f"### {name.split(' ')[0]}\n" in text, name
    assert {f"scripts/{file.name}" for file in (REPO / "scripts").glob("*.py")} <= {
        f"scripts/{name.replace('-', '_')}.py" for name in (*commands(cli.app), "visualize")
    }
