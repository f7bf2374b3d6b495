"""Every key of every YAML file has its documented effect: there is a probe for each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from daydrive.config import Config, as_tree, load_config
from helpers.data_probes import PROBES as DATA
from helpers.keys_of_the_architectures import PROBES as ARCHITECTURES
from helpers.model_probes import PROBES as MODEL
from helpers.paths import REPO
from helpers.probes import own_settings, settings
from helpers.self_rollout_probes import PROBES as SELF_ROLLOUT
from helpers.tiny_training import TINY_TRAINING
from helpers.training_probes import PROBES as TRAINING

PROBES = {**MODEL, **TRAINING, **SELF_ROLLOUT, **DATA}
EVERY = {**{("texture", key): probe for key, probe in PROBES.items()}, **ARCHITECTURES}
"""By architecture and key."""

CONFIGS = sorted(file for file in (REPO / "configs").rglob("*.yaml") if file.parent.name != "sweeps")


def leaves(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{name}.")
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            for one in value:
                yield from leaves(one, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def test_every_setting_has_a_probe() -> None:
    assert {key for key, _ in settings()} == PROBES.keys()
    for architecture in ("rssm", "diffusion"):
        keys = {key for key, _ in own_settings(architecture)} - {"model.type"}
        assert keys == {key for of, key in ARCHITECTURES if of == architecture}


@pytest.mark.parametrize(("architecture", "key"), EVERY)
def test_key_has_its_documented_effect(
    architecture: str, key: str, road_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "tiny.yaml"
    given = {**TINY_TRAINING, "data": {**TINY_TRAINING["data"], "root": str(road_store)}}
    if architecture != "texture":
        given["model"] = {"type": architecture, "image_size": [64, 64]}
    file.write_text(yaml.safe_dump(given))
    monkeypatch.chdir(tmp_path)

    def load(overrides: Sequence[str]) -> Config:
        return load_config(file, overrides)

    EVERY[architecture, key].check(key, load)


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: str(file.relative_to(REPO / "configs")))
def test_every_key_of_a_config_file_is_probed_and_applied(file: Path) -> None:
    written = dict(leaves({k: v for k, v in yaml.safe_load(file.read_text()).items() if k != "extends"}))
    config = load_config(file)
    own = {key for of, key in ARCHITECTURES if of == config.model.type}
    assert written and written.keys() <= PROBES.keys() | own
    arrived = dict(leaves(as_tree(config)))
    for key, value in written.items():
        assert arrived[key] == (float(value) if isinstance(arrived[key], float) else value), key


def test_keys_of_sweeps_are_probed() -> None:
    """The other keys of a sweep belong to W&B and are tested with it."""
    for file in (REPO / "configs/sweeps").glob("*.yaml"):
        assert yaml.safe_load(file.read_text())["parameters"].keys() <= PROBES.keys()
