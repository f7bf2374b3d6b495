"""Configs by path and by name, listed and copied, in a folder that is not a clone."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import yaml

from daydrive import cli
from daydrive.config import Config, as_tree, load_config
from daydrive.config.files import FOLDER, config_names, describe, find_config
from daydrive.errors import UserError
from helpers.paths import REPO
from helpers.refusals import Refuse


def run(patch: pytest.MonkeyPatch, *words: str) -> None:
    patch.setattr(sys, "argv", ["daydrive", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("demo", "training/demo.yaml"),
        ("base", "training/base.yaml"),
        ("training/base", "training/base.yaml"),
        ("model/base", "model/base.yaml"),
        ("recipes/quick_prototype", "training/recipes/quick_prototype.yaml"),
        ("configs/training/base.yaml", "training/base.yaml"),
        ("configs/data/nuscenes.yaml", "data/nuscenes.yaml"),
    ],
)
def test_names_refer_to_packaged_configs(name: str, file: str, here: Path) -> None:
    assert find_config(name) == FOLDER / file


def test_paths_refer_to_files(here: Path) -> None:
    (here / "configs/training").mkdir(parents=True)
    for path in ("configs/training/demo.yaml", "demo"):
        (here / path).write_text("optimizer: {lr: 5e-4}\n")
        assert find_config(path) == Path(path)
        assert load_config(path).optimizer.lr == 5e-4


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("dmeo", "did you mean 'demo'"),
        ("quick_prototype", "did you mean 'recipes/quick_prototype'"),
        ("configs/training/bse.yaml", "did you mean 'training/base'"),
        ("demo.yaml", "there is no config file demo.yaml"),
        ("nothing-like-it", "; `daydrive configs` lists daydrive's own"),
        ("../demo", "there is no config file ../demo"),
    ],
)
def test_unknown_name_suggests_the_nearest(name: str, nearest: str, here: Path) -> None:
    with pytest.raises(UserError, match=r"there is no config file") as caught:
        find_config(name)
    assert nearest in str(caught.value) and "\n" not in str(caught.value)


def test_extends_by_path_and_by_name(here: Path) -> None:
    (here / "own.yaml").write_text("extends: [demo, configs/data/road.yaml]\noptimizer: {lr: 5e-4}\n")
    (here / "second.yaml").write_text("extends: own.yaml\n")
    loaded, demo = load_config("second.yaml"), load_config("demo")
    assert loaded.model == demo.model and loaded.optimizer.lr == 5e-4 and loaded.optimizer.betas == demo.optimizer.betas
    assert loaded.data.root == Path("data/processed/road")
    (here / "wrong.yaml").write_text("extends: dmeo\n")
    with pytest.raises(UserError, match=r"wrong\.yaml: 'extends' names dmeo.*did you mean 'demo'"):
        load_config("wrong.yaml")


def test_every_config_loads_and_is_listed(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(monkeypatch, "configs")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == config_names()
    for name, line in zip(config_names(), lines, strict=True):
        assert len(describe(name)) > 10 and line.endswith(describe(name))
        if not name.startswith("sweeps/"):
            assert isinstance(load_config(name), Config)
    assert {f"training/{name}" for name in ("base", "demo", "distributed")} <= set(config_names())


@pytest.mark.parametrize("name", [name for name in config_names() if not name.startswith("sweeps/")])
def test_copied_config_is_equivalent(
    name: str, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(monkeypatch, "configs", "copy", name, "own/first.yaml")
    assert capsys.readouterr().out.strip() == "own/first.yaml"
    assert as_tree(load_config("own/first.yaml")) == as_tree(load_config(name))


def test_destination_of_a_copy(here: Path, monkeypatch: pytest.MonkeyPatch, refuse: Refuse) -> None:
    run(monkeypatch, "configs", "copy", "demo")
    run(monkeypatch, "configs", "copy", "base", "folder")
    run(monkeypatch, "configs", "copy", "sweeps/learning_rates")
    assert sorted(str(file.relative_to(here)) for file in here.rglob("*.yaml")) == [
        "demo.yaml", "folder/base.yaml", "learning_rates.yaml",
    ]  # fmt: skip
    refuse("configs", "copy", "demo", message="demo.yaml already exists")
    refuse("configs", "copy", "dmeo", message="did you mean 'demo'")


def test_configs_folder_of_a_clone_is_that_of_the_package() -> None:
    assert (REPO / "configs").is_symlink() and (REPO / "configs").resolve() == FOLDER.resolve()
    tree = yaml.safe_load((REPO / "configs/training/base.yaml").read_text())
    assert tree["training"]["num_epochs"] == 100
