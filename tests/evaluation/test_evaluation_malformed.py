"""Errors of the evaluation for invalid options, checkpoints, stores and comparisons."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from daydrive import cli
from daydrive.data.store.store import METADATA_FILE, TABLE
from daydrive.evaluation import output
from daydrive.evaluation.manifest import COMPARABLE
from helpers.refusals import Refuse, checkpoint_of, damage_images, spoil


def test_invalid_options(refuse: Refuse, trained: Path, road_store: Path, small_store: Path, here: Path) -> None:
    (here / "file").write_text("in the way")
    command = ("evaluate", "--checkpoint", trained, "--output", "out/figures")
    of_road = (*command, "--data-root", road_store)
    refuse(*of_road, "--horizon", 0, message="--horizon has to be at least 1, not 0")
    refuse(*of_road, "--horizon", "far", message="--horizon.* integer")
    refuse(*of_road, "--clips", 1, message="--clips has to be at least 2, not 1")
    refuse(*of_road, "--clips", 0, message="--clips has to be at least 2, not 0")
    refuse(*of_road, "--batch-size", 0, message="--batch-size has to be at least 1")
    refuse(*of_road, "--batch-size", -4, message="--batch-size has to be at least 1, not -4")
    refuse(*of_road, "--samples", 1, message="--samples has to be at least 2, or 0 for none, not 1")
    refuse(*of_road, "--seed", -1, message="--seed has to be at least 0")
    refuse(*of_road, "--split", "tset", message="there is no split 'tset'; did you mean 'test'")
    refuse(*of_road, "--device", "cuda:99", message="--device cuda:99")
    refuse(*of_road, "--device", "gpu", message="--device gpu: .* cpu, cuda, cuda:1 or auto")
    refuse(*of_road[:3], "--data-root", road_store, "--output", "file", message="the output file is a file")
    refuse(
        *of_road[:3], "--data-root", road_store, "--output", "file/out", message="the output file/out cannot be written"
    )
    refuse(
        *of_road[:3],
        "--data-root",
        road_store,
        "--output",
        "/proc/out",
        message="the output /proc/out cannot be written",
    )
    refuse(*command, "--data-root", small_store, message="expects images of 64x64 and the store .* has 32x32")
    refuse(*command, "--data-root", "nowhere", message="there is no store at nowhere")
    refuse(*command, "--data-root", trained, message="is not a prepared store")


def test_missing_gpu(refuse: Refuse, road_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    arguments = ("--checkpoint", "x", "--data-root", road_store, "--output", "out", "--device", "cuda")
    refuse("evaluate", *arguments, message="--device cuda: this machine has 0 GPUs that PyTorch can use")


def test_full_disk(refuse: Refuse, trained: Path, road_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ("--checkpoint", trained, "--data-root", road_store, "--output", "new/out", "--clips", 2)
    with monkeypatch.context() as patch:
        usage = shutil.disk_usage("/")
        patch.setattr(output.shutil, "disk_usage", lambda _: usage._replace(free=1000))
        refuse("evaluate", *arguments, message="the output new/out needs .* GB and its disk has 0.0 GB left")


def test_invalid_checkpoints(refuse: Refuse, road_store: Path, here: Path) -> None:
    (here / "noise.bin").write_bytes(os.urandom(1000))
    (here / "noise.safetensors").write_bytes(os.urandom(1000))
    (here / "empty").mkdir()
    for path in ("noise.bin", "noise.safetensors", "empty", road_store):
        arguments = ("--checkpoint", path, "--data-root", road_store, "--output", "out")
        refuse("evaluate", *arguments, message="is not a checkpoint")
    refuse(
        "evaluate",
        "--checkpoint",
        "x",
        "--data-root",
        road_store,
        "--output",
        "out",
        message="there is no checkpoint x",
    )


def resized(folder: Path) -> None:
    tree = json.loads((folder / "config.json").read_text())
    tree["model"]["hidden_dim"] = 32
    (folder / "config.json").write_text(json.dumps(tree))


def numbered(change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> Callable[[Path], None]:
    """Changes the weights of a checkpoint."""

    def apply(folder: Path) -> None:
        weights = change(load_file(folder / "model.safetensors"))
        save_file({name: value.contiguous() for name, value in weights.items()}, folder / "model.safetensors")

    return apply


def broken(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    first = next(name for name in sorted(weights) if weights[name].is_floating_point())
    return weights | {first: torch.full_like(weights[first], float("nan"))}


def newer(folder: Path) -> None:
    state = json.loads((folder / "state.json").read_text())
    (folder / "state.json").write_text(json.dumps({**state, "format": 99}))


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (numbered(broken), "model.safetensors: '.*' has values that are not finite"),
        (numbered(lambda _: {"conv.weight": torch.zeros(3)}), "model.safetensors: weights of another model: '.*' is"),
        (newer, r"state.json: written by another version of daydrive \(format 99; this one reads 2 and 3\)"),
        (spoil("config.json", "[]"), "config.json: the checkpoint's config must be an object"),
        (spoil("model.safetensors", None), "model.safetensors: not a complete safetensors file"),
        (lambda folder: (folder / "model.safetensors").unlink(), "has no model.safetensors"),
        (lambda folder: (folder / "config.json").unlink(), "config.json cannot be read"),
        (resized, "model.safetensors: weights of another model: '.*' has shape"),
        (spoil("config.json", '{"model": {"latent_dm": 3}}'), "config.json: unknown key 'model.latent_dm'"),
        (spoil("config.json", b"\xff\xfe\xff"), "config.json cannot be read"),
        (spoil("state.json", "[1"), "state.json:1: the checkpoint's state is not valid JSON"),
        (spoil("state.json", "{}"), "state.json: .* no integer 'step'"),
    ],
)
def test_broken_checkpoints(
    harm: Callable[[Path], None], message: str, refuse: Refuse, run: Path, road_store: Path
) -> None:
    harm(checkpoint_of(run))
    refuse("evaluate", "--checkpoint", run, "--data-root", road_store, "--output", "new/out", message=message)


def of_metadata(**changes: object) -> Callable[[Path], None]:
    def apply(store: Path) -> None:
        metadata = json.loads((store / METADATA_FILE).read_text())
        (store / METADATA_FILE).write_text(json.dumps({**metadata, **changes}))

    return apply


def only_training(store: Path) -> None:
    drives = json.loads((store / METADATA_FILE).read_text())["drives"]
    of_metadata(drives=[{**drive, "split": "train"} for drive in drives])(store)


def unreachable(store: Path) -> None:
    """Drives shorter than the model's context."""
    drives = json.loads((store / METADATA_FILE).read_text())["drives"]
    of_metadata(drives=[{**drive, "frames": 3} if drive["split"] == "test" else drive for drive in drives])(store)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda store: damage_images(store, "test"), "damaged image: drive 'road_.*', frame 0"),
        (only_training, "the split 'test' of .* is empty; it has drives in: train"),
        (
            unreachable,
            "the drives of split 'test' of .* are too short for two clips of 4 frames of context and 1 to predict",
        ),
        (lambda store: shutil.rmtree(store / TABLE), "has no table"),
        (lambda store: (store / METADATA_FILE).write_text("{"), "cannot be read as a store's metadata"),
        (of_metadata(format_version=99), "has format version 99"),
        (of_metadata(hz=0), "not a store's metadata.*positive"),
        (of_metadata(drives=[{"name": "a", "split": "test", "start": 0, "frames": -3}]), "not a store's metadata"),
        (of_metadata(drives=[{"name": "a", "split": "test", "start": 0, "frames": 900}]), "is truncated"),
    ],
)
def test_broken_stores(harm: Callable[[Path], None], message: str, refuse: Refuse, trained: Path, store: Path) -> None:
    harm(store)
    refuse("evaluate", "--checkpoint", trained, "--data-root", store, "--output", "new/out", message=message)


