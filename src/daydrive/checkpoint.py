"""Checkpoints: folders of safetensors and JSON, written whole, found by a pointer file that is swapped in one move.

run/checkpoints/step-00000500/   model.safetensors  optimizer.safetensors  config.json  state.json
                                 trained.safetensors where model.safetensors is a moving average
                                 optimizer/ in place of its file where several processes hold a part each
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
from daydrive.errors import UserError
from daydrive.files import read_json, write_json, write_text
from daydrive.models import Predictor, WorldModel, build_world_model

FORMAT = 3
READABLE = (2, 3)
"""Formats that can be loaded; in those before `FORMAT` weights have other names (`WorldModel.current_name`)."""

WEIGHTS, TRAINED, MOMENTS = "model.safetensors", "trained.safetensors", "optimizer.safetensors"
SHARED_MOMENTS = "optimizer"
POINTERS = ("last", "best")


class Best(NamedTuple):
    """The best validation so far; step 0 where there was none."""

    step: int = 0
    psnr: float = 0.0


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to be rolled out.

    model: in evaluation mode. config, step: the settings it was trained under and for how long, None where it is not
    daydrive's. path: of the checkpoint. name: for reports.
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
        """Frames of a store from one that the model sees to the next."""
        return 1 if self.config is None else self.config.data.frame_skip

    @property
    def image_size(self) -> tuple[int, int] | None:
        """Height and width that the model was made for; None where it doesn't say."""
        return None if self.config is None else self.config.model.image_size


class Contents(NamedTuple):
    """weights: what dreams; trained: those being trained, where `weights` are an average of them; moments: of the
    optimizers. Shared out over processes (DTensor) or not."""

    weights: dict[str, Tensor]
    trained: dict[str, Tensor] | None
    moments: dict[str, Tensor]


class Writer(NamedTuple):
    """How several processes save together: one of them is `main`; `wait` returns when all have called it."""

    main: bool = True
    wait: Callable[[], None] = lambda: None


def save(
    run: Path, step: int, contents: Contents, config: Config, state: dict[str, Any], keep: int, writer: Writer
) -> Path:
    """Write the checkpoint of `step`, let `last` point to it, and keep the newest `keep` and the best.

    state: what the loop needs to go on, plain JSON; it is written last, so that a folder that has it is whole.
    Moments that are shared out are written by every process, each its part (torch.distributed.checkpoint).
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
            shared = tensors.is_shared(contents.moments.values())
            files = {WEIGHTS: contents.weights, TRAINED: contents.trained}
            files |= {} if shared else {MOMENTS: contents.moments}
            for name, named in files.items():
                in_one_piece = None if named is None else tensors.whole(named)
                if writer.main and in_one_piece is not None:
                    tensors.write(in_one_piece, temporary / name)
            if shared:
                tensors.write_shared(contents.moments, temporary / SHARED_MOMENTS)
            writer.wait()
            if writer.main:
                write_json(temporary / "config.json", as_tree(config))
                write_json(temporary / "state.json", {"format": FORMAT, "step": step, **state})
                _to_disk(temporary)
                os.replace(temporary, folder)
        except OSError as error:
            shutil.rmtree(temporary, ignore_errors=True)
            raise UserError(
                f"the checkpoint of step {step} could not be written to {folder.parent} "
                f"({error.strerror or error}); what was saved before is whole: --resume goes on from there"
            ) from None
    if writer.main:
        point(run, "last", folder, keep)
    return folder


def _to_disk(folder: Path) -> None:
    for file in folder.rglob("*"):
        if file.is_file():
            with file.open("rb") as handle:
                os.fsync(handle.fileno())


def point(run: Path, pointer: str, folder: Path, keep: int) -> None:
    """Let `last` or `best` name `folder`, then remove all but those that are named and the newest `keep`."""
    checkpoints = run / "checkpoints"
    write_text(checkpoints / pointer, folder.name + "\n")
    named = {(checkpoints / p).read_text().strip() for p in POINTERS if (checkpoints / p).is_file()}
    for old in sorted(checkpoints.glob("step-*"))[:-keep]:
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
    if (path / WEIGHTS).is_file():
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
    broken = next((name for name, value in model.state_dict().items() if not value.isfinite().all()), None)
    if broken is not None:
        raise UserError(f"{folder / WEIGHTS}: '{broken}' holds numbers that are not finite; take an earlier checkpoint")
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
    if state.get("format") not in READABLE:
        known = " and ".join(map(str, READABLE))
        raise UserError(f"{file}: written by another daydrive (format {state.get('format')}, this one reads {known})")
    return state


def read_weights(model: WorldModel, folder: Path, name: str = WEIGHTS, written: int | None = None) -> dict[str, Tensor]:
    """By the names that `model` has for them today. written: the format; default: the one that the state names."""
    saved = tensors.read(folder / name)
    written = read_state(folder)["format"] if written is None else written
    return {model.current_name(key, written): value for key, value in saved.items()}


def load_weights(model: WorldModel, folder: Path, name: str = WEIGHTS, written: int | None = None) -> None:
    """Fill `model`, see `read_weights`; raises UserError where names or shapes are another model's."""
    tensors.fill(model.state_dict(), read_weights(model, folder, name, written), folder / name)


def load_moments(optimizers: Sequence[torch.optim.Optimizer], model: WorldModel, folder: Path) -> None:
    """Bring moments and step counts back to where `save` left them."""
    written = read_state(folder)["format"]
    rename = functools.partial(model.current_name, format=written)
    tensors.fill_moments(optimizers, model, folder / MOMENTS, folder / SHARED_MOMENTS, rename)
