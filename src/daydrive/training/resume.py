"""What has to agree before a run begins or goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from daydrive import checkpoint
from daydrive.config import Config, as_tree
from daydrive.data.store import Store
from daydrive.errors import UserError
from daydrive.training.meter import Meter

FREE_TO_CHANGE = ("logging.", "data.num_workers", "data.pin_memory", "data.root", "training.use_gradient_checkpointing")
"""What a run may go on with otherwise: it changes no weight."""


def prepare_run(config: Config, store: Store, run: Path, resume: bool) -> tuple[Config, Path | None]:
    """The settings fitted to the store, and the checkpoint to go on from, if there is one.

    Raises UserError where the store does not fit the model, the run folder is taken, or settings changed in between.
    """
    config = fit_to_store(config, store)
    taken = (run / "checkpoints" / "last").is_file()
    if taken and not resume:
        raise UserError(f"{run} holds a training already; --resume goes on with it, --run-dir names another folder")
    checkpoint.remove_leftovers(run)
    if not taken:
        return config, None
    begun = checkpoint.find(run, "last")
    refuse_changes(as_tree(checkpoint.read_config(begun)), as_tree(config), begun)
    return config, begun


def read_progress(begun: Path) -> tuple[int, checkpoint.Best, Meter]:
    """Steps done, the best validation and the running means of a checkpoint."""
    state = checkpoint.read_state(begun)
    try:
        return state["step"], checkpoint.Best(**state["best"]), Meter(state["meter"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{begun / 'state.json'}: not the state of a training ({error!r})") from None


def fit_to_store(config: Config, store: Store) -> Config:
    """Take the picture size from the store; refuse a config that names another, or actions of another kind."""
    size = config.model.image_size
    if size is not None and size != store.image_size:
        raise UserError(
            f"model.image_size = {list(size)}, but the store {store.path} holds pictures of {list(store.image_size)}; "
            f"leave the key out to take the store's"
        )
    if config.model.action_dim != 4:
        raise UserError(
            f"model.action_dim = {config.model.action_dim}, but the store {store.path} holds actions of 4 numbers"
        )
    return config.model_copy(update={"model": config.model.model_copy(update={"image_size": store.image_size})})


def refuse_changes(before: dict[str, Any], now: dict[str, Any], begun: Path) -> None:
    """Raises UserError naming the first setting that changed and would change the weights."""
    old, new = _flat(before), _flat(now)
    for key in sorted(old.keys() | new.keys()):
        if old.get(key) != new.get(key) and not key.startswith(FREE_TO_CHANGE):
            raise UserError(
                f"{key} was {old.get(key)} in {begun.parent.parent} and is {new.get(key)} now; "
                f"a run goes on with its own settings, another --run-dir begins a new one"
            )


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
