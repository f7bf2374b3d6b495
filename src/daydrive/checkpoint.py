"""Checkpoints: folders of safetensors and JSON, written whole, found by a pointer file that is swapped in one move.

run/checkpoints/step-00000500/   model.safetensors  optimizer.safetensors  config.json  state.json
run/checkpoints/last             the name of the newest folder; `best` likewise
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from daydrive.config import Config, as_tree, parse_config
from daydrive.errors import UserError
from daydrive.files import read_json, replacing, write_json, write_text
from daydrive.models import WorldModel, build_world_model

FORMAT = 1
POINTERS = ("last", "best")


class Best(NamedTuple):
    """The best validation so far; step 0 where there was none."""

    step: int = 0
    psnr: float = 0.0


@dataclass(frozen=True)
class LoadedModel:
    """A world model in evaluation mode, with the settings it was trained under."""

    model: WorldModel
    config: Config
    step: int
    path: Path

    @property
    def name(self) -> str:
        return f"{self.path.parent.parent.name}/{self.path.name}"


def save(
    run: Path,
    step: int,
    model: WorldModel,
    config: Config,
    optimizers: Sequence[torch.optim.Optimizer],
    state: dict[str, Any],
) -> Path:
    """Write the checkpoint of `step` and let `last` point to it. `state`: what the loop needs to go on, plain JSON."""
    folder = run / "checkpoints" / f"step-{step:08d}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    if not folder.exists():
        with replacing(folder) as temporary:
            temporary.mkdir()
            save_file(_plain(model.state_dict()), temporary / "model.safetensors")
            save_file(_optimizer_tensors(optimizers, model), temporary / "optimizer.safetensors")
            write_json(temporary / "config.json", as_tree(config))
            write_json(temporary / "state.json", {"format": FORMAT, "step": step, **state})
            for file in temporary.iterdir():
                with file.open("rb") as handle:
                    os.fsync(handle.fileno())
    point(run, "last", folder)
    return folder


def point(run: Path, pointer: str, folder: Path) -> None:
    """Let `last` or `best` name `folder`, then remove the folders that no pointer names."""
    checkpoints = run / "checkpoints"
    write_text(checkpoints / pointer, folder.name + "\n")
    named = {(checkpoints / p).read_text().strip() for p in POINTERS if (checkpoints / p).is_file()}
    for old in checkpoints.glob("step-*"):
        if old.name not in named:
            shutil.rmtree(old, ignore_errors=True)


def remove_leftovers(run: Path) -> None:
    """Remove what a killed process had half-written."""
    for left in (run / "checkpoints").glob(".*.tmp"):
        shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)


def find(path: Path, pointer: str = "best") -> Path:
    """The checkpoint folder meant by a run folder, a checkpoint folder, or a file in it."""
    if path.is_file() and path.suffix == ".safetensors":
        path = path.parent
    if (path / "model.safetensors").is_file():
        return path
    checkpoints = path if path.name == "checkpoints" else path / "checkpoints"
    for name in (pointer, *POINTERS):
        if (checkpoints / name).is_file():
            return _named_by(checkpoints / name)
    if not path.exists():
        raise UserError(f"there is no checkpoint {path}; give a run folder, a checkpoint folder or a model.safetensors")
    raise UserError(
        f"{path} is no checkpoint: a run folder with 'checkpoints/last', or a model.safetensors, is expected"
    )


def _named_by(pointer: Path) -> Path:
    name = pointer.read_text(encoding="utf-8", errors="replace").strip()
    if not name or Path(name).name != name or not (pointer.parent / name).is_dir():
        raise UserError(f"{pointer} names no checkpoint beside it, but '{name[:40]}'")
    return pointer.parent / name


def load(path: Path, device: torch.device | str = "cpu") -> LoadedModel:
    """The model of a checkpoint, ready to dream: the best of a run folder. Raises UserError with the file at fault."""
    folder = find(Path(path))
    config = read_config(folder)
    model = build_world_model(config)
    load_weights(model, folder)
    step = read_state(folder)["step"]
    return LoadedModel(model.to(device).eval(), config, step, folder)


def read_config(folder: Path) -> Config:
    file = folder / "config.json"
    tree = read_json(file, "checkpoint's config")
    if not isinstance(tree, dict):
        raise UserError(f"{file}: the checkpoint's config must be a table of sections")
    return parse_config(tree, source=str(file))


def read_state(folder: Path) -> dict[str, Any]:
    file = folder / "state.json"
    state = read_json(file, "checkpoint's state")
    if not isinstance(state, dict) or not isinstance(state.get("step"), int):
        raise UserError(f"{file}: no whole number 'step' in the checkpoint's state")
    if state.get("format") != FORMAT:
        raise UserError(f"{file}: written by another daydrive (format {state.get('format')}, this one reads {FORMAT})")
    return state


def load_weights(model: WorldModel, folder: Path) -> None:
    """Fill `model`; raises UserError where names or shapes are another model's."""
    file = folder / "model.safetensors"
    saved = _read_tensors(file)
    expected = model.state_dict()
    missing = sorted(expected.keys() - saved.keys())
    foreign = sorted(saved.keys() - expected.keys())
    wrong = [name for name in expected.keys() & saved.keys() if expected[name].shape != saved[name].shape]
    if missing or foreign or wrong:
        name = min(wrong) if wrong else (missing or foreign)[0]
        told = (
            f"'{name}' has shape {tuple(saved[name].shape)}, the config's model {tuple(expected[name].shape)}"
            if wrong
            else f"'{name}' is {'missing' if missing else 'not in the configured model'}"
        )
        raise UserError(f"{file}: weights of another model: {told}")
    model.load_state_dict(saved)


def load_optimizers(optimizers: Sequence[torch.optim.Optimizer], model: WorldModel, folder: Path) -> None:
    """Bring moments and step counts back to where `save` left them."""
    file = folder / "optimizer.safetensors"
    saved = _read_tensors(file)
    names = {parameter: name for name, parameter in model.named_parameters()}
    for optimizer in optimizers:
        for parameter in (p for group in optimizer.param_groups for p in group["params"]):
            prefix = f"{names[parameter]}:"
            state = {key.removeprefix(prefix): value for key, value in saved.items() if key.startswith(prefix)}
            for key, value in state.items():
                if key == "step":
                    continue
                if value.shape != parameter.shape:
                    raise UserError(f"{file}: '{names[parameter]}' has moments of another model's shape")
                state[key] = torch.empty_like(parameter, requires_grad=False).copy_(value)
            optimizer.state[parameter] = state


def _optimizer_tensors(optimizers: Sequence[torch.optim.Optimizer], model: WorldModel) -> dict[str, torch.Tensor]:
    names: dict[torch.Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
    return _plain(
        {
            f"{names[parameter]}:{key}": value
            for optimizer in optimizers
            for parameter, state in optimizer.state.items()
            for key, value in state.items()
        }
    )


def _plain(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Contiguous copies on the CPU: safetensors stores no strides."""
    return {name: value.detach().cpu().contiguous() for name, value in tensors.items()}


def _read_tensors(file: Path) -> dict[str, torch.Tensor]:
    if not file.is_file():
        raise UserError(f"the checkpoint {file.parent} holds no {file.name}")
    try:
        tensors: dict[str, torch.Tensor] = load_file(file)
    except (SafetensorError, OSError, ValueError, json.JSONDecodeError) as error:
        raise UserError(f"{file}: not a whole safetensors file: {error}") from None
    return tensors
