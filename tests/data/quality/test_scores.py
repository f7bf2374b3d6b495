"""Score columns: difficulty of each frame."""

from __future__ import annotations

import fcntl
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import simplejpeg
import torch

from daydrive.checkpoint import RolloutModel
from daydrive.config import BalanceConfig, Config, CurriculumConfig, DataConfig, parse_config
from daydrive.data.quality import scores
from daydrive.data.sampling.clips import ClipIndex, read_clips
from daydrive.data.sampling.loader import ClipLoader
from daydrive.data.sampling.sample_order import build_sample_order
from daydrive.data.store.store import DriveInfo, Store
from daydrive.errors import UserError
from daydrive.evaluation import scoring
from daydrive.models import build_world_model
from daydrive.models.rollout import rollout_uint8
from daydrive.types import Clip
from helpers.refusals import refuses
from helpers.tiny_training import TINY_TRAINING


@pytest.fixture
def store(road_store: Path, tmp_path: Path) -> Store:
    return Store.open(shutil.copytree(road_store, tmp_path / "store"))


def constant_scores(value: float, drive: DriveInfo) -> Iterator[np.ndarray]:
    yield np.full(drive.frames, value, dtype=np.float32)


def column(path: Path, name: str) -> np.ndarray:
    store = Store.open(path)
    return store.read_values(np.arange(store.rows), [name])[name]


def columns_except(store: Store, *names: str) -> dict[str, object]:
    table = Store.open(store.path).dataset.to_table()
    return {name: table.column(name).to_pylist() for name in table.schema.names if name not in names}


@pytest.fixture(scope="module")
def loaded() -> RolloutModel:
    config = parse_config({**TINY_TRAINING, "model": {**TINY_TRAINING["model"], "image_size": [64, 64]}})
    torch.manual_seed(0)
    return RolloutModel(build_world_model(config).eval(), config, 7, Path("runs/tiny/checkpoints/step-00000007"))


def test_motion_is_the_mean_difference_to_the_previous_frame(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scores, "CHUNK", 7)
    before = columns_except(store)
    summary = scores.add_score(store, "motion", scores.MOTION, partial(scores.motion, store))
    found = column(store.path, "motion")
    assert found.dtype == np.float32 and found.shape == (store.rows,)
    greys = [
        cv2.cvtColor(simplejpeg.decode_jpeg(jpeg), cv2.COLOR_RGB2GRAY).astype(float)
        for jpeg in store.read(np.arange(store.rows))[0]
    ]
    starts = {drive.start for drive in store.drives}
    for row in range(store.rows):
        if row in starts:
            assert np.isnan(found[row])
        else:
            assert found[row] == pytest.approx(np.abs(greys[row] - greys[row - 1]).mean(), abs=1e-4)
    assert np.nanmin(found) > 0 and f"mean {np.nanmean(found):.2f}" in summary
    assert columns_except(store, "motion") == before


@pytest.mark.parametrize("skip", [1, 2])
def test_error_is_the_one_step_prediction_error(store: Store, loaded: RolloutModel, skip: int) -> None:
    config: Config = loaded.config.model_copy(
        update={"data": loaded.config.data.model_copy(update={"frame_skip": skip})}
    )
    model = RolloutModel(loaded.model, config, loaded.step, loaded.path)
    scores.add_score(store, "error", scoring.meaning(model), partial(scoring.prediction_error, store, model))
    found = column(store.path, "error")
    context = config.training.context_frames
    drive = store.drives[1]
    own = found[drive.start : drive.start + drive.frames]
    assert np.isnan(own[: context * skip]).all() and np.isfinite(own[context * skip :]).all()
    for frame in (context * skip, context * skip + 5, drive.frames - 1):
        clip = Clip(drive.name, drive.start + frame - context * skip, context + 1, skip)
        batch = read_clips(store, [clip])
        predicted = rollout_uint8(model.model, batch.images[:, :context], batch.actions)[0, 0]
        difference = (predicted.float() - batch.images[0, context].float()).abs().mean()
        assert own[frame] == pytest.approx(float(difference), abs=0.05)
    assert Store.open(store.path).metadata["scores"] == {"error": "mean absolute error of tiny/step-00000007 one "
                                                         "frame ahead, 0 to 255"}  # fmt: skip


def test_a_drive_shorter_than_the_context_has_no_errors(store: Store, loaded: RolloutModel) -> None:
    (found,) = scoring.prediction_error(store, loaded, DriveInfo("short", "train", 0, 2))
    assert found.shape == (2,) and np.isnan(found).all()


def test_scoring_again_replaces_only_the_column(store: Store) -> None:
    before, fingerprint = columns_except(store), store.fingerprint
    scores.add_score(store, "motion", "first", partial(constant_scores, 1.0))
    scores.add_score(store, "other", "another", partial(constant_scores, 5.0))
    scores.add_score(Store.open(store.path), "motion", "second", partial(constant_scores, 2.0))
    again = Store.open(store.path)
    assert (column(store.path, "motion") == 2).all() and (column(store.path, "other") == 5).all()
    assert again.metadata["scores"] == {"motion": "second", "other": "another"}
    assert again.fingerprint == fingerprint and columns_except(store, "motion", "other") == before


def test_open_reader_continues_after_scoring(store: Store) -> None:
    loader = iter(ClipLoader(ClipIndex(store, "train", 5), batch_size=2))
    next(loader)
    for value in (1.0, 2.0):
        scores.add_score(Store.open(store.path), "motion", "planted", partial(constant_scores, value))
    assert next(loader).images.shape[1] == 5


