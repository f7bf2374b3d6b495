"""Training: the files of a run, and exact resuming."""

import itertools
import json
import math
import pickle
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from daydrive import checkpoint
from daydrive.config import LossConfig, SchedulerConfig, UnrollPhase, load_config
from daydrive.data.sampling.clips import ClipIndex
from daydrive.data.store.store import Store
from daydrive.errors import UserError
from daydrive.models import build_world_model
from daydrive.training.context import total_steps
from daydrive.training.optim.muon import Muon, orthogonalize
from daydrive.training.optim.param_groups import build_optimizers, learning_rates, set_learning_rates
from daydrive.training.optim.schedule import learning_rate_factor, unroll_steps
from daydrive.training.resume import ResumeState
from daydrive.training.step import Objective, evaluate_batch
from helpers.runs import logged, run_training, same, weights


@pytest.fixture(scope="module")
def finished(road_store: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A config and its run, without interruption."""
    import yaml

    from helpers.tiny_training import TINY_TRAINING

    folder = tmp_path_factory.mktemp("finished")
    config = folder / "tiny.yaml"
    config.write_text(yaml.safe_dump(TINY_TRAINING))
    assert run_training(config, road_store, folder / "run") == 0
    return config, folder / "run"


def test_run_folder_records_provenance(finished: tuple[Path, Path], road_store: Path) -> None:
    config, run = finished
    provenance = json.loads((run / "provenance.json").read_text())
    assert provenance["store"]["fingerprint"] == Store.open(road_store).fingerprint
    assert (
        provenance["seed"] == 0
        and provenance["versions"]["torch"] == torch.__version__
        and provenance["device"].startswith("cpu")
    )
    resolved = load_config(run / "config.yaml")
    assert resolved.optimizer == load_config(config).optimizer
    assert resolved.model.image_size == (64, 64)


def test_clip_index_is_built_once_per_split(
    tiny_config: Path, road_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[ClipIndex] = []
    build = ClipIndex.__init__

    def counting(index: ClipIndex, *arguments: Any, **more: Any) -> None:
        built.append(index)
        build(index, *arguments, **more)

    monkeypatch.setattr(ClipIndex, "__init__", counting)
    assert run_training(tiny_config, road_store, tmp_path / "run", "training.max_steps=4") == 0
    assert [index.split for index in built] == ["train", "val"]
    there = pickle.loads(pickle.dumps(built[0]))
    assert len(built) == 2 and there.starts().tolist() == built[0].starts().tolist() and there.hz == built[0].hz


def test_tensorboard_has_the_documented_names(finished: tuple[Path, Path]) -> None:
    events = EventAccumulator(str(finished[1]), {"scalars": 0, "images": 0})
    events.Reload()
    scalars = {"train/loss", "train/recon_loss", "train/pred_loss", "train/psnr", "train/ssim", "val/psnr", "lr"}
    assert scalars <= set(events.Tags()["scalars"])
    images = {"train/reconstruction", "train/prediction", "val/samples", "val/rollout"}
    assert images == set(events.Tags()["images"])
    assert [event.step for event in events.Scalars("train/loss")] == [3, 6, 9, 12]
    assert [event.step for event in events.Scalars("val/psnr")] == [4, 8, 12]


def test_metrics_are_logged_with_their_baselines(finished: tuple[Path, Path]) -> None:
    last = logged(finished[1])[-1]
    assert last["step"] == 12
    assert all(math.isfinite(value) for value in last.values())
    assert {"val/psnr", "val/copy_last_psnr", "val/shuffled_actions_psnr"} <= last.keys()


def test_only_best_and_last_checkpoints_are_retained(finished: tuple[Path, Path]) -> None:
    run = finished[1]
    found = {path.name for path in (run / "checkpoints").iterdir()}
    named = {checkpoint.find(run, "last").name, checkpoint.find(run, "best").name}
    assert found == named | {"last", "best"}
    assert checkpoint.find(run, "last").name == "step-00000012"
    best = max((r for r in logged(run) if "val/psnr" in r), key=lambda r: r["val/psnr"])
    assert checkpoint.read_state(checkpoint.find(run, "best"))["step"] == best["step"]


def test_training_updates_every_weight(finished: tuple[Path, Path]) -> None:
    config = load_config(finished[1] / "config.yaml")
    torch.manual_seed(config.training.seed)
    before = build_world_model(config).state_dict()
    unchanged = [name for name, value in weights(finished[1]).items() if torch.equal(value, before[name])]
    assert not unchanged


def test_training_is_deterministic(finished: tuple[Path, Path], road_store: Path, tmp_path: Path) -> None:
    assert run_training(finished[0], road_store, tmp_path / "run", "data.num_workers=1") == 0
    assert same(weights(tmp_path / "run"), weights(finished[1]))
    assert logged(tmp_path / "run") == logged(finished[1])


def test_existing_run_folder_is_rejected(finished: tuple[Path, Path], road_store: Path) -> None:
    with pytest.raises(UserError, match="already holds a training; --resume"):
        run_training(finished[0], road_store, finished[1])


def test_resume_rejects_changed_settings(finished: tuple[Path, Path], road_store: Path) -> None:
    with pytest.raises(UserError, match=r"optimizer\.lr was 0\.003.*is 0\.001 now"):
        run_training(finished[0], road_store, finished[1], "optimizer.lr=1e-3", resume=True)


def test_store_of_another_size_is_rejected(finished: tuple[Path, Path], road_store: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"model\.image_size = \[32, 64\].*images of \[64, 64\]"):
        run_training(finished[0], road_store, tmp_path / "run", "model.image_size=[32, 64]")
    assert not list((tmp_path / "run").iterdir())


def test_weights_of_another_model_are_rejected(finished: tuple[Path, Path], tmp_path: Path) -> None:
    folder = checkpoint.find(finished[1], "last")
    other = build_world_model(load_config(finished[1] / "config.yaml", ["model.latent_dim=12"]))
    with pytest.raises(UserError, match="weights of another model"):
        checkpoint.load_weights(other, folder)


@pytest.mark.parametrize("damage", ["truncate", "garbage", "missing"])
def test_damaged_checkpoint_names_the_file(finished: tuple[Path, Path], tmp_path: Path, damage: str) -> None:
    import shutil

    folder = tmp_path / "copy"
    shutil.copytree(checkpoint.find(finished[1], "last"), folder)
    file = folder / "model.safetensors"
    if damage == "truncate":
        file.write_bytes(file.read_bytes()[:-100])
    elif damage == "garbage":
        (folder / "state.json").write_text("{")
        file = folder / "state.json"
    else:
        (folder / "config.json").unlink()
        file = folder / "config.json"
    with pytest.raises(UserError, match=file.name):
        checkpoint.load(folder)


def test_cosine_schedule_with_warmup() -> None:
    scheduler = SchedulerConfig(warmup_steps=10)
    rates = [learning_rate_factor(step, 110, scheduler, 0.1) for step in range(110)]
    assert rates[:10] == [pytest.approx((i + 1) / 10) for i in range(10)]
    assert max(rates) == pytest.approx(1) and rates[-1] == pytest.approx(0.1)
    assert rates[10 + 99 // 2] == pytest.approx(0.55, abs=0.01)
    assert all(a >= b for a, b in itertools.pairwise(rates[10:]))


def test_linear_and_constant_schedules() -> None:
    linear = SchedulerConfig(type="linear", warmup_steps=10)
    rates = [learning_rate_factor(step, 111, linear, 0.1) for step in range(111)]
    assert rates[60] == pytest.approx(0.55) and rates[-1] == pytest.approx(0.1)
    assert [a - b for a, b in itertools.pairwise(rates[10:])] == pytest.approx([0.009] * 100)
    constant = SchedulerConfig(type="constant", warmup_steps=10)
    assert [learning_rate_factor(step, 111, constant, 0.1) for step in (4, 10, 110)] == [0.5, 1, 1]


def test_unrolls_grow_by_phase() -> None:
    phases = [UnrollPhase(start=0, steps=2), UnrollPhase(start=0.5, steps=4), UnrollPhase(start=0.8, steps=8)]
    assert [unroll_steps(step, 10, phases, 9) for step in (0, 4, 5, 7, 8, 9)] == [2, 2, 4, 4, 8, 8]
    assert unroll_steps(3, 10, [], 6) == 6


def test_training_ends_after_epochs_or_steps(tiny_config: Path) -> None:
    training = load_config(tiny_config, ["training.num_epochs=3", "training.max_steps=100"]).training
    start = ResumeState(0, 0, 4, None, {}, [])
    assert total_steps(training, 18, start) == 13
    assert total_steps(training.model_copy(update={"max_steps": 5}), 18, start) == 5
    later = start._replace(step=5, sample=20, clips_per_step=8)
    assert total_steps(training, 18, later) == 5 + 34 // 8


def test_learning_rates_per_part_and_weight_decay(tiny_config: Path) -> None:
    config = load_config(
        tiny_config,
        ["optimizer.type=adamw", "optimizer.lr=1e-2", "optimizer.encoder_lr=1e-3", "optimizer.decoder_lr=1e-4",
         "model.image_size=[64, 64]"],
    )  # fmt: skip
    model = build_world_model(config)
    optimizers = build_optimizers(model, config.optimizer)
    set_learning_rates(optimizers, 2, 100, SchedulerConfig(warmup_steps=4, min_lr=1e-6))
    rates = learning_rates(optimizers)
    assert rates == {
        "encoder": pytest.approx(0.75e-3),
        "dynamics": pytest.approx(0.75e-2),
        "decoder": pytest.approx(0.75e-4),
    }
    grouped = [p for o in optimizers for g in o.param_groups for p in g["params"]]
    assert len(grouped) == len(set(grouped)) == len(list(model.parameters()))
    for group in optimizers[0].param_groups:
        assert all((p.ndim >= 2) == (group["weight_decay"] > 0) for p in group["params"])


def test_muon_updates_are_orthogonal_and_reduce_the_loss() -> None:
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonalize(torch.randn(3, 16, 40)).float())
    assert values.min() > 0.5 and values.max() < 1.3
    weight = torch.nn.Parameter(torch.randn(8, 4, 3, 3))
    optimizer = Muon([{"params": [weight]}], lr=0.05, weight_decay=0.0)
    start_loss = weight.square().sum().item()
    for _ in range(50):
        optimizer.zero_grad()
        weight.square().sum().backward()
        optimizer.step()
    assert weight.square().sum().item() < 0.5 * start_loss


@pytest.mark.parametrize("key", ["recon", "pred", "perceptual", "latent_reg", "temporal"])
def test_each_loss_weight_scales_its_term(tiny_config: Path, road_store: Path, key: str) -> None:
    from daydrive.data.sampling.clips import fixed_clips, read_clips
    from daydrive.losses import structure_loss

    store = Store.open(road_store)
    batch = read_clips(store, fixed_clips(store, "train", 6, 2))
    model = build_world_model(load_config(tiny_config, ["model.image_size=[64, 64]"])).eval()
    alone = LossConfig(
        **{f"{name}_weight": 0.0 for name in ("recon", "pred", "perceptual", "latent_reg", "temporal")}
        | {f"{key}_weight": 2.0}
    )
    result = evaluate_batch(Objective(model, alone, structure_loss), batch, nullcontext)
    loss = result.loss.item()
    assert loss == pytest.approx(2 * float(result.parts[f"{key}_loss"].mean()), rel=1e-5)
    assert loss > 0
