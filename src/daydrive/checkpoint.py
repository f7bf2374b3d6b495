"""Checkpoints: folders of safetensors and JSON, format_version atomically and named by pointer files.

run/checkpoints/step-00000500/   model.safetensors  optimizer.safetensors  config.json  state.json
                                 trained.safetensors where model.safetensors is a moving average
                                 self_rollout.safetensors with training.self_rollout
                                 optimizer/ instead of its file where the optimizer state is sharded
run/checkpoints/last             the name of the newest folder; `best` likewise
"""

from __future__ import annotations

import functools
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from daydrive import tensors
from daydrive.config import Config, as_tree, parse_config
from daydrive.data.store.store import Store
from daydrive.errors import UserError
from daydrive.files import read_json, write_json, write_text
from daydrive.models import Predictor, WorldModel, build_world_model
from daydrive.types import ACTION_NAMES
from daydrive.weights import find_weights

FORMAT = 3
READABLE_FORMATS = (2, 3)
"""Formats that can be loaded; before `FORMAT`, weights have other names (`WorldModel.current_name`)."""

WEIGHTS, TRAINED, MOMENTS = "model.safetensors", "trained.safetensors", "optimizer.safetensors"
SELF_ROLLOUT = "self_rollout.safetensors"
SHARDED_MOMENTS = "optimizer"
POINTERS = ("last", "best")


class Best(NamedTuple):
    """The best validation so far; step 0 before the first."""

    step: int = 0
    psnr: float = 0.0


@dataclass(frozen=True)
class RolloutModel:
    """A model for rollouts, with its origin.

    model: in evaluation mode. config, step: its settings and its number of training steps, None for models that are
    not daydrive's. path: of the checkpoint. name: for reports.
    """

    model: Predictor
    config: Config | None
    step: int | None
    path: Path
    given_name: str | None = None

    @property
    def name(self) -> str:
        return self.given_name or f"{self.path.parent.parent.name}/{self.path.name}"

    @property
    def context_frames(self) -> int:
        return self.model.context_frames

    @property
    def frame_skip(self) -> int:
        """Frames of the store per frame of the model."""
        return 1 if self.config is None else self.config.data.frame_skip

    @property
    def image_size(self) -> tuple[int, int] | None:
        """Height and width of the model's images; None where unknown."""
        return None if self.config is None else self.config.model.image_size


class Contents(NamedTuple):
    """The tensors of a checkpoint, sharded (DTensor) or not.

    weights: those to predict with. trained: those being trained, where `weights` are their moving average. moments:
    the state of the optimizers. self_rollout: rollouts under way and the critic, in trainings that have them.
    """

    weights: dict[str, Tensor]
    trained: dict[str, Tensor] | None
    moments: dict[str, Tensor]
    self_rollout: dict[str, Tensor] | None = None


class Writer(NamedTuple):
    """Coordinates the processes that save together: rank 0 is `main`; `wait` is a barrier."""

    main: bool = True
    wait: Callable[[], None] = lambda: None


def save(
    run: Path, step: int, contents: Contents, config: Config, state: dict[str, Any], keep: int, writer: Writer
) -> Path:
    """Write the checkpoint of `step`, let `last` point to it, and keep the newest `keep` checkpoints and the best.

    state: what the training loop needs to resume, as plain JSON; written last, so a folder that has it is complete.
    Sharded optimizer state is written by all processes, each its shards (torch.distributed.checkpoint).
    """
    folder = run / "checkpoints" / f"step-{step:08d}"
    temporary = folder.with_name(f".{folder.name}.tmp")
    if folder.exists():
        writer.wait()
    else:
        if writer.main:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
        try:
            writer.wait()
            sharded = tensors.is_sharded(contents.moments.values())
            files = {WEIGHTS: contents.weights, TRAINED: contents.trained, SELF_ROLLOUT: contents.self_rollout}
            files |= {} if sharded else {MOMENTS: contents.moments}
            for name, named in files.items():
                full = None if named is None else tensors.gather(named)
                if writer.main and full is not None:
                    tensors.write(full, temporary / name)
            if sharded:
                tensors.write_sharded(contents.moments, temporary / SHARDED_MOMENTS)
            writer.wait()
            if writer.main:
                write_json(temporary / "config.json", as_tree(config))
                write_json(temporary / "state.json", {"format": FORMAT, "step": step, **state})
                _sync_to_disk(temporary)
                os.replace(temporary, folder)
        except OSError as error:
            shutil.rmtree(temporary, ignore_errors=True)
            raise UserError(
                f"the checkpoint of step {step} could not be written to {folder.parent} "
                f"({error.strerror or error}); earlier checkpoints are complete: --resume continues from the last one"
            ) from None
    if writer.main:
        set_pointer(run, "last", folder, keep)
    return folder


def _sync_to_disk(folder: Path) -> None:
    for file in folder.rglob("*"):
        if file.is_file():
            with file.open("rb") as handle:
                os.fsync(handle.fileno())


def set_pointer(run: Path, pointer: str, folder: Path, keep: int) -> None:
    """Let `last` or `best` name `folder`, then remove all checkpoints but those that are named and the newest
    `keep`."""
    checkpoints = run / "checkpoints"
    write_text(checkpoints / pointer, folder.name + "\n")
    named = {(checkpoints / p).read_text().strip() for p in POINTERS if (checkpoints / p).is_file()}
    for old in sorted(checkpoints.glob("step-*"))[:-keep]:
        if old.name not in named:
            shutil.rmtree(old, ignore_errors=True)


