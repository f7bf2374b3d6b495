"""Parses the guides, and makes their commands small enough for tests."""

from __future__ import annotations

import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from daydrive import cli
from helpers.nuscenes import SceneSpec, write_nuscenes
from helpers.paths import REPO

GUIDE = REPO / "docs/TRAINING.md"
PAGES = [
    page
    for page in (*REPO.glob("*.md"), *sorted((REPO / "docs").rglob("*.md")), *sorted((REPO / "examples").rglob("*.md")))
    if not page.is_symlink()
]
"""All documentation pages."""

SMALL_MODELS = {
    "rssm": ("model.channels=[8,8]", "model.recurrent_dim=16", "model.hidden_dim=16", "model.groups=4"),
    "diffusion": ("model.channels=[8,8]", "model.condition_dim=16"),
}
"""By the name of the config file; for all others `SMALL_TEXTURE`."""

SMALL_TEXTURE = (
    "model.latent_dim=8", "model.hidden_dim=16", "model.encoder.stages=[8,16]", "model.encoder.num_heads=2",
    "model.dynamics.num_layers=1", "model.decoder.stages=[16,8]", "model.decoder.init_size=16",
)  # fmt: skip
SMALL = (
    "training.max_steps=1", "training.batch_size=2", "training.gradient_accumulation=1", "data.num_workers=0",
)  # fmt: skip
"""Overrides for every training of the guide; overrides in the command itself come later and take precedence."""

ADDED = {
    "find_lr.py": ("--steps", "20"),
    "prepare_dataset.py": ("--workers", "1"),
    "evaluate.py": ("--clips", "2", "--horizon", "6"),
    "dream_speed.py": ("--frames", "20"),
    "show_batch.py": ("--length", "4"),
    "export.py": ("--clips", "1"),
    "tensorboard": ("--port", "0"),
}

REPLACED = (
    (r"--drives \d+(?: --frames \d+)?", "--drives 12 --frames 12"),
    (r"training\.max_steps=\d+", "training.max_steps=2"),
    (r"training\.gradient_accumulation=\d+", "training.gradient_accumulation=2"),
    (r"data\.num_workers=\d+", "data.num_workers=0"),
    (r"--clips \d+", "--clips 2"),
    (r"--minutes \d+", "--minutes 0.01"),
    (r"--nproc_per_node=\d+", "--nproc_per_node=2"),
    (r"--nnodes=2 --nproc_per_node=2", "--nnodes=2 --nproc_per_node=1"),
)
"""Reduces numbers of drives, steps, batches and processes; the rest of a command is unchanged."""


class Block(NamedTuple):
    """language: bash, python or yaml; line: of its beginning; reason: why it is not run, or ''."""

    language: str
    text: str
    line: int
    reason: str

    @property
    def commands(self) -> list[str]:
        return self.text.replace("\\\n", " ").splitlines()

    @property
    def name(self) -> str:
        return f"line {self.line}: {self.text.splitlines()[0][:60]}"


def blocks(language: str, guide: Path = GUIDE) -> list[Block]:
    text = guide.read_text(encoding="utf-8")
    found = re.finditer(r"(?:<!-- not run: (?P<reason>.*?) -->\n)?```(?P<language>\w+)\n(?P<text>.*?)```", text, re.S)
    return [
        Block(m["language"], m["text"], text[: m.start("text")].count("\n") + 1, m["reason"] or "")
        for m in found
        if m["language"] == language
    ]


def table_below(heading: str) -> list[list[str]]:
    """The cells of the rows of all tables under a heading of any level, without the first two rows of each."""
    level = len(heading.split(" ")[0])
    section = re.search(
        rf"^{re.escape(heading)}$(.*?)(?=^#{{2,{level}}} |\Z)", GUIDE.read_text(encoding="utf-8"), re.S | re.M
    )
    assert section is not None, heading
    rows = [line for line in section[1].splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line[1:-1].split("|")] for line in rows]
    heads = {i - 1 for i, line in enumerate(rows) if set(line) <= set("|-: ")}
    return [row for i, row in enumerate(cells) if i not in heads and i - 1 not in heads]


