"""The drivers that are ranked: lane keepers of graded skill, half-trained policies, and those of the user."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from pathlib import Path

from daydrive.checkpoint import RolloutModel, check_fit
from daydrive.data.store.store import Store
from daydrive.decisions.closed_loop import Driver
from daydrive.decisions.drivers import LaneKeeper, Skill, load_driver
from daydrive.decisions.inputs import Inputs
from daydrive.decisions.policy.cloning import cloned_policy, recorded_examples
from daydrive.decisions.policy.driver import PolicyDriver
from daydrive.decisions.policy.network import load_policy
from daydrive.envs.road.env import HZ
from daydrive.errors import UserError

MakeDriver = Callable[[], Driver]

SKILLS = {
    "good": Skill(),
    "gain 0.5": Skill(gain=0.5), "gain 0.2": Skill(gain=0.2), "gain 0": Skill(gain=0.0),
    "noise 0.1": Skill(noise=0.1), "noise 0.2": Skill(noise=0.2), "noise 0.4": Skill(noise=0.4),
    "lag 3": Skill(lag=3), "lag 6": Skill(lag=6), "lag 9": Skill(lag=9),
    "bias 0.5": Skill(bias=0.5), "bias 1": Skill(bias=1.0),
}  # fmt: skip
"""The graded drivers: lane keepers on the readout of the images that they see."""

CLONING_STEPS = (30, 100, 600)
"""Of the half-trained policies, each trained with a schedule of its own."""


def graded_drivers(inputs: Inputs) -> dict[str, MakeDriver]:
    """The drivers of `SKILLS`."""
    return {name: functools.partial(LaneKeeper, skill, inputs.readout) for name, skill in SKILLS.items()}


def cloned_name(steps: int) -> str:
    return f"cloned {steps}"


def cloned_drivers(
    store: Store,
    inputs: Inputs,
    folder: Path,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, MakeDriver]:
    """Policies cloned from the drivers of a store for `CLONING_STEPS` each, by `cloned_name`.

    folder: where they are saved as `done-cloned-STEPS.safetensors`; those that are there are not learned again.
    progress: called with the steps done and in total.
    """
    files = {steps: folder / f"done-cloned-{steps}.safetensors" for steps in CLONING_STEPS}
    missing = [steps for steps, file in files.items() if not file.is_file()]
    if missing:
        skip, horizon = inputs.loaded.frame_skip, inputs.readout.info.horizon
        examples = recorded_examples(store, "train", skip, horizon)
        for k, steps in enumerate(missing):

            def report(done: int, before: int = sum(missing[:k])) -> None:
                progress(before + done, sum(missing))

            cloned_policy(store, examples, skip, horizon, steps, seed=0, progress=report).save(files[steps])
    return {cloned_name(steps): functools.partial(PolicyDriver, load_policy(file)) for steps, file in files.items()}


def cloning_store(data_root: Path | None, loaded: RolloutModel) -> Store:
    """The store whose drivers are cloned: `data_root`, by default the model's own.

    Raises UserError if there is none, or if it does not fit the model and the road simulator.
    """
    root = data_root or (None if loaded.config is None else loaded.config.data.root)
    if root is None:
        raise UserError("the model's config names no store")
    store = Store.open(root)
    check_fit(loaded, store)
    if store.source != "road" or store.clip_hz(loaded.frame_skip) != HZ / loaded.frame_skip:
        raise UserError(
            f"the drives of {store.path} are from '{store.source}' at {store.clip_hz(1):g} Hz, not from the road "
            f"simulator at {HZ} Hz"
        )
    if not store.split("train"):
        raise UserError(f"the split 'train' of {store.path} is empty")
    return store


def user_driver(spec: str) -> MakeDriver:
    """Makes the driver of a user: a file or folder of `daydrive learn-policy`, or `FILE.py:NAME` as in `load_driver`.

    Raises UserError if it is neither, or if the file or the function fails.
    """
    if _is_policy_file(spec):
        return functools.partial(PolicyDriver, load_policy(spec))
    if ":" not in spec:
        raise UserError(
            f"the policy '{spec}' must be FILE.py:NAME, a Python file and a function in it, or a file "
            "policy.safetensors of `daydrive learn-policy`"
        )
    load_driver(spec)
    return functools.partial(load_driver, spec)


def check_policies(specs: Iterable[str], inputs: Inputs) -> None:
    """Raises UserError if one of the policy files among them does not fit the model."""
    for spec in filter(_is_policy_file, specs):
        load_policy(spec).info.check(spec, HZ / inputs.loaded.frame_skip, inputs.image_size)


def _is_policy_file(spec: str) -> bool:
    return Path(spec).suffix == ".safetensors" or Path(spec).is_dir()
