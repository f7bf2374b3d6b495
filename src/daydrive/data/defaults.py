"""Defaults: of a dataset's preparation, and the store that a command reads if none is given."""

from __future__ import annotations

from pathlib import Path

from daydrive.config import DataConfig, load_config
from daydrive.config.files import find_config
from daydrive.data.store.store import METADATA_FILE
from daydrive.errors import UserError
from daydrive.locations import Location, location

STORES = Path("data") / "processed"

CAMERA_SIZE = (256, 256)
"""Image size (H, W) in pixels for a dataset without a config; that of the base model."""


def defaults_of(dataset: str) -> DataConfig:
    """`data` of `configs/data/DATASET.yaml` with root and image_size set; a file in the current folder takes precedence
    over the one shipped with daydrive. Raises UserError for an invalid file."""
    try:
        file = find_config(f"configs/data/{dataset}.yaml")
    except UserError:
        config = DataConfig()
    else:
        config = load_config(file).data
    root, size = config.root or STORES / dataset, config.image_size or CAMERA_SIZE
    return config.model_copy(update={"root": root, "image_size": size})


def find_store(data_root: str | Path | None, config: DataConfig) -> tuple[Location, str | None]:
    """The store to train on: --data-root, else data.root, else the most recently prepared one in `data/processed`,
    with a message that names it in this last case. Raises UserError if there is none."""
    given = data_root or config.root
    if given is not None:
        return location(given), None
    stores = sorted(STORES.glob(f"*/{METADATA_FILE}"), key=lambda file: (file.stat().st_mtime_ns, file))
    if not stores:
        raise UserError(
            f"no drives are given, and there is no store under {STORES}; create one with `python "
            f"scripts/prepare_dataset.py --dataset NAME --data-root FOLDER`, or set --data-root or data.root"
        )
    newest = stores[-1].parent
    others = f", the most recently prepared of the {len(stores)} under {STORES}" if len(stores) > 1 else ""
    return newest, f"store: {newest}{others}; --data-root selects another"
