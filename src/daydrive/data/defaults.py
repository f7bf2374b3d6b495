"""What is taken where a command does not say which store it means, or what a dataset's is to be like."""

from __future__ import annotations

from pathlib import Path

from daydrive.config import DataConfig, load_config
from daydrive.config.files import find_config
from daydrive.data.store.store import METADATA_FILE
from daydrive.errors import UserError
from daydrive.locations import Location, location

STORES = Path("data") / "processed"

CAMERA_SIZE = (256, 256)
"""Height and width, in pixels, of the pictures of a dataset without a config; that of the base model."""


def defaults_of(dataset: str) -> DataConfig:
    """`data` of `configs/data/DATASET.yaml`, that of this folder or else daydrive's own, with root and image_size.

    UserError where a file of this folder can't be read.
    """
    try:
        file = find_config(f"configs/data/{dataset}.yaml")
    except UserError:
        found = DataConfig()
    else:
        found = load_config(file).data
    root, size = found.root or STORES / dataset, found.image_size or CAMERA_SIZE
    return found.model_copy(update={"root": root, "image_size": size})


def find_store(data_root: str | Path | None, config: DataConfig) -> tuple[Location, str | None]:
    """The store to train on, and a sentence where nobody named it: --data-root, else data.root, else the one of
    `data/processed` that was prepared last. UserError where there is none."""
    named = data_root or config.root
    if named is not None:
        return location(named), None
    stores = sorted(STORES.glob(f"*/{METADATA_FILE}"), key=lambda file: (file.stat().st_mtime_ns, file))
    if not stores:
        raise UserError(
            f"which drives? there is no store under {STORES}; make one with `python scripts/prepare_dataset.py "
            f"--dataset NAME --data-root FOLDER`, or name one with --data-root or data.root"
        )
    newest = stores[-1].parent
    others = f", prepared last of the {len(stores)} under {STORES}" if len(stores) > 1 else ""
    return newest, f"store: {newest}{others}; --data-root names another"
