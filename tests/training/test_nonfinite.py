"""Non-finite steps: the clip is named, the step is saved, and one command replays it."""

from __future__ import annotations

import json
import math
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import lance
import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file

from daydrive import cli, tensors
from daydrive.config import Config, as_tree, parse_config
from daydrive.data.sampling.augment import DrivingAugmentation
from daydrive.data.sampling.clips import read_clips
from daydrive.data.store.store import TABLE, Store
from daydrive.errors import UserError
from daydrive.training.distributed import DistributedContext
from daydrive.training.engine import Engine
from daydrive.training.nonfinite import (
    NonfiniteStepError,
    bad_actions,
    diagnose_clips,
    likely_cause,
    nonfinite_error,
    replay,
)
from daydrive.training.resume import fit_to_store
from daydrive.types import Batch, Clip
from helpers.refusals import replace_table
from helpers.runs import start
from helpers.tiny_training import TINY_TRAINING

CPU = torch.device("cpu")
BROKEN_FRAME = 13


@pytest.fixture(scope="module")
def broken(road_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store with a drive of the training whose steering is NaN at one frame."""
    folder = tmp_path_factory.mktemp("broken") / "road"
    shutil.copytree(road_store, folder)
    rows = lance.dataset(str(folder / TABLE)).to_table()
    actions = np.stack(rows.column("action").to_numpy())
    actions[Store.open(folder).split("train")[1].start + BROKEN_FRAME, 0] = np.nan
    column = pa.FixedSizeListArray.from_arrays(pa.array(actions.reshape(-1)), 4)
    place = rows.schema.get_field_index("action")
    replace_table(folder, rows.set_column(place, rows.schema.field(place), column))
    return folder


def settings(store: Path, **sections: dict[str, object]) -> Config:
    tree = as_tree(parse_config(TINY_TRAINING))
    for name, section in sections.items():
        tree[name] |= section
    return fit_to_store(parse_config(tree), Store.open(store))


def engine_of(config: Config) -> Engine:
    engine = Engine(config, DistributedContext.single(CPU))
    engine.wrapped.train()
    return engine


def step_of(store: Path, *firsts: int, drive: int = 1, skip: int = 1) -> list[Batch]:
    """The two batches of a step: a clip from frame 0 of another drive, then clips from `firsts` of `drive`."""
    opened = Store.open(store)
    drives = opened.split("train")
    clips = [Clip(drives[0].name, drives[0].start, 6, skip)]
    clips += [Clip(drives[drive].name, drives[drive].start + first, 6, skip) for first in firsts]
    batch = replace(read_clips(opened, clips), samples=list(range(20, 20 + len(clips))))
    return batch.split(2)


def name_of(store: Path, drive: int = 1) -> str:
    return Store.open(store).split("train")[drive].name


def record_of(folder: Path) -> dict[str, object]:
    record: dict[str, object] = json.loads((folder / "clips.json").read_text())
    return record


@pytest.fixture(scope="module")
def fault(broken: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[NonfiniteStepError, Path]:
    """A step with four clips, two of which contain the invalid frame, and its files."""
    run = tmp_path_factory.mktemp("fault") / "run"
    batches = step_of(broken, 3, 10, 16)
    failed = nonfinite_error(run, 12, batches, engine_of(settings(broken)), broken)
    return failed, run / "faults" / "step-12"


def run_command(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["daydrive", "replay", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


def test_damaged_recording_is_named_with_drive_and_frame(fault: tuple[NonfiniteStepError, Path], broken: Path) -> None:
    failed, folder = fault
    assert isinstance(failed, UserError)
    assert str(failed) == (
        f"the gradient of step 12 is not finite: sample 22, drive '{name_of(broken)}', frames 10 to 15: steering is "
        f"nan at frame 13, not in [-1, 1]; to try: repair or leave out that recording and prepare the store again "
        f"('daydrive find-nan {broken}' lists all); 'daydrive replay {folder}' reproduces it"
    )


def test_written_step_describes_its_clips(fault: tuple[NonfiniteStepError, Path], broken: Path) -> None:
    _, folder = fault
    record = record_of(folder)
    assert record["step"] == 12 and Path(str(record["store"])) == broken
    clips = record["clips"]
    assert isinstance(clips, list)
    assert [(c["sample"], c["drive"], c["frame"], c["length"], c["frame_skip"]) for c in clips] == [
        (20, name_of(broken, 0), 0, 6, 1),
        *((sample, name_of(broken), first, 6, 1) for sample, first in ((21, 3), (22, 10), (23, 16))),
    ]
    assert [bool(c["parts"]) for c in clips] == [False, False, True, False]
    assert "pred_loss" in clips[2]["parts"] and "recon_loss" not in clips[2]["parts"]
    assert clips[2]["inputs"] == ["steering is nan at frame 13, not in [-1, 1]"]
    assert sorted(file.name for file in folder.parent.rglob("*") if file.is_file()) == [
        "clips.json", "config.json", "model.safetensors",
    ]  # fmt: skip
    engine = engine_of(settings(broken))
    saved = load_file(folder / "model.safetensors")
    assert all(torch.equal(saved[name], weight) for name, weight in engine.model.state_dict().items())


def test_replay_reproduces_the_failure(
    fault: tuple[NonfiniteStepError, Path],
    broken: Path,
    road_store: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _, folder = fault
    assert run_command(monkeypatch, folder, "--device", "cpu") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"step 12, 4 clips of {broken}"
    assert lines[1].startswith(f"sample 22, drive '{name_of(broken)}', frames 10 to 15: pred_loss, ")
    assert lines[1].endswith("not finite; steering is nan at frame 13, not in [-1, 1]")
    assert lines[2] == "3 of 4 clips are finite"
    assert lines[3].startswith("reproduced: ")

    assert run_command(monkeypatch, folder, "--device", "cpu", "--data-root", road_store) == 1
    assert capsys.readouterr().out.splitlines()[1:] == ["4 of 4 clips are finite", "not reproduced"]


def test_replay_restores_skipped_frames_and_flips(broken: Path, tmp_path: Path) -> None:
    """With every third frame the clip does not contain the invalid one; a flipped clip has negated steering."""
    config = settings(broken, data={"frame_skip": 3, "augmentation": {"mirror": 1.0, "brightness": 0.3}})
    augment = DrivingAugmentation.from_config(config.data.augmentation, config.training.seed)
    batches = [augment(batch) for batch in step_of(broken, 5, skip=3)]
    failed = nonfinite_error(tmp_path, 1, batches, engine_of(config), broken)
    assert f"drive '{name_of(broken)}', frames 5 to 20: steering is nan at frame 11" in str(failed)
    assert replay(tmp_path / "faults" / "step-1", CPU).reproduced


def test_divergence_is_distinguished_from_a_damaged_clip(road_store: Path, tmp_path: Path) -> None:
    config = settings(road_store, optimizer={"type": "adamw", "lr": 1e6}, scheduler={"warmup_steps": 0})
    engine = engine_of(config)
    batches = step_of(road_store, 3, 10, 16)
    for _ in range(10):
        results = [engine.evaluate(batch) for batch in batches]
        if not all(bool(result.loss.isfinite()) for result in results):
            break
        for result in results:
            result.loss.backward()
        if not math.isfinite(engine.clip_gradients()):
            break
        engine.update()
    else:
        pytest.fail("the weights did not diverge")
    failed = nonfinite_error(tmp_path, 7, batches, engine, road_store)
    assert "all 4 clips (recon_loss, pred_loss, " in str(failed)
    assert "not finite): the training has diverged; to try: optimizer.lr=100000" in str(failed)
    assert replay(tmp_path / "faults" / "step-7", CPU).reproduced


def test_non_finite_weights_are_named(road_store: Path, tmp_path: Path) -> None:
    engine = engine_of(settings(road_store))
    with torch.no_grad():
        engine.model.encoder.out_proj[1].bias[0] = math.inf
    failed = nonfinite_error(tmp_path, 5, step_of(road_store, 3), engine, road_store)
    assert "the weights are no longer finite (encoder.out_proj.1.bias): the training has diverged" in str(failed)


def test_non_finite_gradient_with_a_finite_loss(road_store: Path) -> None:
    """The square root at zero has an infinite slope."""
    engine = engine_of(settings(road_store))
    marked = step_of(road_store, 3, 10)
    marked[1].images[:] = 255

    def distance(predicted: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
        other = real.flatten(1).amin(1) < 0.99
        return (predicted.flatten(1).mean(1).square() * other).sqrt()

    engine.objective.distance = distance
    store = Store.open(road_store)
    clips = diagnose_clips(engine, marked, store)
    assert [bool(clip.gradients) for clip in clips] == [False, False, True]
    assert not any(clip.parts for clip in clips)
    assert all(p.grad is None for p in engine.model.parameters())
    cause, advice = likely_cause(clips, [], engine.config, store.path)
    assert "sample 22" in cause and "loss finite, but not the gradient of" in cause
    assert advice == "optimizer.lr=0.0015 training.use_amp=false"


def test_actions_out_of_range_are_reported() -> None:
    actions = torch.zeros(5, 4)
    actions[2:4, 1] = 7
    actions[1, 3] = -math.inf
    assert bad_actions(actions, frame=10, frame_skip=2) == [
        "throttle is 7 at frame 14, not in [0, 1] (and 1 more times)",
        "gear is -inf at frame 12, not in [-1, 1]",
    ]


def test_full_disk_does_not_hide_the_cause(broken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tensors, "write", full)
    failed = nonfinite_error(tmp_path, 12, step_of(broken, 10), engine_of(settings(broken)), broken)
    assert "steering is nan at frame 13" in str(failed)
    assert f"the record could not be written to {tmp_path / 'faults' / 'step-12'} (No space left on device)" in str(
        failed
    )
    assert list((tmp_path / "faults").iterdir()) == []


def test_process_with_the_clip_reports(broken: Path, tmp_path: Path) -> None:
    """Of two processes, the one with valid clips waits until the failure of the other ends it."""

    class Ended(Exception):  # noqa: N818
        pass

    class OneOfTwo(DistributedContext):
        def sum(self, values: dict[str, float]) -> dict[str, float]:
            return values | {"1": 1.0}

        def barrier(self) -> None:
            raise Ended

    def fails(rank: int, first: int) -> NonfiniteStepError:
        engine = engine_of(settings(broken))
        engine.dist = OneOfTwo(rank, 2, CPU)
        return nonfinite_error(tmp_path, 3, step_of(broken, first), engine, broken)

    with pytest.raises(Ended):
        fails(rank=0, first=3)
    assert not (tmp_path / "faults").exists()
    assert "steering is nan" in str(fails(rank=1, first=10))
    assert (tmp_path / "faults" / "step-3").is_dir()


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda folder: (folder / "clips.json").unlink(), "is not the record of a failed step: it has no clips.json"),
        (
            lambda folder: (folder / "clips.json").write_text("{"),
            ":1: the record of a failed step is not valid",
        ),
        (lambda folder: (folder / "clips.json").write_text("[]"), "does not list the clips of a step"),
        (lambda folder: change(folder, sample="one"), "does not list the clips of a step"),
        (lambda folder: change(folder, drive="nowhere"), "has no drive 'nowhere'"),
        (lambda folder: change(folder, frame=20), "has 24 frames, which do not include sample 20"),
        (lambda folder: change(folder, length=0), "has 24 frames, which do not include sample 20"),
        (lambda folder: (folder / "config.json").write_text("{}"), "model.safetensors: weights of another model"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"x"), "not a complete safetensors file"),
    ],
    ids=["none", "cut", "list", "text", "drive", "frames", "length", "model", "weights"],
)
def test_invalid_faults_are_rejected(
    fault: tuple[NonfiniteStepError, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    spoil: object,
    sentence: str,
) -> None:
    folder = tmp_path / "step-12"
    shutil.copytree(fault[1], folder)
    assert callable(spoil)
    spoil(folder)
    assert run_command(monkeypatch, folder, "--device", "cpu") == 2
    error = capsys.readouterr().err
    assert sentence in error and error.count("\n") == 1


def change(folder: Path, **values: object) -> None:
    """Other values for the first clip of a record."""
    record = record_of(folder)
    assert isinstance(record["clips"], list)
    record["clips"][0] |= values
    (folder / "clips.json").write_text(json.dumps(record))


@pytest.mark.parametrize("cause", ["a broken recording", "a rate that is far too high"])
def test_training_reports_the_cause_and_replay_reproduces_it(
    cause: str, broken: Path, road_store: Path, tiny_config: Path, tmp_path: Path
) -> None:
    store = broken if cause == "a broken recording" else road_store
    extra = [] if store == broken else ["optimizer.type=sgd", "optimizer.lr=1e20", "training.max_grad_norm=1e20"]
    extra = extra or ["--allow-faults"]
    process = start(tiny_config, store, tmp_path / "run", *extra, "scheduler.warmup_steps=0", "training.max_steps=60")
    _, output = process.communicate(timeout=200)
    sentence = output.decode().strip().splitlines()[-1]
    assert process.returncode == cli.BAD_INPUT, output
    assert sentence.startswith("error: the gradient of step ") and "daydrive replay" in sentence
    assert ("steering is nan at frame 13" in sentence) == (store == broken), sentence
    assert ("has diverged" in sentence) == (store == road_store), sentence
    folder = next((tmp_path / "run" / "faults").iterdir())
    assert replay(folder, CPU).reproduced
