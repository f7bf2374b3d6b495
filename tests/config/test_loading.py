"""Settings: the values of the guide, `extends`, overrides, and one sentence for each error."""

from pathlib import Path

import pytest
import yaml

from daydrive.config import Config, as_tree, load_config, parse_config
from daydrive.errors import UserError
from helpers.paths import REPO

CONFIGS = sorted(file for file in (REPO / "configs").rglob("*.yaml") if file.parent.name != "sweeps")

GUIDE_TRAINING = {
    "training": {
        "batch_size": 16, "num_epochs": 100, "use_amp": True, "gradient_accumulation": 4, "max_grad_norm": 1.0,
    },
    "optimizer": {
        "type": "adamw", "lr": 1e-4, "encoder_lr": 1e-5, "dynamics_lr": 1e-4, "decoder_lr": 1e-4,
        "weight_decay": 0.01, "betas": [0.9, 0.999],
    },
    "scheduler": {"type": "cosine", "warmup_steps": 1000, "min_lr": 1e-6},
    "loss": {
        "recon_weight": 1.0, "pred_weight": 1.0, "perceptual_weight": 0.1, "latent_reg_weight": 0.01,
        "temporal_weight": 0.1,
    },
    "data": {"num_workers": 4, "pin_memory": True, "sequence_length": 10, "frame_skip": 1},
    "logging": {"log_interval": 100, "eval_interval": 1000, "save_interval": 5000, "num_samples": 8},
}  # fmt: skip

GUIDE_MODEL = {
    "model": {
        "latent_dim": 256,
        "action_dim": 4,
        "hidden_dim": 512,
        "encoder": {"stages": [64, 128, 256, 512], "num_heads": 4},
        "dynamics": {"num_layers": 4, "dropout": 0.1},
        "decoder": {"stages": [512, 256, 128, 64], "init_size": 16},
    }
}


def test_base_config_has_the_values_of_the_guide() -> None:
    tree = as_tree(load_config(REPO / "configs/training/base.yaml"))
    for section, keys in GUIDE_TRAINING.items():
        for key, value in keys.items():
            assert tree[section][key] == value, f"{section}.{key}"


def test_model_config_has_exactly_the_keys_of_the_guide() -> None:
    assert yaml.safe_load((REPO / "configs/model/base.yaml").read_text()) == GUIDE_MODEL


@pytest.mark.parametrize("file", CONFIGS, ids=lambda f: f.stem)
def test_every_config_loads(file: Path) -> None:
    load_config(file)


def test_resolved_config_round_trip() -> None:
    config = load_config(REPO / "configs/training/demo.yaml", ["optimizer.lr=1e-3"])
    assert parse_config(yaml.safe_load(yaml.safe_dump(as_tree(config)))) == config


