"""What an evaluation refuses: checkpoints and stores."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from refusals import Refuse, checkpoint_of, damage_pictures, spoil

from daydrive.data.store import METADATA_FILE, TABLE


def test_what_evaluation_is_asked(
    refuse: Refuse, trained: Path, road_store: Path, small_store: Path, here: Path
) -> None:
    (here / "file").write_text("in the way")
    command = ("evaluate", "--checkpoint", trained, "--output", "out/figures")
    of_road = (*command, "--data-root", road_store)
    refuse(*of_road, "--horizon", 0, said="--horizon has to be at least 1, not 0")
    refuse(*of_road, "--clips", 1, said="--clips has to be at least 2, not 1")
    refuse(*of_road, "--batch-size", 0, said="--batch-size has to be at least 1")
    refuse(*of_road, "--seed", -1, said="--seed has to be at least 0")
    refuse(*of_road, "--split", "tset", said="there is no split 'tset'; did you mean 'test'")
    refuse(*of_road, "--device", "cuda:99", said="--device cuda:99")
    refuse(*of_road[:3], "--data-root", road_store, "--output", "file", said="the output file is a file")
    refuse(*of_road[:3], "--data-root", road_store, "--output", "file/out", said="the output file/out can't be written")
    refuse(*command, "--data-root", small_store, said="sees pictures of 64x64 and the store .* has 32x32")
    refuse(*command, "--data-root", "nowhere", said="there is no store at nowhere")
    refuse(*command, "--data-root", trained, said="is not a prepared store")


def test_checkpoints_that_are_none(refuse: Refuse, road_store: Path, here: Path) -> None:
    (here / "noise.bin").write_bytes(os.urandom(1000))
    (here / "noise.safetensors").write_bytes(os.urandom(1000))
    (here / "empty").mkdir()
    for path in ("noise.bin", "noise.safetensors", "empty", road_store):
        arguments = ("--checkpoint", path, "--data-root", road_store, "--output", "out")
        refuse("evaluate", *arguments, said="is no checkpoint")
    refuse(
        "evaluate", "--checkpoint", "x", "--data-root", road_store, "--output", "out", said="there is no checkpoint x"
    )


def resized(folder: Path) -> None:
    tree = json.loads((folder / "config.json").read_text())
    tree["model"]["hidden_dim"] = 32
    (folder / "config.json").write_text(json.dumps(tree))


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (spoil("model.safetensors", None), "model.safetensors: not a whole safetensors file"),
        (lambda folder: (folder / "model.safetensors").unlink(), "holds no model.safetensors"),
        (lambda folder: (folder / "config.json").unlink(), "config.json can't be read"),
        (resized, "model.safetensors: weights of another model: '.*' has shape"),
        (spoil("config.json", '{"model": {"latent_dm": 3}}'), "config.json: unknown key 'model.latent_dm'"),
        (spoil("config.json", b"\xff\xfe\xff"), "config.json can't be read"),
        (spoil("state.json", "[1"), "state.json:1: the checkpoint's state is not valid JSON"),
        (spoil("state.json", "{}"), "state.json: no whole number 'step'"),
    ],
)
def test_broken_checkpoints(
    harm: Callable[[Path], None], said: str, refuse: Refuse, run: Path, road_store: Path
) -> None:
    harm(checkpoint_of(run))
    refuse("evaluate", "--checkpoint", run, "--data-root", road_store, "--output", "new/out", said=said)


def of_metadata(**changes: object) -> Callable[[Path], None]:
    def apply(store: Path) -> None:
        metadata = json.loads((store / METADATA_FILE).read_text())
        (store / METADATA_FILE).write_text(json.dumps({**metadata, **changes}))

    return apply


def only_training(store: Path) -> None:
    drives = json.loads((store / METADATA_FILE).read_text())["drives"]
    of_metadata(drives=[{**drive, "split": "train"} for drive in drives])(store)


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda store: damage_pictures(store, "test"), "damaged picture: drive 'road_.*', frame 0"),
        (only_training, "the split 'test' of .* is empty; it has drives in: train"),
        (lambda store: shutil.rmtree(store / TABLE), "has lost its table"),
        (lambda store: (store / METADATA_FILE).write_text("{"), "cannot be read as a store's metadata"),
        (of_metadata(format_version=99), "has format version 99"),
        (of_metadata(hz=0), "not a store's metadata.*positive"),
        (of_metadata(drives=[{"name": "a", "split": "test", "start": 0, "frames": -3}]), "not a store's metadata"),
        (of_metadata(drives=[{"name": "a", "split": "test", "start": 0, "frames": 900}]), "is truncated"),
    ],
)
def test_broken_stores(harm: Callable[[Path], None], said: str, refuse: Refuse, trained: Path, store: Path) -> None:
    harm(store)
    refuse("evaluate", "--checkpoint", trained, "--data-root", store, "--output", "new/out", said=said)
