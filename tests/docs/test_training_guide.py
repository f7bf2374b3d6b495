"""docs/TRAINING.md is true: its commands and snippets run, its tables are complete.

Commands run as they stand, in a folder like a fresh clone, but with a small model, few steps, drives and processes
(`helpers.guide.SMALL`, `helpers.guide.REPLACED`); tests/training/test_recipes.py trains the configs at their real size.
"""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest
import yaml
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from daydrive.config import as_tree, load_config
from daydrive.data.prepare.prepare import prepare
from daydrive.models.texture.config import TextureConfig
from daydrive.training.logging.alarms import RULES
from helpers.guide import Block, blocks, make_room, quoted, sandbox, serves, small, started, table_below
from helpers.paths import REPO
from helpers.probes import own_settings, settings
from helpers.training_guide import done, run_here

ONLY_SOMEWHERE = {
    "speed/mfu", "train/skipped_steps", "train/loss_scale", "alarms",
    *(f"train/{name}" for name in (
        "rollout_pred_loss", "rollout_perceptual_loss", "coarse_loss", "detail_loss", "realism_loss", "action_loss",
        "critic_loss", "critic_accuracy", "critic_reading_loss", "rollout_age", "rollout_oldest",
    )),
}  # fmt: skip
"""Logged only on a GPU, with float16, if there is an alarm, or with self-rollouts."""

RUN = [block for block in blocks("bash") if not block.reason]


def takes_long(block: Block) -> bool:
    """Whether it starts processes or servers, or sweeps."""
    slow = ("torchrun", "tensorboard", "--use-wandb", "training.compile=true", "find_lr.py")
    return any(word in block.text for word in slow)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """18 training clips of ten frames and few for validation, so that training is fast."""
    folder = tmp_path_factory.mktemp("guide") / "road"
    return prepare("road", None, folder, (64, 64), drives=12, frames=12, seed=0, workers=1)


@pytest.fixture(scope="module")
def first_run(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first training of the guide."""
    folder = sandbox(tmp_path_factory.mktemp("first"), store, None)
    start = next(command for command in RUN[0].commands if "scripts/train.py" in command)
    with pytest.MonkeyPatch.context() as patch:
        run_here(small(start), folder, patch)
    return folder / "runs/first"


@pytest.fixture
def reader(store: Path, first_run: Path, tmp_path: Path) -> Path:
    return sandbox(tmp_path, store, first_run)


@pytest.mark.parametrize("block", [b for b in RUN if not takes_long(b)], ids=lambda b: b.name)
def test_commands_run(block: Block, reader: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for command in block.commands:
        run_here(small(command), reader, monkeypatch)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("block", [b for b in RUN if takes_long(b)], ids=lambda b: b.name)
def test_slow_commands_run(block: Block, reader: Path) -> None:
    for command in block.commands:
        words = small(command)
        make_room(words, reader)
        if words[0] == "tensorboard":
            serves(words, reader)
        elif "--nnodes=2" in words:
            on_two_nodes(words, reader)
        else:
            done(started(words, reader))


def on_two_nodes(words: list[str], folder: Path) -> None:
    """Run the command of both nodes on this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        here = f"--rdzv-endpoint=127.0.0.1:{free.getsockname()[1]}"
    words = [here if word.startswith("--rdzv-endpoint=") else word for word in words]
    nodes = [started(words, folder) for _ in range(2)]
    for node in nodes:
        done(node)


def test_commands_that_are_not_run_have_a_reason() -> None:
    left_out = [block for block in blocks("bash") if block.reason]
    assert len(RUN) > 3 * len(left_out)
    assert all(len(block.reason) > 8 for block in left_out)


@pytest.mark.parametrize("block", blocks("python"), ids=lambda b: b.name)
def test_snippets_run(block: Block, reader: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(reader)
    exec(compile(block.text, f"TRAINING.md:{block.line}", "exec"), {})


@pytest.mark.parametrize("block", blocks("yaml"), ids=lambda b: b.name)
def test_settings_load(block: Block, reader: Path) -> None:
    load_config(reader / block.text.splitlines()[0].removeprefix("# "))


@pytest.mark.parametrize(
    ("heading", "known"),
    [
        ("## Configuration", dict(settings())),
        *((f"### `{architecture}`", dict(own_settings(architecture))) for architecture in ("rssm", "diffusion")),
    ],
)
def test_every_setting_is_documented_with_its_default(heading: str, known: dict[str, FieldInfo]) -> None:
    rows = {quoted(row[0])[0]: row for row in table_below(heading)}
    assert rows.keys() == known.keys()
    for key, (_, meaning, _, default) in rows.items():
        assert len(meaning) > 4
        field = known[key]
        if field.is_required():
            assert default == "", key
            continue
        value = list(field.default) if isinstance(field.default, tuple) else field.default
        assert value is not PydanticUndefined
        written = yaml.safe_load(quoted(default)[0])
        assert (float(written) if isinstance(value, float) else written) == value, key


def test_every_logged_name_is_documented(first_run: Path) -> None:
    events = EventAccumulator(str(first_run), {"scalars": 0, "images": 0, "histograms": 0})
    events.Reload()
    tags = events.Tags()
    logged = {*tags["scalars"], *tags["images"], *(re.sub(r"/.*", "/*", tag) for tag in tags["histograms"])}
    explained = {name for row in table_below("### TensorBoard") for name in quoted(row[0])}
    assert logged <= explained
    assert explained - logged <= ONLY_SOMEWHERE | {"weights/*", "gradients/*"}


def test_every_alarm_is_documented() -> None:
    rows = {quoted(row[0])[0]: quoted(row[2]) for row in table_below("### Alarms")}
    assert rows.keys() == {rule.name for rule in RULES}
    assert {key for keys in rows.values() for key in keys} == {
        key for key, _ in settings() if key.startswith("alarms.")
    }


def test_recipes_match_the_table() -> None:
    rows = table_below("## Recipes")
    named = {REPO / quoted(row[0])[0] for row in rows}
    assert named == set((REPO / "configs/training").rglob("*.yaml"))
    for row in rows:
        config = load_config(REPO / quoted(row[0])[0])
        training = config.training
        texture = isinstance(config.model, TextureConfig)
        assert row[2] == (f"{config.model.latent_dim} / {config.model.hidden_dim}" if texture else config.model.type)
        several = f"{training.batch_size} x {training.gradient_accumulation} clips"
        assert row[3].removesuffix(" each") == (
            several if training.gradient_accumulation > 1 else f"{training.batch_size} clips"
        )
        assert row[4] == (f"{training.max_steps} steps" if training.max_steps else f"{training.num_epochs} epochs")


def test_links_are_valid() -> None:
    text = (REPO / "docs/TRAINING.md").read_text()
    headings = {
        re.sub(r"[^\w -]", "", h).strip().lower().replace(" ", "-") for h in re.findall(r"^#+ (.*)$", text, re.M)
    }
    for target in re.findall(r"\]\(([^)]+)\)", text):
        file, _, anchor = target.partition("#")
        assert (REPO / "docs" / file).exists() and (file or anchor in headings), target


def test_files_of_a_run(first_run: Path) -> None:
    for name in ("config.yaml", "provenance.json", "checkpoints/last", "metrics.jsonl"):
        assert (first_run / name).is_file()
    assert as_tree(load_config(first_run / "config.yaml"))["data"]["num_workers"] == 0
