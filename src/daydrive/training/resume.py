"""What has to agree before a run begins or goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from daydrive import checkpoint
from daydrive.config import Config, as_tree
from daydrive.data.store.store import Store
from daydrive.errors import UserError
from daydrive.training.logging.meter import Meter

FREE_TO_CHANGE = (
    "logging.", "alarms.", "data.num_workers", "data.pin_memory", "data.root", "data.image_size",
    "training.use_gradient_checkpointing", "training.compile", "training.distributed", "training.backend",
    "training.strategy",
)  # fmt: skip
"""What a run may go on with otherwise: it changes no weight, or only the rounding."""

COUNTS = ("sample", "clips_per_step", "world", "ema_updates", "skipped_steps")
CLIPS_OF_A_STEP = ("training.batch_size", "training.gradient_accumulation")


class ResumeState(NamedTuple):
    """Where a training begins: `step` updates are done and `sample` clips of the endless order consumed.

    folder: the checkpoint, None for a new run; state: of it; clips_per_step: of all processes together; changes:
    sentences on what differs from before.
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
        """The running means of all processes, which rank 0 carries on."""
        return Meter(self.state.get("meter") if main else None)

    def sample_of(self, step: int) -> int:
        """Clips consumed after `step` updates."""
        return self.sample + (step - self.step) * self.clips_per_step

    def step_of(self, sample: int) -> int:
        """Updates done when clip number `sample` is up."""
        return self.step + (sample - self.sample) // self.clips_per_step


def prepare_run(
    config: Config, store: Store, run: Path, resume: bool, allow_change: bool, world: int
) -> tuple[Config, ResumeState]:
    """The settings fitted to the store and the number of processes, and where to begin.

    Raises UserError where the store does not fit the model, the run folder is taken, or settings changed in between
    that change the run, unless `allow_change`.
    """
    config = fit_to_store(config, store)
    taken = (run / "checkpoints" / "last").is_file()
    if taken and not resume:
        raise UserError(f"{run} holds a training already; --resume goes on with it, --run-dir names another folder")
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
        changed = [key for key in changed if key not in CLIPS_OF_A_STEP]
    dangerous = [key for key in changed if not key.startswith(FREE_TO_CHANGE)]
    if dangerous and not allow_change:
        key = dangerous[0]
        more = f" (and {len(dangerous) - 1} more: {', '.join(dangerous[1:])})" if len(dangerous) > 1 else ""
        raise UserError(
            f"{key} was {before.get(key)} in {run} and is {now.get(key)} now{more}; a run goes on with its own "
            f"settings, another --run-dir begins a new one, and --allow-change goes on all the same"
        )
    changes += [f"{key} was {before.get(key)} and is {now.get(key)} now" for key in changed]
    return config, ResumeState(state["step"], state["sample"], clips, folder, state, changes)


def _fit_to_step(config: Config, before: dict[str, Any], state: dict[str, Any], world: int) -> tuple[Config, list[str]]:
    """With another number of processes a step keeps its clips, and so the run stays the same: by accumulation."""
    training = config.training
    clips, per_pass = state["clips_per_step"], training.batch_size * world
    same = all(before.get(key) == getattr(training, key.partition(".")[2]) for key in CLIPS_OF_A_STEP)
    if not same or world == state["world"] or per_pass * training.gradient_accumulation == clips:
        return config, []
    if clips % per_pass:
        raise UserError(
            f"a step of this run takes {clips} clips, which {world} processes with training.batch_size = "
            f"{training.batch_size} can't share; set training.batch_size so that it divides {clips / world:g}"
        )
    accumulation = clips // per_pass
    fitted = training.model_copy(update={"gradient_accumulation": accumulation})
    said = f"{world} processes now, {state['world']} before: gradient_accumulation = {accumulation} keeps the step"
    return config.model_copy(update={"training": fitted}), [said]


def read_progress(folder: Path) -> dict[str, Any]:
    """The state of a training in a checkpoint; raises UserError where it lacks something."""
    state = checkpoint.read_state(folder)
    try:
        checkpoint.Best(**state["best"])
        Meter(state["meter"])
        whole = all(isinstance(state[key], int) for key in COUNTS) and isinstance(state["scaler"], dict)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{folder / 'state.json'}: not the state of a training ({error!r})") from None
    if not whole:
        reason = "a count is no whole number, or 'scaler' no table"
        raise UserError(f"{folder / 'state.json'}: not the state of a training ({reason})")
    return state


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


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
