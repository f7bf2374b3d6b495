"""Evaluation with planted rollouts whose metrics are known: an oracle, a copier, a steerer, a blur."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from rich.console import Console
from torch import Tensor

from daydrive.data.sampling.clips import fixed_clips, read_clips
from daydrive.data.store.store import Store
from daydrive.errors import UserError
from daydrive.evaluation import EvaluateConfig, model_loading, pipeline
from daydrive.evaluation.metrics.frame_metrics import other_clips, predict_clips
from daydrive.evaluation.output import check_writable, finite
from daydrive.evaluation.pipeline import choose_clips, evaluate
from daydrive.metrics import PSNR_CAP, psnr
from daydrive.report.artifacts import PredictionsWriter, bytes_needed
from daydrive.report.text import margins_markdown, margins_table
from daydrive.types import Clip, Rollout
from daydrive.workspace import staged_folder
from helpers.planted_predictions import (
    CONTEXT,
    HORIZON,
    SIZE,
    copier,
    evaluated,
    metric_values,
    oracle,
    scene_store,
    steerer,
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return scene_store(tmp_path_factory.mktemp("scene"))


def test_oracle_scores_perfectly(store: Store, tmp_path: Path) -> None:
    evaluation = evaluated(oracle(store, "val"), store, tmp_path / "out")
    assert metric_values(evaluation, "psnr") == [PSNR_CAP] * HORIZON
    assert metric_values(evaluation, "shuffled_actions_psnr") == [PSNR_CAP] * HORIZON
    assert metric_values(evaluation, "ssim") == pytest.approx([1.0] * HORIZON, abs=1e-6)
    assert metric_values(evaluation, "sharpness") == [1.0] * HORIZON
    for band in evaluation["spectrum"]["bands"]:
        assert band["octaves"] == [0.0] * 3 and not band["peaks"]
    assert max(metric_values(evaluation, "copy_last_psnr")) < PSNR_CAP


def test_copying_model_has_no_margin(store: Store, tmp_path: Path) -> None:
    evaluation = evaluated(copier, store, tmp_path / "out")
    assert metric_values(evaluation, "psnr") == metric_values(evaluation, "copy_last_psnr")
    assert metric_values(evaluation, "psnr") == metric_values(evaluation, "shuffled_actions_psnr")
    assert metric_values(evaluation, "ssim") == metric_values(evaluation, "copy_last_ssim")


def test_steering_model_beats_copying_and_depends_on_actions(store: Store, tmp_path: Path) -> None:
    evaluation = evaluated(steerer, store, tmp_path / "out")
    for step in evaluation["horizons"]:
        assert step["psnr"] > step["copy_last_psnr"] + 3
        assert step["psnr"] > step["shuffled_actions_psnr"] + 3


def test_blurred_rollouts_have_lower_sharpness(store: Store, tmp_path: Path) -> None:
    def blurred(context: Tensor, actions: Tensor) -> Tensor:
        images = steerer(context, actions)
        return images.float().mean((-2, -1), keepdim=True).expand(images.shape).to(torch.uint8)

    assert metric_values(evaluated(blurred, store, tmp_path / "out"), "sharpness") == [0.0] * HORIZON


def test_metrics_are_means_over_frames(store: Store, tmp_path: Path) -> None:
    evaluation = evaluated(steerer, store, tmp_path / "out")
    with np.load(tmp_path / "out" / "predictions.npz", allow_pickle=False) as data:
        real, predicted = (torch.from_numpy(data[name]).movedim(-1, -3) for name in ("real", "predicted"))
    by_hand = torch.stack([psnr(predicted[i], real[i], 255.0) for i in range(len(real))]).double().mean(0)
    assert metric_values(evaluation, "psnr") == pytest.approx(by_hand.tolist(), abs=1e-5)


def test_metrics_do_not_depend_on_batch_size(store: Store, tmp_path: Path) -> None:
    results = [evaluated(steerer, store, tmp_path / str(size), batch_size=size) for size in (1, 5, 100)]
    assert results[0] == results[1] == results[2]
    archives = [(tmp_path / str(size) / "predictions.npz") for size in (1, 5, 100)]
    for name in ("real", "predicted", "shuffled", "last"):
        arrays = [np.load(archive)[name] for archive in archives]
        assert (arrays[0] == arrays[1]).all() and (arrays[0] == arrays[2]).all()


def test_output_files_and_their_layout(store: Store, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    output = tmp_path / "deep" / "out"
    about = {"checkpoint": "runs/a/checkpoints/step-00000100", "training_step": 100}
    evaluation = evaluated(steerer, store, output, about=about, progress=lambda *done: seen.append(done))
    assert sorted(p.name for p in output.iterdir()) == [
        "evaluation.json",
        "frame_metrics.npz",
        "horizon.png",
        "predictions.npz",
        "report.html",
        "report.md",
        "rollouts.mp4",
        "strip.png",
        "worst.png",
    ]
    assert [p.name for p in output.parent.iterdir()] == ["out"]
    assert seen == [(i + 1, 12) for i in range(12)]
    assert json.loads((output / "evaluation.json").read_text()) == evaluation
    assert (evaluation["clips"], evaluation["context"], evaluation["hz"], evaluation["seed"]) == (12, CONTEXT, 10.0, 0)
    assert evaluation["store_fingerprint"] == store.fingerprint and evaluation["training_step"] == 100
    names = [name for name in evaluation["horizons"][0] if not name.endswith("_interval")]
    assert names == [
        "step", "psnr", "ssim", "copy_last_psnr", "copy_last_ssim", "constant_flow_psnr", "mean_image_psnr",
        "shuffled_actions_psnr", "zero_actions_psnr", "structure", "copy_last_structure", "shuffled_actions_structure",
        "zero_actions_structure", "sharpness", "flicker",
    ]  # fmt: skip
    assert all(f"{name}_interval" in evaluation["horizons"][0] for name in names[1:])
    assert evaluation["held"] == ["val/val0", "val/val1", "val/val2"]
    with np.load(output / "frame_metrics.npz", allow_pickle=False) as data:
        assert data["psnr"].shape == (12, HORIZON)
        assert data["psnr"].mean(0) == pytest.approx(metric_values(evaluation, "psnr"), abs=1e-5)
    assert metric_values(evaluation, "step") == list(range(1, HORIZON + 1))
    with np.load(output / "predictions.npz", allow_pickle=False) as data:
        assert {name: (data[name].shape, data[name].dtype) for name in data} == {
            "real": ((12, HORIZON, *SIZE, 3), np.uint8),
            "predicted": ((12, HORIZON, *SIZE, 3), np.uint8),
            "shuffled": ((12, HORIZON, *SIZE, 3), np.uint8),
            "last": ((12, *SIZE, 3), np.uint8),
        }
        clips = fixed_clips(store, "val", CONTEXT + HORIZON, 12)
        assert (data["real"] == read_clips(store, clips).images[:, CONTEXT:].movedim(-3, -1).numpy()).all()
    with av.open(str(output / "rollouts.mp4")) as video:
        assert sum(1 for _ in video.decode(video=0)) == pipeline.SHOWN_CLIPS * (CONTEXT + HORIZON)
    for name in ("horizon.png", "strip.png"):
        assert min(Pillow.open(output / name).size) > 200


def test_second_evaluation_replaces_only_its_own_files(store: Store, tmp_path: Path) -> None:
    first = evaluated(copier, store, tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    second = evaluated(steerer, store, tmp_path)
    assert first != second
    assert json.loads((tmp_path / "evaluation.json").read_text()) == second
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_failed_rollout_leaves_no_files(store: Store, tmp_path: Path) -> None:
    calls = []

    def failing(context: Tensor, actions: Tensor) -> Tensor:
        calls.append(1)
        if len(calls) > 3:
            raise RuntimeError("out of memory")
        return copier(context, actions)

    with pytest.raises(RuntimeError, match="out of memory"):
        evaluated(failing, store, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "drives",
    [
        ["a"] * 2,
        ["a"] * 9,
        ["a", "b"],
        ["a"] * 5 + ["b"] * 2,
        ["a", "b", "c"] * 4,
        ["a"] * 4 + ["b"] * 4,
        list("abcdefg"),
    ],
)
def test_shuffled_actions_come_from_other_clips(drives: list[str]) -> None:
    clips = [Clip(name, 10 * i, 9, 1) for i, name in enumerate(drives)]
    for seed in range(5):
        partner = other_clips(clips, seed)
        assert sorted(partner) == list(range(len(clips)))
        assert all(i != j for i, j in enumerate(partner))
        assert partner == other_clips(clips, seed)
        most = max(drives.count(name) for name in drives)
        same = sum(drives[i] == drives[j] for i, j in enumerate(partner))
        assert same == max(0, 2 * most - len(drives))


def test_seed_determines_the_pairing() -> None:
    clips = [Clip(name, 0, 9, 1) for name in "abcdefgh"]
    assert len({tuple(other_clips(clips, seed)) for seed in range(10)}) > 5


def test_shuffled_actions_begin_after_the_context(store: Store) -> None:
    given: list[Tensor] = []

    def spy(context: Tensor, actions: Tensor) -> Tensor:
        given.append(actions)
        return copier(context, actions)

    clips = fixed_clips(store, "val", CONTEXT + HORIZON, 8)
    own = read_clips(store, clips).actions
    predict_clips(spy, store, clips, other_clips(clips, 0), CONTEXT, range(8))
    predicted, shuffled, idle = given
    assert torch.equal(idle[:, : CONTEXT - 1], own[:, : CONTEXT - 1]) and not idle[:, CONTEXT - 1 :, :3].any()
    assert torch.equal(idle[..., 3], own[..., 3])
    assert torch.equal(predicted, own)
    assert torch.equal(shuffled[:, : CONTEXT - 1], own[:, : CONTEXT - 1])
    assert torch.equal(shuffled[:, CONTEXT - 1 :], own[other_clips(clips, 0), CONTEXT - 1 :])


def test_frame_skip_reduces_the_frame_rate(store: Store, tmp_path: Path) -> None:
    evaluation = evaluated(copier, store, tmp_path, frame_skip=2, horizon=4)
    assert (evaluation["hz"], evaluation["frame_skip"], len(evaluation["horizons"])) == (5.0, 2, 4)


def test_reduced_horizon_and_clips_are_reported(store: Store) -> None:
    clips, notes = choose_clips(store, "val", CONTEXT, 100, 64, 1, 0)
    assert {clip.length for clip in clips} == {23} and len(clips) == 2
    assert notes[0] == "The horizon is 20 steps instead of 100: the drives are too short."
    assert notes[1] == "There are 2 clips instead of 64: the split has no more."
    assert choose_clips(store, "val", CONTEXT, HORIZON, 12, 1, 0)[1] == []


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"horizon": 0}, "--horizon has to be at least 1, not 0"),
        ({"clips": 1}, "--clips has to be at least 2, not 1"),
        ({"batch_size": 0}, "--batch-size has to be at least 1, not 0"),
        ({"samples": 1}, "--samples has to be at least 2, or 0 for none, not 1: one has no spread"),
        ({"samples": -2}, "--samples has to be at least 2, or 0 for none, not -2"),
        ({"split": "vall"}, "no split 'vall'.*did you mean 'val'"),
        ({"split": "test", "context": 5}, "too short for two clips of 5 frames of context and 1 to predict"),
    ],
)
def test_invalid_settings_are_rejected(store: Store, tmp_path: Path, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        evaluated(copier, store, tmp_path / "out", **options)
    assert list(tmp_path.iterdir()) == []


def test_empty_split_is_rejected(store: Store, tmp_path: Path) -> None:
    rest = Store(store.path, store.metadata | {"drives": [d for d in store.metadata["drives"] if d["split"] != "val"]})
    with pytest.raises(UserError, match=r"the split 'val' .* is empty; it has drives in: test, train"):
        evaluated(copier, rest, tmp_path / "out")


def test_unwritable_output_is_rejected_first(store: Store, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for output in (tmp_path / "file", tmp_path / "file" / "out"):
        with pytest.raises(UserError, match="the output"):
            evaluate(tmp_path / "no-checkpoint-is-looked-for", store.path, output, EvaluateConfig(split="val"))
    with pytest.raises(UserError, match="GB and its disk has"):
        check_writable(tmp_path / "out", 10**18)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def loaded(image_size: tuple[int, int] | None, action_dim: int = 4) -> Any:
    config = SimpleNamespace(
        model=SimpleNamespace(image_size=image_size, action_dim=action_dim),
        training=SimpleNamespace(context_frames=CONTEXT),
        data=SimpleNamespace(frame_skip=1),
    )
    return SimpleNamespace(
        model=None, config=config, step=7, path=Path("runs/a/checkpoints/step-7"), name="a/step-7",
        image_size=image_size, context_frames=CONTEXT, frame_skip=1,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        (
            loaded((64, 64)),
            "expects images of 64x64 and the store .* has 32x48; prepare the store with --image-size 64 64",
        ),
        (loaded(SIZE, action_dim=2), r"expects actions of 2 numbers and the store .* has 4 \(steering"),
    ],
)
def test_model_of_another_image_size_is_rejected(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: Any, sentence: str
) -> None:
    monkeypatch.setattr(model_loading, "load", lambda *_: model)
    with pytest.raises(UserError, match=sentence):
        evaluate(tmp_path / "run", store.path, tmp_path / "out", EvaluateConfig(split="val"))


def test_evaluate_uses_the_same_rollout_as_evaluate_model(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = loaded(SIZE)
    model.path = tmp_path / "runs/a/checkpoints/step-7"
    model.path.mkdir(parents=True)
    (model.path / "model.safetensors").write_bytes(b"weights")
    monkeypatch.setattr(model_loading, "load", lambda *_: model)
    monkeypatch.setattr(model_loading, "rollout_uint8", lambda _, context, actions, seed: steerer(context, actions))
    through = evaluate(
        tmp_path / "run", store.path, tmp_path / "out", EvaluateConfig(split="val", horizon=HORIZON, clips=12)
    )
    direct = evaluated(steerer, store, tmp_path / "direct")
    assert through["horizons"] == direct["horizons"]
    assert through["manifest"]["checkpoint"] == f"sha256 {hashlib.sha256(b'weights').hexdigest()}"
    assert (through["checkpoint"], through["name"], through["training_step"]) == (
        str(model.path),
        "a/step-7",
        7,
    )


def test_predictions_are_written_atomically(tmp_path: Path) -> None:
    frames = torch.zeros(2, 3, *SIZE, dtype=torch.uint8)
    rollout = Rollout(Clip("a", 0, 4, 1), *[frames] * 5, torch.zeros(3, 4))
    with pytest.raises(KeyError), PredictionsWriter(tmp_path / "p.npz", 2, 2, SIZE) as predictions:
        predictions.write(rollout)
        raise KeyError
    assert list(tmp_path.iterdir()) == []
    with PredictionsWriter(tmp_path / "p.npz", 2, 2, SIZE) as predictions:
        predictions.write(rollout)
        predictions.write(rollout)
    assert [p.name for p in tmp_path.iterdir()] == ["p.npz"]
    arrays = sum(array.nbytes for array in np.load(tmp_path / "p.npz").values())
    assert arrays < bytes_needed(2, 2, SIZE) < 2 * arrays


def test_failed_output_folder_leaves_nothing(tmp_path: Path) -> None:
    output = tmp_path / "out"
    with pytest.raises(KeyError), staged_folder(output) as folder:
        (folder / "a").write_text("half")
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_json_contains_no_nan() -> None:
    assert finite({"a": [1.0, float("nan")], "b": (float("inf"), "x")}) == {"a": [1.0, None], "b": [None, "x"]}


def test_table_and_markdown(store: Store, tmp_path: Path) -> None:
    evaluation = evaluated(steerer, store, tmp_path)
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(margins_table(evaluation))
    shown = console.export_text()
    markdown = margins_markdown(evaluation)
    rows = [line.split("|")[1:-1] for line in markdown.splitlines() if line.startswith("|")]
    assert [row[0].strip() for row in rows[2:]] == ["1", "5", "6"]
    step = evaluation["horizons"][4]
    for metric in (
        f"{step['psnr']:.2f}",
        f"{step['copy_last_psnr']:.2f}",
        f"{step['psnr'] - step['copy_last_psnr']:+.2f}",
        f"{step['psnr'] - step['shuffled_actions_psnr']:.2f}",
        f"{step['ssim']:.3f}",
        f"{step['sharpness']:.2f}",
    ):
        assert metric in shown and metric in markdown
    assert "12 clips of split 'val'" in shown and "12 clips of split 'val'" in markdown