def quoted(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def small_settings(config: str) -> tuple[str, ...]:
    """Overrides that make a training with this config file, or the config of this name, small."""
    return (*SMALL, *SMALL_MODELS.get(Path(config).stem, SMALL_TEXTURE))


def small(command: str) -> list[str]:
    """The words of a command, made small."""
    for pattern, smaller in REPLACED:
        command = re.sub(pattern, smaller, command)
    words = shlex.split(command, comments=True)
    if words[0] == "daydrive":
        place, name = 1, f"{words[1].replace('-', '_')}.py"
    else:
        ours = (i for i, word in enumerate(words) if word in ADDED or word.startswith(("scripts/", "examples/")))
        place = next(ours, 0)
        name = words[place].removeprefix("scripts/")
    added = ADDED.get(name, ())
    if name in ("train.py", "find_lr.py"):
        added = (*added, *small_settings(words[words.index("--config") + 1]))
    return [*words[: place + 1], *added, *words[place + 1 :]]


def sandbox(folder: Path, store: Path, run: Path | None) -> Path:
    """A folder like a reader's: configs and scripts, stores at the paths of the guide, its YAML files and the run of
    its first commands."""
    for name in ("configs", "scripts"):
        (folder / name).symlink_to(REPO / name)
    for name in ("road", "folder"):
        shutil.copytree(store, folder / "data/processed" / name)
    for block in blocks("yaml"):
        (folder / block.text.splitlines()[0].removeprefix("# ")).write_text(block.text)
    if run is not None:
        shutil.copytree(run, folder / "runs/first")
    return folder


def make_room(words: list[str], folder: Path) -> None:
    """Remove the outputs that a command creates, and generate the recordings that it reads.

    nuScenes recordings have the original format.
    """
    if "data/nuscenes" in words and not (folder / "data/nuscenes").exists():
        scenes = [SceneSpec(f"scene-{number:04d}", seconds=2.0) for number in range(1, 5)]
        write_nuscenes(folder / "data/nuscenes", scenes)
    for option, needed in (("--run-dir", "scripts/train.py"), ("--dataset", "scripts/prepare_dataset.py")):
        if needed in words and option in words and "--resume" not in words:
            name = words[words.index(option) + 1]
            shutil.rmtree(folder / ("data/processed" if option == "--dataset" else "") / name, ignore_errors=True)


def run_here(words: list[str], patch: pytest.MonkeyPatch) -> None:
    """Run a daydrive command in this process."""
    assert words[0] in ("python", "daydrive"), words
    patch.setattr(sys, "argv", words[1:] if words[0] == "python" else words)
    with pytest.raises(SystemExit) as ended:
        if words[0] == "python":
            runpy.run_path(words[1], run_name="__main__")
        else:
            cli.main()
    findings = (1, 3) if words[:3] == ["daydrive", "data", "doctor"] else ()
    assert (ended.value.code or 0) in (0, *findings), shlex.join(words)


def started(words: list[str], folder: Path) -> subprocess.Popen[str]:
    """Start a command; torch.compile is disabled, since compilation takes minutes and tests/training/test_engine.py
    covers it."""
    programs = {
        "python": [sys.executable],
        "torchrun": [sys.executable, "-m", "torch.distributed.run"],
        "tensorboard": [sys.executable, "-m", "tensorboard.main"],
    }
    return subprocess.Popen(
        [*programs[words[0]], *words[1:]], cwd=folder, env={**os.environ, "TORCH_COMPILE_DISABLE": "1"}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def serves(words: list[str], folder: Path) -> None:
    process = started(words, folder)
    try:
        assert process.stdout is not None
        assert any("http://" in line for line in process.stdout)
    finally:
        process.kill()
        process.communicate()