def test_curriculum_uses_the_scores(store: Store) -> None:
    scores.add_score(store, "motion", scores.MOTION, partial(scores.motion, store))
    opened = Store.open(store.path)
    data = DataConfig(balance=BalanceConfig(), curriculum=CurriculumConfig(by="motion", phases=2, cumulative=False))
    index = ClipIndex(opened, "train", 6)
    order = build_sample_order(opened, index, data, 0)
    batch = next(iter(ClipLoader(index, batch_size=8, order=order)))
    motion = index.means(column(store.path, "motion"))
    easy, hard = motion[order.clips(0, 8)], motion[order.clips(data.curriculum.epochs_per_phase * (len(index) // 2), 8)]
    assert len(batch.samples) == 8 and easy.max() <= hard.min()


def test_failed_scoring_leaves_the_store_unchanged(store: Store) -> None:
    scores.add_score(store, "motion", "first", partial(constant_scores, 1.0))
    before = (store.path / "store.json").read_bytes()

    def stopped(drive: DriveInfo) -> Iterator[np.ndarray]:
        if drive == store.drives[-1]:
            raise KeyboardInterrupt
        yield np.zeros(drive.frames, dtype=np.float32)

    with pytest.raises(KeyboardInterrupt):
        scores.add_score(store, "motion", "second", stopped)
    assert (store.path / "store.json").read_bytes() == before and (column(store.path, "motion") == 1).all()
    scores.add_score(store, "motion", "third", partial(constant_scores, 3.0))


ENDLESS = """
import itertools, sys
import numpy as np
from daydrive.data.quality import scores
from daydrive.data.store.store import Store
for k in itertools.count():
    store = Store.open(sys.argv[1])
    scores.add_score(store, "motion", str(k), lambda drive: iter([np.full(drive.frames, k, dtype=np.float32)]))
    print(k, flush=True)
"""


def test_store_is_valid_after_a_kill_at_any_time(store: Store) -> None:
    before = columns_except(store)
    rng = random.Random(0)
    for _ in range(4):
        child = subprocess.Popen([sys.executable, "-c", ENDLESS, str(store.path)], stdout=subprocess.PIPE)
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(rng.random() * 0.1)
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        opened = Store.open(store.path)
        if "motion" in opened.dataset.schema.names:
            assert len(set(column(store.path, "motion").tolist())) == 1
        assert columns_except(store, "motion") == before
        scores.add_score(opened, "motion", "again", partial(constant_scores, -1.0))
        assert (column(store.path, "motion") == -1).all()


def test_one_process_scores_at_a_time(store: Store) -> None:
    folder = os.open(store.path, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    try:
        message = refuses(lambda: scores.add_score(store, "motion", "", partial(constant_scores, 1.0)), store.path)
        assert "another process is scoring" in message
    finally:
        os.close(folder)
    scores.add_score(store, "motion", "", partial(constant_scores, 1.0))


def test_damaged_image_gives_one_sentence(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    read = store.read

    def damaged(rows: np.ndarray) -> tuple[list[bytes], np.ndarray]:
        jpegs, actions = read(rows)
        return [jpeg[:100] if row == 30 else jpeg for row, jpeg in zip(rows, jpegs, strict=True)], actions

    monkeypatch.setattr(store, "read", damaged)
    drive, frame = store.locate(30)
    message = refuses(lambda: scores.add_score(store, "motion", "", partial(scores.motion, store)), store.path)
    assert f"drive '{drive.name}', frame {frame}" in message


def test_score_command(
    store: Store, loaded: RolloutModel, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def call(*arguments: object) -> tuple[int, str, str]:
        from daydrive.cli import main

        monkeypatch.setattr(sys, "argv", ["daydrive", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main("score")
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    code, out, _ = call(store.path, "--by", "motion")
    assert code == 0 and "column 'motion', mean" in out
    monkeypatch.setattr("daydrive.checkpoint.load", lambda path, device: loaded)
    code, out, _ = call(store.path, "--by", "error", "--checkpoint", "anything", "--device", "cpu")
    assert code == 0 and "column 'error', mean" in out
    assert np.isfinite(column(store.path, "error")).sum() == sum(drive.frames - 4 for drive in store.drives)
    for arguments, expected in [
        ([store.path, "--by", "moton"], "did you mean 'motion'"),
        ([store.path, "--by", "error"], "--checkpoint is needed for --by error"),
        ([store.path, "--by", "motion", "--checkpoint", "x"], "for that alone"),
        ([store.path / "nowhere", "--by", "motion"], "there is no store at"),
        ([store.path.parent, "--by", "motion"], "is not a prepared store"),
        ([store.path], "missing option '--by'"),
    ]:
        code, out, err = call(*arguments)
        assert (code, out) == (2, "") and expected in err and err.count("\n") == 1, err


def test_model_for_another_image_size_is_rejected(
    store: Store, loaded: RolloutModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    from daydrive.cli.data import score

    other = loaded.config.model_copy(update={"model": loaded.config.model.model_copy(update={"image_size": (64, 80)})})
    monkeypatch.setattr(
        "daydrive.checkpoint.load", lambda path, device: RolloutModel(loaded.model, other, 1, loaded.path)
    )
    with pytest.raises(UserError, match="expects images of 64x80"):
        score(store.path, "error", Path("anything"), "cpu")
    assert "error" not in Store.open(store.path).dataset.schema.names
