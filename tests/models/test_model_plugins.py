"""Architectures of other packages: found without being imported; errors name the package."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from daydrive.config import parse_config
from daydrive.errors import UserError
from daydrive.models import build_world_model
from daydrive.models.registry import architecture, names

MODEL = """
from typing import Literal
from daydrive.config import ModelConfig
from daydrive.models import WorldModel

class Settings(ModelConfig):
    type: Literal["still"] = "still"
    width: int = 3

class Still(WorldModel):
    config_class = Settings
    def init_state(self, images, actions, generator=None):
        return images[:, -1]
    def step(self, state, action, generator=None):
        return state, state
    def reconstruct(self, images, actions, frames):
        return images[:, list(frames)]
"""


def package(root: Path, code: str, name: str = "still-model", entry: str = "still = still_model:Still") -> None:
    """Files as installed by pip: a module, and the metadata of its package."""
    (root / "still_model.py").write_text(code)
    info = root / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[daydrive.models]\n{entry}\n")


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "installed"
    root.mkdir()
    monkeypatch.syspath_prepend(root)
    monkeypatch.delitem(sys.modules, "still_model", raising=False)
    return root


def test_plugin_is_found_and_its_settings_are_validated(installed: Path) -> None:
    package(installed, MODEL)
    assert names()[-1] == "still" and "still_model" not in sys.modules, "found, and not imported"
    config = parse_config({"model": {"type": "still", "width": 4, "image_size": [8, 8]}})
    assert config.model.width == 4 and type(build_world_model(config)).__name__ == "Still"  # type: ignore[attr-defined]
    with pytest.raises(UserError, match=r"unknown key 'model\.widht'; did you mean 'model\.width'"):
        parse_config({"model": {"type": "still", "widht": 4}})


FAULTS = {
    "it can't be imported": ("from typing", "import nowhere\nfrom typing", r"failed \(ModuleNotFoundError"),
    "there is no such class": ("class Still(", "class Other(", r"failed \(AttributeError"),
    "it has no settings": ("    config_class = Settings\n", "", "its 'config_class' is not a subclass of"),
    "its settings are none": (
        "class Settings(ModelConfig)",
        "class Settings",
        "its 'config_class' is not a subclass of",
    ),
}


@pytest.mark.parametrize(("old", "new", "message"), FAULTS.values(), ids=list(FAULTS))
def test_errors_name_the_package(installed: Path, old: str, new: str, message: str) -> None:
    assert old in MODEL
    package(installed, MODEL.replace(old, new))
    with pytest.raises(UserError, match=rf"the model architecture 'still' of the package 'still-model' .*{message}"):
        parse_config({"model": {"type": "still"}})
    assert parse_config({}).model.type == "texture", "it spoils nothing else"


def test_invalid_models_are_rejected(installed: Path) -> None:
    package(installed, MODEL.replace("class Still(WorldModel)", "class Still"))
    with pytest.raises(UserError, match=r"'still-model' is invalid: .* is not a subclass of .*\.WorldModel"):
        architecture("still")


def test_reserved_names_are_rejected(installed: Path) -> None:
    package(installed, MODEL, entry="rssm = still_model:Still")
    with pytest.raises(
        UserError, match="registers a model architecture 'rssm', which is the name of one of daydrive's own"
    ):
        parse_config({"model": {"type": "rssm"}})


def test_duplicate_names_are_rejected(installed: Path) -> None:
    package(installed, MODEL)
    package(installed, MODEL, name="other-model", entry="still = other_model:Still")
    with pytest.raises(UserError, match=r"'(still|other)-model' and '(still|other)-model' both register"):
        parse_config({"model": {"type": "still"}})
