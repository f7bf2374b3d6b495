"""The model and the readout that decisions are made with, in the road world."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

from daydrive.checkpoint import RolloutModel, load
from daydrive.data.store.store import Store
from daydrive.envs.road.camera import check_image_size
from daydrive.envs.road.env import HZ
from daydrive.envs.world_model.readout import Readout
from daydrive.envs.world_model.readout_training import VALUES, train_readout
from daydrive.errors import UserError
from daydrive.types import ACTION_NAMES

READOUT_FILE = "readout.safetensors"


class Inputs(NamedTuple):
    """loaded: a model with actions and images of the road world; readout: on the model's device; image_size: (H, W)."""

    loaded: RolloutModel
    readout: Readout
    image_size: tuple[int, int]


def load_inputs(
    checkpoint: Path,
    readout: Path | None,
    data_root: Path | None,
    output: Path,
    device: torch.device,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Inputs:
    """Load a model and its readout.

    readout: of `daydrive train-readout`; default: that in `output`; where there is none, one is trained on the store
    `data_root`, by default the model's own, and written to `output`.

    Raises UserError if the model does not drive in the road world, if the readout does not fit it, or if there is
    neither a readout nor a store.
    """
    loaded = load(checkpoint, device)
    config, image_size = loaded.config, loaded.image_size
    assert config is not None and image_size is not None
    if config.model.action_dim != len(ACTION_NAMES):
        raise UserError(f"{checkpoint} has {config.model.action_dim} actions, and the road world has 4")
    check_image_size(image_size)
    file = readout or output / READOUT_FILE
    if readout is None and not file.is_file():
        trained = train_readout(_store(data_root, config.data.root), VALUES, loaded.frame_skip, progress=progress)
        trained.check(HZ / loaded.frame_skip, image_size)
        output.mkdir(parents=True, exist_ok=True)
        trained.save(file)
    found = Readout.load(file, device)
    found.check(HZ / loaded.frame_skip, image_size)
    missing = [name for name in VALUES if name not in found.names]
    if missing:
        raise UserError(f"the readout {file} does not read '{missing[0]}'; train one on a store of the road world")
    return Inputs(loaded, found, image_size)


def _store(data_root: Path | None, of_model: str | Path | None) -> Store:
    root = data_root or of_model
    if root is None or (data_root is None and not Path(root).exists()):
        raise UserError(
            "there is no readout and no store to train one on; name one with --readout, or a store with --data-root"
        )
    return Store.open(root)
