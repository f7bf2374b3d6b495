"""Invalid settings, flags, stores and checkpoints of a training."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from daydrive import cli
from daydrive.data.prepare.prepare import prepare
from helpers.drives import write_drive
from helpers.paths import REPO
from helpers.refusals import Refuse, check_sentence, checkpoint_of, damage_images, listing, spoil


def test_missing_store(refuse: Refuse, tiny_config: Path, here: Path, road_store: Path) -> None:
    command = ("train", "--config", tiny_config)
    refuse(*command, message="no drives are given.*prepare_dataset.py.*--data-root")
    refuse(*command, "data.root=nowhere", message="there is no store at nowhere")
    refuse(*command, "--data-root", REPO / "configs", message="is not a prepared store")
    refuse(*command, "--data-root", tiny_config, message="is not a prepared store")
    refuse(*command, "--data-root", road_store, "--device", "cud", message="--device cud")
    refuse(*command, "--data-root", road_store, "--resume", message="no run .* has a checkpoint")


def test_invalid_run_folders(refuse: Refuse, tiny_config: Path, here: Path, road_store: Path, run: Path) -> None:
    (here / "file").write_text("in the way")
    command = ("train", "--config", tiny_config, "--data-root", road_store, "--run-dir")
    refuse(*command, "file", message="the run folder file is a file")
    refuse(*command, "file/run", message="the run folder file/run cannot be written")
    refuse(*command, run, message="already holds a training")
    refuse(*command, run, "--resume", "optimizer.lr=1e-3", "training.max_steps=2", message=r"optimizer\.lr was 0\.003")


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (spoil("model.safetensors", None), "model.safetensors: not a complete safetensors file"),
        (spoil("optimizer.safetensors", b"\x00" * 20), "optimizer.safetensors: not a complete safetensors file"),
        (spoil("state.json", "{"), "state.json:1: the checkpoint's state is not valid JSON"),
        (spoil("state.json", '{"format": 2, "step": 2}'), "state.json: not a training state"),
        (
            spoil("state.json", '{"format": 1, "step": 2}'),
            r"another version of daydrive \(format 1; this one reads 2 and 3\)",
        ),
        (spoil("state.json", '{"format": "x", "step": 2}'), "state.json: written by another version of daydrive"),
        (spoil("config.json", "[]"), "config.json: the checkpoint's config must be"),
        (spoil("../last", "../../elsewhere"), "which is not a checkpoint beside it"),
    ],
)
def test_resuming_from_a_damaged_checkpoint(
    harm: Callable[[Path], None], message: str, refuse: Refuse, run: Path, road_store: Path, tiny_config: Path
) -> None:
    harm(checkpoint_of(run))
    command = ("train", "--config", tiny_config, "--data-root", road_store, "--run-dir", run, "--resume")
    refuse(*command, "training.max_steps=2", message=message)


def test_damaged_images(
    store: Path, tmp_path: Path, tiny_config: Path, here: Path, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    damage_images(store, "train")
    before = listing(tmp_path)
    command = ["daydrive", "train", "--config", tiny_config, "--data-root", store, "--run-dir", "new/run"]
    monkeypatch.setattr(sys, "argv", [*map(str, command), "--device", "cpu"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    check_sentence(ended.value.code, capfd.readouterr().err, "damaged image: drive 'road_.*', frame")
    assert listing(tmp_path) == before


def test_empty_validation_split(refuse: Refuse, tmp_path: Path, tiny_config: Path) -> None:
    for k in range(2):
        write_drive(tmp_path / "raw" / "train" / f"d{k}", 16)
    lonely = prepare("folder", tmp_path / "raw", tmp_path / "store", (64, 64), workers=1)
    refuse("train", "--config", tiny_config, "--data-root", lonely, message="the split 'val' of .* has no drives")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ("optimizer.type=adamax", "'optimizer.type'.*'adamw'.*given: 'adamax'"),
        ("optimizer.momentum=1.5", "'optimizer.momentum'.*less than 1"),
        ("optimizer.betas=[0.9,1.0]", r"optimizer\.betas = \[0\.9, 1\.0\] must both lie in"),
        ("optimizer.betas=[0.9]", r"'optimizer\.betas\.1'"),
        ("optimizer.encoder_lr=-1", "'optimizer.encoder_lr'.*greater than 0"),
        ("scheduler.type=cosin", "'scheduler.type'.*'cosine'"),
        ("scheduler.min_lr=1", r"scheduler\.min_lr = 1 is above optimizer\.lr"),
        ("training.amp_dtype=fp8", "'training.amp_dtype'.*'bfloat16'"),
        ("training.ema_decay=1.0", "'training.ema_decay'.*less than 1"),
        ("training.strategy=fsd", "'training.strategy'.*'fsdp'"),
        ("training.backend=mpi", "'training.backend'.*'gloo'"),
        ("training.distributed=maybe", "'training.distributed'.*boolean"),
        ("training.compile=3", "'training.compile'.*boolean"),
        ("training.gradient_accumulation=0", "'training.gradient_accumulation'.*greater than 0"),
        ("training.max_grad_norm=0", "'training.max_grad_norm'.*greater than 0"),
        ("training.context_frames=1", "'training.context_frames'.*greater than or equal to 2"),
        ("training.unroll=[{start: 1.0, steps: 2}]", r"'training\.unroll\.0\.start'.*less than 1"),
        ("training.unroll=[{start: 0.0, steps: 20}]", "sequence_length = 6 is too short .* at least 24"),
        ("training.seed=-1", "'training.seed'"),
        ("data.augmentation.crop_scale=[0.9,0.5]", r"crop_scale = \[0\.9, 0\.5\] must be 0 < smallest <= largest <= 1"),
        ("data.augmentation.mirror=2", "'data.augmentation.mirror'.*less than or equal to 1"),
        ("data.augmentation.brightnes=0.1", "unknown key 'data.augmentation.brightnes'; did you mean .*brightness'"),
        ("data.balance.mode=weigh", "'data.balance.mode'.*'weight'"),
        ("data.balance.strength=2", "'data.balance.strength'.*less than or equal to 1"),
        ("data.curriculum.by=steerin", "no numeric column 'steerin'; did you mean 'steering'"),
        ("data.curriculum.phases=1", "'data.curriculum.phases'.*greater than or equal to 2"),
        ("data.curriculum.phases=5000", "5000"),
        ("data.num_workers=-1", "'data.num_workers'.*greater than or equal to 0"),
        ("data.frame_skip=0", "'data.frame_skip'"),
        ("logging.keep_checkpoints=0", "'logging.keep_checkpoints'.*greater than 0"),
        ("logging.histogram_interval=0", "'logging.histogram_interval'.*greater than 0"),
        ("logging.wandb_mode=offlin", "'logging.wandb_mode'.*'offline'"),
        ("alarms.min_device_use=2", "'alarms.min_device_use'.*less than or equal to 1"),
        ("alarms.patience=0", "'alarms.patience'.*greater than 0"),
        ("alarms.min_psnrr=20", "unknown key 'alarms.min_psnrr'; did you mean 'alarms.min_psnr'"),
        ("model.encoder.num_heads=3", r"num_heads = 3 does not divide"),
        ("model.decoder.stages=[]", "'model.decoder.stages'.*at least 1"),
        ("loss.pred_weight=-1", "'loss.pred_weight'.*greater than or equal to 0"),
    ],
)
def test_invalid_settings(overrides: str, message: str, refuse: Refuse, road_store: Path, tiny_config: Path) -> None:
    refuse("train", "--config", tiny_config, "--data-root", road_store, overrides, message=message)


def test_invalid_flags(
    refuse: Refuse, road_store: Path, tiny_config: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("train", "--config", tiny_config, "--data-root", road_store, "--device", "cpu")
    refuse(
        *command,
        "--use-wandb",
        "--wandb-mode",
        "sometimes",
        message="'logging.wandb_mode'.*'online', 'offline' or 'disabled'",
    )
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("HOME", str(here))
    monkeypatch.setenv("NETRC", str(here / "netrc"))
    refuse(*command, "--use-wandb", message="wandb login.*offline")
    monkeypatch.setenv("WORLD_SIZE", "2")
    refuse(*command, message="2 processes were started, but training.distributed is false")


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("find-lr --config tiny.yaml --data-root STORE --min-lr 1 --max-lr 0.1", "--min-lr"),
        ("find-lr --config tiny.yaml --data-root STORE --min-lr 0", "--min-lr"),
        ("find-lr --config tiny.yaml --data-root STORE --part wheel", "wheel"),
        ("find-lr --config tiny.yaml --data-root STORE --steps 1", "--steps"),
        ("replay nowhere", "nowhere"),
        ("score STORE --by motin", "did you mean 'motion'"),
        ("score STORE --by error", "--checkpoint"),
        ("score nowhere --by motion", "there is no store at nowhere"),
        ("show-batch --config tiny.yaml --data-root STORE --clips 0", "--clips"),
        ("show-batch --config tiny.yaml --data-root STORE --split tran", "did you mean 'train'"),
        ("find-nan nowhere", "there is no store at nowhere"),
        ("benchmark trainin --output b.json", "training"),
    ],
)
def test_invalid_options_of_training_tools(
    command: str, message: str, refuse: Refuse, road_store: Path, tiny_config: Path, here: Path
) -> None:
    shutil.copy(tiny_config, here / "tiny.yaml")
    arguments = [str(road_store) if word == "STORE" else word for word in command.split()]
    refuse(*arguments, message=message)


def without(*keys: str, **changes: object) -> Callable[[Path], None]:
    """Remove keys from the state of a checkpoint, and change others."""

    def apply(folder: Path) -> None:
        state = json.loads((folder / "state.json").read_text())
        left = {key: value for key, value in state.items() if key not in keys}
        (folder / "state.json").write_text(json.dumps({**left, **changes}))

    return apply


def other_moments(folder: Path) -> None:
    moments = load_file(folder / "optimizer.safetensors")
    cut = {name: value.flatten()[:1] if value.ndim else value for name, value in moments.items()}
    save_file(cut, folder / "optimizer.safetensors")


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (without("clips_per_step"), "state.json: not a training state .*clips_per_step"),
        (without("best"), "state.json: not a training state .*best"),
        (without(sample="many"), "state.json: not a training state"),
        (without(scaler=3), "state.json: not a training state"),
        (without(meter=[1]), "state.json: not a training state"),
        (without(alarms=7), "alarms"),
        (other_moments, "optimizer.safetensors: '.*' has moments of another model's shape"),
        (lambda folder: (folder / "optimizer.safetensors").unlink(), "has no optimizer.safetensors"),
        (lambda folder: shutil.rmtree(folder), "which is not a checkpoint beside it"),
    ],
)
def test_invalid_states(
    harm: Callable[[Path], None], message: str, refuse: Refuse, run: Path, road_store: Path, tiny_config: Path
) -> None:
    harm(checkpoint_of(run))
    command = ("train", "--config", tiny_config, "--data-root", road_store, "--run-dir", run, "--resume")
    refuse(*command, "training.max_steps=2", message=message)


def test_another_model_is_rejected_with_allow_change(
    refuse: Refuse, run: Path, road_store: Path, tiny_config: Path
) -> None:
    command = ("train", "--config", tiny_config, "--data-root", road_store, "--run-dir", run, "--resume")
    refuse(
        *command, "training.max_steps=2", "model.latent_dim=16", message=r"model\.latent_dim was 8 in .* and is 16 now"
    )
    refuse(
        *command, "training.max_steps=2", "model.latent_dim=16", "--allow-change", message="weights of another model"
    )
