"""Invalid options of `daydrive drive`: a sentence and exit code 2; nothing is served or written."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from daydrive import checkpoint, weights
from daydrive.config import as_tree
from daydrive.files import write_json
from daydrive.models import build_world_model
from daydrive.tensors import write
from helpers.architectures import config_of
from helpers.refusals import Refuse, checkpoint_of, spoil

ROAD = ("--env", "road")


def write_checkpoint(folder: Path, size: tuple[int, int]) -> Path:
    """An untrained model with images of this size."""
    folder.mkdir(parents=True)
    config = config_of("texture", size)
    weights = {name: value.contiguous() for name, value in build_world_model(config).state_dict().items()}
    write(weights, folder / checkpoint.WEIGHTS)
    write_json(folder / "config.json", as_tree(config))
    write_json(folder / "state.json", {"format": checkpoint.FORMAT, "step": 0})
    return folder


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((*ROAD, "--port", 70000), "--port"),
        ((*ROAD, "--port", "eighty"), "--port"),
        ((*ROAD, "--host", "no.such.host.invalid", "--port", 0), "no such address"),
        ((*ROAD, "--host", "203.0.113.7", "--port", 0), "cannot be used .*--port"),
        ((*ROAD, "--token", "short"), "--token: use 12 to 128"),
        ((*ROAD, "--token", "with spaces and ümläuts"), "--token: use 12 to 128"),
        ((*ROAD, "--sessions", 0), "--sessions"),
        ((*ROAD, "--seed", -1), "--seed"),
        ((*ROAD, "--device", "abacus"), "unknown device"),
        ((*ROAD, "--image-size", 100, 70), "image size|square"),
        ((*ROAD, "--image-size", 64, "x"), "--image-size"),
        ((*ROAD, "--checkpoint", "runs/x"), "leave out --checkpoint, or leave out --env"),
        ((*ROAD, "--data-root", "data/x"), "leave out --data-root"),
        ((*ROAD, "--replay", "no.ndjson"), "no.ndjson cannot be read"),
        (("--env", "carla"), "only road can be driven"),
        (("--image-size", 64, 64), "--image-size is for --env road"),
        (("--compare", "runs/b"), "--compare needs the first model"),
        (("--blind",), "--blind compares two models"),
        (("--checkpoint", "runs/none"), "there is no checkpoint runs/none"),
        (("--checkpoint", "."), "is not a checkpoint"),
        (("--nonsense",), "nonsense"),
    ],
)
def test_options(refuse: Refuse, options: tuple[object, ...], message: str) -> None:
    refuse("drive", *options, message=message)


def test_port_that_is_taken(refuse: Refuse) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        refuse("drive", *ROAD, "--port", other.getsockname()[1], message="cannot be used .*choose another with --port")


def test_folder_of_recordings_that_cannot_be_written(refuse: Refuse, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    refuse("drive", *ROAD, "--output", tmp_path / "file", message="file is a file; give a folder")
    refuse("drive", *ROAD, "--output", tmp_path / "file" / "below", message="cannot be written|is a file")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (spoil("model.safetensors", None), "model.safetensors"),
        (spoil("config.json", "{"), "config.json"),
        (spoil("config.json", "[]"), "config.json"),
        (spoil("config.json", '{"model": {"type": "transformer9000"}}'), "transformer9000"),
        (spoil("state.json", '{"step": 1, "format": 99}'), "another version"),
        (spoil("state.json", "null"), "state.json"),
    ],
)
def test_damaged_and_foreign_checkpoints(
    refuse: Refuse, run: Path, damage: Callable[[Path], None], message: str
) -> None:
    damage(checkpoint_of(run))
    refuse("drive", "--checkpoint", run, message=message)


def test_stores_that_do_not_fit(refuse: Refuse, trained: Path, store: Path, small_store: Path, tmp_path: Path) -> None:
    refuse("drive", "--checkpoint", trained, "--data-root", tmp_path / "none", message="none")
    refuse("drive", "--checkpoint", trained, "--data-root", small_store, message="expects images of 64x64 .* 32x32")
    (store / "store.json").write_text('{"hz": 10}')
    refuse("drive", "--checkpoint", trained, "--data-root", store, message="store.json")


def test_models_that_do_not_fit_each_other_or_the_road_simulator(refuse: Refuse, trained: Path, tmp_path: Path) -> None:
    other = write_checkpoint(tmp_path / "other", (32, 48))
    refuse("drive", "--checkpoint", other, message="--data-root is needed")
    refuse("drive", "--checkpoint", trained, "--compare", other, message="side by side: their image_size")


def test_stores_with_short_drives(refuse: Refuse, trained: Path, store: Path) -> None:
    metadata = json.loads((store / "store.json").read_text())
    count = sum(drive["frames"] for drive in metadata["drives"]) // 4
    metadata["drives"] = [{"name": f"d{k}", "split": "test", "start": 4 * k, "frames": 4} for k in range(count)]
    (store / "store.json").write_text(json.dumps(metadata))
    refuse("drive", "--checkpoint", trained, "--data-root", store, message="no drive long enough")


def test_replayed_files_that_are_no_logs(refuse: Refuse, tmp_path: Path) -> None:
    shutil.copy(__file__, tmp_path / "log.ndjson")
    refuse("drive", *ROAD, "--replay", tmp_path / "log.ndjson", message="log.ndjson:1: not a line of an action log")


def test_installation_without_weights(refuse: Refuse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "FOLDER", tmp_path)
    refuse("drive", message="no packaged weights; give --checkpoint RUN, or --env road")