def test_precedence_of_extends_and_overrides(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("optimizer: {lr: 1e-2, weight_decay: 0.5}\ntraining: {batch_size: 3}\n")
    (tmp_path / "b.yaml").write_text("extends: a.yaml\noptimizer: {lr: 1e-3}\n")
    config = load_config(tmp_path / "b.yaml", ["training.batch_size=5", "optimizer.betas=[0.8, 0.9]"])
    assert (config.optimizer.lr, config.optimizer.weight_decay) == (1e-3, 0.5)
    assert (config.training.batch_size, config.optimizer.betas) == (5, (0.8, 0.9))


def test_exponents_without_decimal_point_are_numbers(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("scheduler: {min_lr: 1e-7}\n")
    assert load_config(tmp_path / "a.yaml").scheduler.min_lr == 1e-7


MISTAKES = [
    ("optimizer:\n  lrr: 1e-4\n", r"a\.yaml:2: unknown key 'optimizer.lrr'; did you mean 'optimizer.lr'\?"),
    ("optimizr:\n  lr: 1\n", r"a\.yaml:1: unknown key 'optimizr'; did you mean 'optimizer'\?"),
    ("optimizer:\n  lr: fast\n", r"a\.yaml:2: 'optimizer.lr'.*number.*'fast'"),
    ("training:\n\n  batch_size: 0\n", r"a\.yaml:3: 'training.batch_size'.*greater than 0"),
    ("training: {batch_size: 2.5}\n", r"'training.batch_size'.*integer"),
    ("loss: {recon_weight: .nan}\n", r"'loss.recon_weight'.*finite"),
    ("optimizer: 3\n", r"a\.yaml:1: 'optimizer'.*section"),
    ("optimizer: {betas: [0.9, 1.5]}\n", r"optimizer.betas.*\[0, 1\)"),
    ("optimizer: {type: adamx}\n", r"'optimizer.type'.*'adamw'"),
    ("training:\n  unroll: [{start: 0, stps: 2}]\n", r"unknown key 'training.unroll.0.stps'; did you mean"),
    ("model: {encoder: {stages: [64, wide]}}\n", r"'model.encoder.stages.1'.*integer"),
    ("model: {encoder: {stages: [64, 66], num_heads: 4}}\n", r"num_heads = 4 does not divide the stage of 66"),
    ("data: {sequence_length: 4}\n", r"sequence_length = 4 is too short.*at least 5"),
    ("scheduler: {min_lr: 1.0}\n", r"min_lr = 1 is above optimizer.lr"),
    ("extends: a.yaml\n", r"circular: a\.yaml → a\.yaml"),
    ("extends: nowhere.yaml\n", r"'extends' names nowhere\.yaml"),
    ("extends: {a: 1}\n", r"'extends' must be a file, the name of a config"),
    ("training: [1\n", r"a\.yaml:\d: not valid YAML"),
    ("- 1\n", r"a\.yaml:1: a config holds sections"),
    ("data: {}\ndata: {}\n", r"a\.yaml:2: 'data' is set twice"),
]


@pytest.mark.parametrize(("text", "sentence"), MISTAKES, ids=range(len(MISTAKES)))
def test_errors_name_file_and_line(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(UserError, match=sentence) as caught:
        load_config(tmp_path / "a.yaml")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("optimizer.lrr=1", "unknown key 'optimizer.lrr'"),
        ("lr", "must look like section.key=value"),
        ("optimizer.lr=[", "not a YAML value"),
        ("data.num_workers=-1", "greater than or equal to 0"),
        ("trainin.batch_size=4", "unknown key 'trainin'; did you mean 'training'"),
        ("training.batch_size.x=3", "'training.batch_size': input should be a valid integer"),
        ("data.image_size.0=5", "'data.image_size': input should be a valid tuple"),
        ("logging.wandb.project=a", "unknown key 'logging.wandb'"),
        ("optimizer.betas=[2, 3]", r"optimizer.betas = \[2.0, 3.0\] must both lie"),
    ],
)
def test_errors_name_the_invalid_override(override: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence) as caught:
        load_config(REPO / "configs/training/base.yaml", [override])
    assert str(caught.value).startswith(f"override '{override}'") or str(caught.value).startswith(
        f"override {override}:"
    )
    assert ".yaml" not in str(caught.value)


def test_another_architecture_by_an_override_needs_its_own_config() -> None:
    with pytest.raises(
        UserError, match=r"unknown key 'model\.\w+'; override model.type=rssm chose an architecture without"
    ):
        load_config(REPO / "configs/training/base.yaml", ["model.type=rssm"])


def test_missing_file_suggests_the_nearest_name() -> None:
    with pytest.raises(UserError, match=r"did you mean 'base\.yaml'"):
        load_config(REPO / "configs/training/bse.yaml")


def test_circular_extends(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("extends: b.yaml\n")
    (tmp_path / "b.yaml").write_text("extends: a.yaml\n")
    with pytest.raises(UserError, match="circular"):
        load_config(tmp_path / "a.yaml")


def test_defaults_are_valid() -> None:
    assert Config() == parse_config({})
