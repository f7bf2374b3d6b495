"""Bad input at the command line: one sentence on stderr, exit code 2, nothing left behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from daydrive.data.store.store import TABLE
from helpers.paths import REPO
from helpers.refusals import Refuse, check_sentence


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "trian"),
        (["--fast"], "--fast"),
        (["train"], "no drives are given.*there is no store under data/processed"),
        (["train", "--config"], "--config"),
        (["train", "--config", "a.yaml", "--resum"], "--resum"),
        (["evaluate", "--checkpoint", "run"], "missing option '--data-root'"),
        (
            ["evaluate", "--checkpoint", "a", "--data-root", "b", "--output", "c", "--horizon", "far"],
            "invalid value for '--horizon'",
        ),
        (["prepare-dataset", "--dataset", "road", "--image-size", "64"], "--image-size"),
        (["prepare-dataset", "--dataset", "road", "--drives", "2.5"], "invalid value for '--drives'"),
        (["prepare-dataset", "--dataset", "rod"], "there is no dataset 'rod'; did you mean 'road'"),
        (["prepare-dataset", "--dataset", "road", "--env", "x"], "does not take --env; its options: --drives"),
        (["prepare-dataset", "--dataset", "road", "--hz", "5"], "does not take --hz"),
        (["prepare-dataset", "--dataset", "road", "--drives", "0"], "--drives must be at least 1"),
        (["prepare-dataset", "--dataset", "road", "--seed", "-1"], "--seed must be at least 0"),
        (["prepare-dataset", "--dataset", "road", "--image-size", "64", "65"], r"\(64, 65\)"),
        (["prepare-dataset", "--dataset", "gym"], "needs --env"),
        (["prepare-dataset", "--dataset", "gym", "--env", "CarRacin-v3"], "did you mean 'CarRacing-v3'"),
        (["prepare-dataset", "--dataset", "gym", "--env", "!!"], "cannot be created"),
        (["prepare-dataset", "--dataset", "gym", "--env", "nowhere:Car-v0"], "nowhere"),
        (["prepare-dataset", "--dataset", "udacity"], "needs --data-root"),
        (["prepare-dataset", "--dataset", "folder", "--data-root", "nowhere"], "data root nowhere does not exist"),
        (["train", "--config", "nowhere.yaml"], "there is no config file nowhere.yaml"),
        (["train", "--config", "."], r"\. cannot be read: it is a folder"),
        (["demo", "--config", "nowhere.yaml"], "there is no config file nowhere.yaml"),
        (["demo", "--config", str(REPO / "configs/training/demo.yaml"), "--folder", __file__], "is a file"),
        (["fetch-weights", "vgg19"], "did you mean 'vgg16'"),
        (["dream-speed", "--checkpoint", "nowhere"], "there is no checkpoint nowhere"),
        (["dream-speed", "--checkpoint", "nowhere", "--frames", "1"], "--frames has to be at least 2"),
        (["dream-speed", "--checkpoint", "nowhere", "--device", "gpu"], "--device gpu"),
        (["dream-speed", "--checkpoint", "nowhere", "--device", "cuda:99"], "--device cuda:99: this machine has"),
        (["dream-speed", "--checkpoint", "x" * 300], "name too long"),
    ],
)
def test_invalid_arguments(arguments: list[str], message: str, refuse: Refuse) -> None:
    refuse(*arguments, message=f"(?i){message}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("optimizer:\n  lrr: 1e-4\n", r"bad\.yaml:2: unknown key 'optimizer.lrr'; did you mean 'optimizer.lr'\?"),
        ("trainin:\n  batch_size: 4\n", r"bad\.yaml:1: unknown key 'trainin'; did you mean 'training'\?"),
        ("training:\n\n  batch_size: four\n", r"bad\.yaml:3: 'training.batch_size'.*integer.*'four'"),
        ("data:\n  sequence_length: 2\n", r"bad\.yaml:2: 'data.sequence_length'"),
        ("training: {seed: 99999999999999999999}\n", r"bad\.yaml:1: 'training.seed'"),
        ("optimizer: {lr: .nan}\n", r"bad\.yaml:1: 'optimizer.lr'.*finite"),
        ("training: [\n", r"bad\.yaml:\d: not valid YAML"),
        ("training: {seed: 2020-13-45}\n", r"bad\.yaml: not valid YAML"),
        ("training: \x00\n", r"bad\.yaml.*not valid YAML"),
        ("- a\n- b\n", r"bad\.yaml:1: a config holds sections"),
        ("3: 4\n", r"bad\.yaml"),
        ("extends: other.yaml\n", r"is circular: bad\.yaml → other\.yaml → bad\.yaml"),
        ("extends: missing.yaml\n", r"'extends' names missing\.yaml"),
    ],
)
def test_invalid_settings(text: str, message: str, refuse: Refuse, road_store: Path, here: Path) -> None:
    (here / "bad.yaml").write_text(text)
    (here / "other.yaml").write_text("extends: bad.yaml\n")
    refuse("train", "--config", "bad.yaml", "--data-root", road_store, message=message)


def test_binary_config(refuse: Refuse, here: Path) -> None:
    (here / "bad.yaml").write_bytes(os.urandom(200) + b"\xff")
    refuse("train", "--config", "bad.yaml", message="bad.yaml")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimizer.lrr=1", "unknown key 'optimizer.lrr'; did you mean 'optimizer.lr'"),
        ("fast", "override 'fast' must look like section.key=value"),
        ("optimizer.lr=[", "is not a YAML value"),
        ("training.seed=2020-13-45", "is not a YAML value"),
        ("training.batch_size=0", "override training.batch_size=0: .*greater than 0"),
        ("model.encoder.stages.0=3", "'model.encoder.stages'"),
        ("training=3", "'training'"),
        # what only the store can tell
        ("data.sequence_length=400", "no drive long enough for clips of 400 frames"),
        ("training.batch_size=5000", "batch of 5000 clips is more than the"),
        ("model.image_size=[32,64]", r"model\.image_size = \[32, 64\]"),
        ("model.action_dim=3", "model.action_dim = 3"),
        ("model.decoder.init_size=7", "init_size = 7"),
        ("loss.perceptual=vgg19", "'vgg16'"),
        ("loss.perceptual_weights=nowhere.safetensors loss.perceptual=vgg16", "there is no nowhere.safetensors"),
    ],
)
def test_invalid_overrides(override: str, message: str, refuse: Refuse, road_store: Path, tiny_config: Path) -> None:
    refuse("train", "--config", tiny_config, "--data-root", road_store, *override.split(" "), message=message)


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (["scripts/train.py", "--config", "nowhere.yaml"], "there is no config file nowhere.yaml"),
        (["scripts/prepare_dataset.py", "--dataset", "udacty"], "did you mean 'udacity'"),
        (["-m", "daydrive", "trian"], "trian"),
    ],
)
def test_invalid_input_as_a_program(program: list[str], message: str, here: Path) -> None:
    first, *rest = program
    command = [sys.executable, str(REPO / first) if first.endswith(".py") else first, *rest]
    ended = subprocess.run(command, cwd=here, capture_output=True, text=True, timeout=300)
    check_sentence(ended.returncode, ended.stderr, message)
    assert not ended.stdout and not any(here.iterdir())


def test_evaluation_of_a_truncated_table_as_a_program(trained: Path, store: Path, here: Path) -> None:
    for file in (store / TABLE / "data").glob("*.lance"):
        file.write_bytes(file.read_bytes()[:1000])
    arguments = ["--checkpoint", trained, "--data-root", store, "--output", "new/out", "--device", "cpu"]
    command = [sys.executable, str(REPO / "scripts" / "evaluate.py"), *map(str, arguments)]
    ended = subprocess.run(command, cwd=here, capture_output=True, text=True, timeout=300)
    check_sentence(ended.returncode, ended.stderr, "the table of the store .* is damaged")
    assert not ended.stdout and not any(here.iterdir())
