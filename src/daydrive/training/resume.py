"""Starting and resuming a run: which settings have to match, and the state that training continues from."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from daydrive import checkpoint
from daydrive.config import Config, as_tree
from daydrive.data.store.store import Store
from daydrive.errors import UserError
from daydrive.training.logging.meter import Meter

CHANGEABLE = (
    "logging.", "alarms.", "data.num_workers", "data.pin_memory", "data.root", "data.image_size",
    "training.use_gradient_checkpointing", "training.compile", "training.distributed", "training.backend",
    "training.strategy",
)  # fmt: skip
"""Settings that may change in a resumed run: they affect no weight, or only rounding."""

COUNTERS = ("sample", "clips_per_step", "world", "ema_updates", "skipped_steps")
CLIPS_PER_STEP_KEYS = ("training.batch_size", "training.gradient_accumulation")


class ResumeState(NamedTuple):
    """Where a training starts: after `step` updates and `sample` clips of the endless sample order.

    folder: the checkpoint, None for a new run. state: its state.json. clips_per_step: over all processes. changes:
    messages on the settings that changed.
    """

    step: int
    sample: int
    clips_per_step: int
    folder: Path | None
    state: dict[str, Any]
    changes: list[str]

    @property
    def best(self) -> checkpoint.Best:
        return checkpoint.Best(**self.state.get("best", {}))

    def meter(self, main: bool) -> Meter:
        """The running means over all processes, which rank 0 continues."""
        return Meter(self.state.get("meter") if main else None)

    def sample_of(self, step: int) -> int:
        """Number of clips consumed after `step` updates."""
        return self.sample + (step - self.step) * self.clips_per_step

    def step_of(self, sample: int) -> int:
        """Number of updates done before the clip with number `sample` is used."""
        return self.step + (sample - self.sample) // self.clips_per_step


def prepare_run(
    config: Config, store: Store, run: Path, resume: bool, allow_change: bool, world: int
) -> tuple[Config, ResumeState]:
    """The settings fitted to the store and the number of processes, and the state to start from.

    Raises UserError where the store does not fit the model, the run folder is in use, or settings changed that affect
    the result, unless `allow_change`.
    """
    config = fit_to_store(config, store)
    taken = (run / "checkpoints" / "last").is_file()
    if taken and not resume:
        raise UserError(f"{run} already holds a training; --resume continues it, --run-dir names another folder")
    training = config.training
    clips = training.batch_size * training.gradient_accumulation * world
    if not taken:
        return config, ResumeState(0, 0, clips, None, {}, [])
    folder = checkpoint.find(run, "last")
    state = read_progress(folder)
    before = _flat(as_tree(checkpoint.read_config(folder)))
    config, changes = _fit_to_step(config, before, state, world)
    clips = config.training.batch_size * config.training.gradient_accumulation * world
    now = _flat(as_tree(config))
    changed = [key for key in sorted(before.keys() | now.keys()) if before.get(key) != now.get(key)]
    if clips == state["clips_per_step"]:
        changed = [key for key in changed if key not in CLIPS_PER_STEP_KEYS]
    forbidden = [key for key in changed if not key.startswith(CHANGEABLE)]
    if forbidden and not allow_change:
        key = forbidden[0]
        more = f" (and {len(forbidden) - 1} more: {', '.join(forbidden[1:])})" if len(forbidden) > 1 else ""
        raise UserError(
            f"{key} was {before.get(key)} in {run} and is {now.get(key)} now{more}; a run is resumed with its "
            f"own settings; another --run-dir starts a new run, and --allow-change resumes it anyway"
        )
    changes += [f"{key} was {before.get(key)} and is now {now.get(key)}" for key in changed]
    return config, ResumeState(state["step"], state["sample"], clips, folder, state, changes)


def _fit_to_step(config: Config, before: dict[str, Any], state: dict[str, Any], world: int) -> tuple[Config, list[str]]:
    """With another number of processes, adjust gradient accumulation so that a step still has the same clips."""
    training = config.training
    clips, per_pass = state["clips_per_step"], training.batch_size * world
    same = all(before.get(key) == getattr(training, key.partition(".")[2]) for key in CLIPS_PER_STEP_KEYS)
    if not same or world == state["world"] or per_pass * training.gradient_accumulation == clips:
        return config, []
    if clips % per_pass:
        raise UserError(
            f"a step of this run has {clips} clips, which {world} processes with training.batch_size = "
            f"{training.batch_size} cannot divide evenly; set training.batch_size to a divisor of {clips / world:g}"
        )
    accumulation = clips // per_pass
    fitted = training.model_copy(update={"gradient_accumulation": accumulation})
    change = f"{world} processes instead of {state['world']}"
    message = f"{change}: gradient_accumulation = {accumulation} keeps the clips of a step"
    return config.model_copy(update={"training": fitted}), [message]


def read_progress(folder: Path) -> dict[str, Any]:
    """The training state in a checkpoint. Raises UserError where it is incomplete."""
    state = checkpoint.read_state(folder)
    try:
        checkpoint.Best(**state["best"])
        Meter(state["meter"])
        complete = all(isinstance(state[key], int) for key in COUNTERS) and isinstance(state["scaler"], dict)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{folder / 'state.json'}: not a training state ({error!r})") from None
    if not complete:
        reason = "a counter is not an integer, or 'scaler' is not an object"
        raise UserError(f"{folder / 'state.json'}: not a training state ({reason})")
    return state


def fit_to_store(config: Config, store: Store) -> Config:
    """Set the model's image size to the store's. Raises UserError for a config with another size or another action
    dimension."""
    size = config.model.image_size
    if size is not None and size != store.image_size:
        raise UserError(
            f"model.image_size = {list(size)}, but the store {store.path} has images of {list(store.image_size)}; "
            f"leave the key out to use the store's size"
        )
    if config.model.action_dim != 4:
        raise UserError(
            f"model.action_dim = {config.model.action_dim}, but the actions of the store {store.path} have 4 values"
        )
    return config.model_copy(update={"model": config.model.model_copy(update={"image_size": store.image_size})})


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
