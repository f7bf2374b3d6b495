"""The commands of docs/DATASETS.md, STORES.md and OWN_SOURCE.md run on small recordings in each format."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest

from daydrive.data import sources
from daydrive.data.prepare.prepare import prepare
from daydrive.data.store.store import Store
from helpers.guide import Block, blocks, run_here
from helpers.guide_recordings import RECORDINGS
from helpers.paths import REPO
from helpers.source_packages import GUIDES

RUN = [(guide, block) for guide in GUIDES for block in blocks("bash", guide) if not block.reason]

SMALLER = (
    (r"--drives \d+", "--drives 3"),
    (r"--frames \d+", "--frames 12"),
    (r"--image-size 128 256", "--image-size 32 64"),
)

ADDED = {"prepare_dataset.py": ("--workers", "1"), "daydrive data show": ("--limit", "2")}


def takes_long(block: Block) -> bool:
    """CarRacing's camera zooms in during the first second of every drive."""
    return "CarRacing" in block.text


@pytest.fixture(scope="module")
def road(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("guide") / "road"
    return prepare("road", None, folder, (64, 64), drives=8, frames=24, seed=0, workers=1)


@pytest.mark.parametrize(
    ("guide", "block"),
    [
        pytest.param(*one, id=f"{one[0].stem} {one[1].name}", marks=[pytest.mark.slow] * takes_long(one[1]))
        for one in RUN
    ],
)
def test_commands_run(guide: Path, block: Block, road: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("configs", "scripts"):
        (here / name).symlink_to(REPO / name)
    for command in block.commands:
        words = small(command)
        if "prepare_dataset.py" in command:
            name, store = read_dataset(words, here, monkeypatch)
            assert store.source == name and store.rows > 0
            assert {drive.split for drive in store.drives} >= {"train", "test"} or "--limit" in words
        else:
            for place in [word for word in words if word.startswith("data/processed/")]:
                if not (here / place).exists() and words[words.index(place) - 1] != "--output":
                    shutil.copytree(road, here / place)
            run_here(words, monkeypatch)


def read_dataset(words: list[str], here: Path, patch: pytest.MonkeyPatch) -> tuple[str, Store]:
    """Runs a preparation on generated recordings; returns the name of the dataset and the store."""
    name = words[words.index("--dataset") + 1]
    if "--data-root" in words:
        root = words[words.index("--data-root") + 1]
        if not (here / root).exists():
            (here / root).parent.mkdir(parents=True, exist_ok=True)
            RECORDINGS[root](here / root)
    run_here(words, patch)
    output = words[words.index("--output") + 1] if "--output" in words else f"data/processed/{name}"
    return name, Store.open(here / output)


def small(command: str) -> list[str]:
    for pattern, smaller in SMALLER:
        command = re.sub(pattern, smaller, command)
    words = shlex.split(command, comments=True)
    return [*words, *ADDED.get(Path(words[1]).name, ADDED.get(" ".join(words[:3]), ()))]


def test_commands_that_are_not_run_have_a_reason() -> None:
    left_out = [block for guide in GUIDES for block in blocks("bash", guide) if block.reason]
    assert len(RUN) > 3 * len(left_out) and all(len(block.reason) > 8 for block in left_out)


def test_every_dataset_has_its_place_in_the_guide() -> None:
    text = GUIDES[0].read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| \[?`(\w+)`(?:\]\(#([\w-]+)\))? \|", text, re.MULTILINE))
    assert sorted(rows) == sorted(sources.SOURCES)
    shown = {word for _, block in RUN for word in re.findall(r"--dataset (\w+)", block.text)}
    assert set(sources.SOURCES) <= shown
    options = {option.name for source in sources.SOURCES.values() for option in source.options}
    assert {given for _, block in RUN for given in re.findall(r"--set (\w+)=", block.text)} <= options


@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.stem)
def test_links_are_valid(guide: Path) -> None:
    def anchors(file: Path) -> set[str]:
        heads = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
        return {re.sub(r"[^\w -]", "", head).strip().lower().replace(" ", "-") for head in heads}

    for target in re.findall(r"\]\(([^)]+)\)", guide.read_text(encoding="utf-8")):
        file, _, anchor = target.partition("#")
        if not file.startswith("http"):
            place = guide.parent / file if file else guide
            assert place.exists() and (not anchor or anchor in anchors(place)), target


def test_documented_resampling() -> None:
    """No frame is more than a period from its tick, and none is repeated while an unused one is available."""
    from daydrive.data.kinematics.clock import native_hz, resample

    for seed in range(40):
        rng = np.random.default_rng(seed)
        times = np.cumsum(rng.uniform(0.03, 0.09, 300) + (rng.random(300) < 0.02) * rng.uniform(0, 1))
        for hz in (native_hz(times), 3.0, 10.0):
            for run in resample(times, hz):
                ticks = times[run[0]] + np.arange(len(run)) / hz
                assert np.abs(times[run] - ticks).max() <= 1 / hz + 1e-9
                assert np.diff(run).min(initial=0) >= 0 and np.diff(times[run]).max(initial=0) <= 3 / hz + 1e-9
                inner = np.diff(times[run[0] : run[-1] + 1])
                assert inner.max(initial=0) <= 2 / hz + 1e-9, "what is further apart is a gap"