class Compared(NamedTuple):
    """command: an evaluation with `--compare other`; other: the folder of another evaluation."""

    command: tuple[Any, ...]
    other: Path


@pytest.fixture(scope="module")
def evaluated(trained: Path, road_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An evaluation with two clips and two steps."""
    folder = tmp_path_factory.mktemp("evaluated") / "first"
    command = ["evaluate", "--checkpoint", trained, "--data-root", road_store, "--output", folder, "--device", "cpu"]
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr(sys, "argv", ["daydrive", *map(str, command), "--clips", "2", "--horizon", "2"])
        cli.main()
    assert ended.value.code == 0
    return folder


@pytest.fixture
def compared(evaluated: Path, trained: Path, road_store: Path, tmp_path: Path) -> Compared:
    """A comparison with a copy of it that may be damaged."""
    other = shutil.copytree(evaluated, tmp_path / "other")
    command = ("evaluate", "--checkpoint", trained, "--data-root", road_store, "--output", "new/out")
    return Compared((*command, "--clips", 2, "--horizon", 2, "--device", "cpu", "--compare", other), other)


@pytest.mark.parametrize("line", COMPARABLE)
def test_comparison_rejects_differing_manifests(refuse: Refuse, compared: Compared, line: str) -> None:
    evaluation = json.loads((compared.other / "evaluation.json").read_text())
    evaluation["manifest"][line] = "another"
    (compared.other / "evaluation.json").write_text(json.dumps(evaluation))
    refuse(*compared.command, message=f'not comparable, its {line} is "another", not')


def of_metrics(change: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        with np.load(folder / "frame_metrics.npz") as data:
            np.savez(folder / "frame_metrics.npz", **change(dict(data)))

    return apply


def objects(metrics: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return metrics | {"psnr": np.array([[pickle.dumps(1), None]] * 2, dtype=object)}


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda folder: (folder / "evaluation.json").unlink(), "the evaluation .*evaluation.json cannot be read"),
        (spoil("evaluation.json", '{"manifest"'), "evaluation.json:1: the evaluation is not valid JSON"),
        (spoil("evaluation.json", "[]"), "its evaluation.json has no manifest; evaluate that checkpoint again"),
        (lambda folder: (folder / "frame_metrics.npz").unlink(), "frame_metrics.npz cannot be read"),
        (spoil("frame_metrics.npz", None), "frame_metrics.npz cannot be read"),
        (spoil("frame_metrics.npz", b""), "frame_metrics.npz cannot be read"),
        (spoil("frame_metrics.npz", pickle.dumps([1])), "frame_metrics.npz cannot be read"),
        (of_metrics(objects), "frame_metrics.npz cannot be read .*allow_pickle"),
        (of_metrics(lambda metrics: {"psnr": metrics["psnr"]}), "frame_metrics.npz cannot be read .*ssim"),
        (of_metrics(lambda f: {name: values[:, :1] for name, values in f.items()}), r"metrics of shape \(2, 1\), not"),
    ],
)
def test_invalid_evaluations_for_comparison(
    harm: Callable[[Path], None], message: str, refuse: Refuse, compared: Compared
) -> None:
    harm(compared.other)
    refuse(*compared.command, message=message)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--lpips", "alexnat"), "--lpips alexnat: there is no such network; did you mean 'alexnet'"),
        (("--lpips", "vgg16", "--lpips-weights", "nowhere.safetensors"), "needs weights, and there is no nowhere"),
        (("--lpips-weights", "noise.safetensors"), "noise.safetensors: not the weights of alexnet"),
        (("--lpips-weights", "other.safetensors"), "other.safetensors: not the weights of alexnet"),
    ],
)
def test_invalid_weights_of_a_metric(
    arguments: tuple[str, ...], message: str, refuse: Refuse, trained: Path, road_store: Path, here: Path
) -> None:
    (here / "noise.safetensors").write_bytes(os.urandom(1000))
    save_file({"layers.0.0.weight": torch.zeros(3)}, here / "other.safetensors")
    command = ("evaluate", "--checkpoint", trained, "--data-root", road_store, "--output", "new/out")
    refuse(*command, *arguments, message=message)