def remove_leftovers(run: Path) -> None:
    """Remove incomplete checkpoints of killed processes."""
    for leftover in (run / "checkpoints").glob(".*.tmp"):
        shutil.rmtree(leftover, ignore_errors=True) if leftover.is_dir() else leftover.unlink(missing_ok=True)


def find(path: Path, pointer: str = "best") -> Path:
    """The checkpoint folder of a run folder (the one that `pointer` names), a checkpoint folder, or a file in it."""
    if path.is_file() and path.suffix == ".safetensors":
        path = path.parent
    if (path / WEIGHTS).is_file():
        return path
    checkpoints = path if path.name == "checkpoints" else path / "checkpoints"
    for name in (pointer, *POINTERS):
        if (checkpoints / name).is_file():
            return _named_by(checkpoints / name)
    if not path.exists():
        raise UserError(f"there is no checkpoint {path}; give a run folder, a checkpoint folder or a model.safetensors")
    raise UserError(f"{path} is not a checkpoint; give a run folder with 'checkpoints/last' or a model.safetensors")


def _named_by(pointer: Path) -> Path:
    name = pointer.read_text(encoding="utf-8", errors="replace").strip()
    if not name or Path(name).name != name or not (pointer.parent / name).is_dir():
        raise UserError(f"{pointer} names '{name[:40]}', which is not a checkpoint beside it")
    return pointer.parent / name


def load(path: Path, device: torch.device | str = "cpu") -> RolloutModel:
    """The model of a checkpoint in evaluation mode; of a run folder, the best one; where the path does not exist, the
    weights of the package with this name. Raises UserError with the invalid file."""
    path = Path(path)
    folder = (None if path.exists() else find_weights(str(path))) or find(path)
    config = read_config(folder)
    model = build_world_model(config)
    load_weights(model, folder)
    broken = next((name for name, value in model.state_dict().items() if not value.isfinite().all()), None)
    if broken is not None:
        raise UserError(f"{folder / WEIGHTS}: '{broken}' has values that are not finite; use an earlier checkpoint")
    step = read_state(folder)["step"]
    return RolloutModel(model.to(device).eval(), config, step, folder)


def check_fit(loaded: RolloutModel, store: Store) -> None:
    """Raises UserError if the model expects other images or actions than the store's."""
    size = loaded.image_size
    actions = len(ACTION_NAMES) if loaded.config is None else loaded.config.model.action_dim
    if size is not None and tuple(size) != store.image_size:
        raise UserError(
            f"the model {loaded.path} expects images of {size[0]}x{size[1]} and the store {store.path} has "
            f"{store.image_size[0]}x{store.image_size[1]}; prepare the store with --image-size {size[0]} {size[1]}"
        )
    if actions != len(ACTION_NAMES):
        raise UserError(
            f"the model {loaded.path} expects actions of {actions} numbers and the store {store.path} has "
            f"{len(ACTION_NAMES)} ({', '.join(ACTION_NAMES)})"
        )


def read_config(folder: Path) -> Config:
    file = folder / "config.json"
    tree = read_json(file, "checkpoint's config")
    if not isinstance(tree, dict):
        raise UserError(f"{file}: the checkpoint's config must be an object with sections")
    return parse_config(tree, source=str(file))


def read_state(folder: Path) -> dict[str, Any]:
    file = folder / "state.json"
    state = read_json(file, "checkpoint's state")
    if not isinstance(state, dict) or not isinstance(state.get("step"), int):
        raise UserError(f"{file}: the checkpoint's state has no integer 'step'")
    if state.get("format") not in READABLE_FORMATS:
        given, known = state.get("format"), " and ".join(map(str, READABLE_FORMATS))
        raise UserError(f"{file}: written by another version of daydrive (format {given}; this one reads {known})")
    return state


def read_weights(
    model: WorldModel, folder: Path, name: str = WEIGHTS, format_version: int | None = None
) -> dict[str, Tensor]:
    """Weights by the current names of `model`. format_version: the file's format; default: the one in the checkpoint's
    state."""
    saved = tensors.read(folder / name)
    format_version = read_state(folder)["format"] if format_version is None else format_version
    return {model.current_name(key, format_version): value for key, value in saved.items()}


def load_weights(model: WorldModel, folder: Path, name: str = WEIGHTS, format_version: int | None = None) -> None:
    """Load weights into `model`, see `read_weights`. Raises UserError where names or shapes do not match."""
    tensors.fill(model.state_dict(), read_weights(model, folder, name, format_version), folder / name)


def read_self_rollout(folder: Path) -> dict[str, Tensor]:
    """What `Contents.self_rollout` was; empty where the checkpoint has none."""
    return tensors.read(folder / SELF_ROLLOUT) if (folder / SELF_ROLLOUT).is_file() else {}


def load_moments(optimizers: Sequence[torch.optim.Optimizer], model: WorldModel, folder: Path) -> None:
    """Restore optimizer state and step counts."""
    format_version = read_state(folder)["format"]
    rename = functools.partial(model.current_name, format=format_version)
    tensors.fill_moments(optimizers, model, folder / MOMENTS, folder / SHARDED_MOMENTS, rename)
