"""The readout: it learns from a store, states its errors on other drives, and its file is checked."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from daydrive import cli
from daydrive.checkpoint import RolloutModel
from daydrive.data.sampling.clips import read_images
from daydrive.data.store.store import Store
from daydrive.envs.world_model import Readout, WorldModelEnv
from daydrive.envs.world_model.readout import METADATA, reduce_images
from daydrive.envs.world_model.readout_training import read_pairs, train_readout
from daydrive.errors import UserError
from helpers.described_files import with_header
from helpers.refusals import Refuse


@pytest.fixture(scope="module")
def learned(opened_store: Store) -> Readout:
    """The lane offset alone, after a few seconds of training."""
    return train_readout(opened_store, ["lane_offset"], steps=120)


def test_learns_the_lane_offset_and_states_its_errors_on_other_drives(learned: Readout, opened_store: Store) -> None:
    error = learned.info.errors["lane_offset"]
    drives = opened_store.split("test")
    assert learned.info.frames == sum(drive.frames - 1 for drive in drives) and learned.info.split == "test"
    assert learned.info.units == {"lane_offset": "m from the middle of the lane, positive to the right"}
    assert error.mean_absolute < 0.8 * error.constant
    rows = np.concatenate([np.arange(drive.start + 1, drive.start + drive.frames) for drive in drives])
    images = torch.from_numpy(np.stack([read_images(opened_store, rows - 1)[0], read_images(opened_store, rows)[0]], 1))
    read = learned(images.movedim(-1, 2))["lane_offset"].numpy()
    recorded = opened_store.read_values(rows, ["lane_offset"])["lane_offset"]
    assert np.abs(read - recorded).mean() == pytest.approx(error.mean_absolute, rel=1e-4)
    explained = 1 - np.square(read - recorded).mean() / recorded.var()
    assert explained == pytest.approx(error.explained, abs=1e-3)


def test_the_same_seed_gives_the_same_readout(opened_store: Store) -> None:
    one, same, other = (train_readout(opened_store, ["speed"], steps=3, seed=seed) for seed in (1, 1, 2))
    weights = [readout.network.state_dict() for readout in (one, same, other)]
    assert all(value.equal(weights[1][name]) for name, value in weights[0].items())
    assert not all(value.equal(weights[2][name]) for name, value in weights[0].items())


def test_pairs_are_consecutive_frames_of_one_drive(opened_store: Store) -> None:
    pairs = read_pairs(opened_store, "train", ["speed"], frame_skip=2, count=10**6)
    drives = opened_store.split("train")
    assert len(pairs.values) == sum(drive.frames - 2 for drive in drives)
    last = np.concatenate([np.arange(drive.start + 2, drive.start + drive.frames) for drive in drives])
    for k in (0, len(last) // 2, len(last) - 1):
        expected = torch.from_numpy(read_images(opened_store, np.array([last[k] - 2, last[k]]))[0]).movedim(-1, 1)
        assert pairs.frames(torch.tensor([k]))[0].equal(expected)
    few = read_pairs(opened_store, "train", ["speed"], frame_skip=1, count=5)
    assert len(few.values) == 5 and len(few.images) == 10


def test_large_images_are_reduced() -> None:
    images = torch.randint(0, 256, (2, 3, 128, 256), dtype=torch.uint8)
    reduced = reduce_images(images)
    assert reduced.shape == (2, 3, 64, 128) and reduced.dtype == torch.uint8
    assert reduced[0, 0, 0, 0] == round(images[0, 0, :2, :2].float().mean().item())
    assert reduce_images(images[..., :40, :60]).shape == (2, 3, 40, 60)


def test_file_gives_the_same_readings(learned: Readout, tmp_path: Path, world_model: RolloutModel, store: Path) -> None:
    file = tmp_path / "readout.safetensors"
    learned.save(file)
    loaded = Readout.load(file)
    frames = torch.randint(0, 256, (3, 2, 3, 64, 64), dtype=torch.uint8)
    assert loaded.info == learned.info and loaded(frames)["lane_offset"].equal(learned(frames)["lane_offset"])
    env = WorldModelEnv(world_model, store, file)
    _, info = env.reset(seed=0)
    assert isinstance(info["lane_offset"], float)


def nan_weights(file: Path) -> None:
    with safe_open(file, framework="pt") as opened:
        header, weights = opened.metadata(), {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    save_file({name: torch.full_like(value, torch.nan) for name, value in weights.items()}, file, header)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda file: file.unlink(), "there is no readout"),
        (lambda file: file.write_bytes(os.urandom(500)), "not a complete readout"),
        (lambda file: file.write_bytes(file.read_bytes()[:-100]), "not a complete readout"),
        (lambda file: save_file({"a": torch.zeros(2)}, file), "is not a readout"),
        (lambda file: save_file({"a": torch.zeros(2)}, file, {METADATA: "{"}), "not a complete readout"),
        (with_header(METADATA, lambda header: {**header, "units": {}}), "not a complete readout"),
        (with_header(METADATA, lambda header: {**header, "hz": "fast"}), "not a complete readout"),
        (with_header(METADATA, lambda header: {**header, "units": {"a": "", "b": ""}}), "not a complete readout"),
        (with_header(METADATA, lambda _: [1]), "not a complete readout"),
        (nan_weights, "weights that are not finite"),
    ],
)
def test_damaged_files_are_refused(
    damage: Callable[[Path], None], message: str, learned: Readout, tmp_path: Path
) -> None:
    file = tmp_path / "readout.safetensors"
    learned.save(file)
    damage(file)
    with pytest.raises(UserError, match=message) as raised:
        Readout.load(file)
    assert "\n" not in str(raised.value)


def test_a_readout_of_another_size_or_rate_is_refused(
    learned: Readout, world_model: RolloutModel, opened_store: Store
) -> None:
    for change in ({"hz": 5.0}, {"image_size": (128, 128)}):
        other = Readout(learned.network, learned.info.model_copy(update=change))
        with pytest.raises(UserError, match=r"the readout was trained on images of .* has 64x64 at 10 Hz"):
            WorldModelEnv(world_model, opened_store, other)


def test_command_writes_the_readout_and_prints_its_errors(
    road_store: Path, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["train-readout", "--data-root", str(road_store), "--output", "new/readout.safetensors"]
    for columns in ([], ["--columns", "curvature"]):
        monkeypatch.setattr("sys.argv", ["daydrive", *arguments, "--steps", "3", "--device", "cpu", *columns])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert not ended.value.code
        readout = Readout.load("new/readout.safetensors")
        assert readout.names == (("curvature",) if columns else ("lane_offset", "heading_error", "speed"))
        printed = capsys.readouterr().out
        for name, error in readout.info.errors.items():
            assert name in printed and f"{error.mean_absolute:.3g}" in printed
    assert [file.name for file in (here / "new").iterdir()] == ["readout.safetensors"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--data-root", "nowhere"], "there is no store at nowhere"),
        (["--columns", "sped"], "--columns sped: .* has no such value; did you mean 'speed'"),
        (["--frame-skip", "30"], "'train' of .* has no two frames"),
        (["--output", "."], r"--output \. is a folder"),
        (["--output", "{model}"], "exists and is not a readout; choose another file"),
        (["--output", "{model}/readout"], "is a file; give a folder"),
        (["--device", "gpu"], "--device gpu"),
        (["--steps", "0"], "(?i)--steps"),
    ],
)
def test_invalid_input_is_refused(
    options: list[str], message: str, road_store: Path, run: Path, refuse: Refuse
) -> None:
    model = next(run.rglob("model.safetensors"))
    arguments = {"--data-root": str(road_store), "--output": "readout.safetensors", "--steps": "2"}
    arguments |= dict(zip(options[::2], (option.format(model=model) for option in options[1::2]), strict=True))
    refuse("train-readout", *[word for pair in arguments.items() for word in pair], message=message)


def test_a_store_without_such_values_is_refused(small_store: Path, refuse: Refuse) -> None:
    refuse(
        "train-readout", "--data-root", small_store, "--output", "r.safetensors",
        message="the split 'train' of .* has no two frames with speed that follow another frame; a readout needs them",
    )  # fmt: skip
