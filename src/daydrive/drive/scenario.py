"""What `daydrive drive` drives: models, moments, and the true simulator where there is one."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from daydrive import checkpoint
from daydrive.checkpoint import WEIGHTS, RolloutModel
from daydrive.data.store.store import METADATA_FILE, Store
from daydrive.decisions.policy.network import Policy, load_policy
from daydrive.drive.comparison import BlindComparison
from daydrive.drive.moments import Moments, RoadMoments, StoreMoments
from daydrive.drive.simulators import ModelSimulator, RoadSimulator, Simulator
from daydrive.errors import UserError
from daydrive.evaluation.model_loading import check_fit
from daydrive.types import ACTION_NAMES
from daydrive.weights import find_weights

PACKAGED = Path("road")
"""The checkpoint that is part of the package."""
ROAD_SIZE = (128, 128)
"""Image size of the road simulator when no model states another."""


@dataclass(frozen=True)
class Scenario:
    """models: none (the road simulator itself is driven), one, or two to compare. blind: whether the page must not
    learn which of the two is which. output: folder of recordings and results. seed: of each first drive. policy: that
    can drive instead of the person."""

    models: tuple[RolloutModel, ...]
    moments: Moments
    frame_skip: int
    output: Path
    seed: int = 0
    blind: bool = False
    policy: Policy | None = None

    def simulators(self) -> list[Simulator]:
        if not self.models:
            return [self.road()]
        return [ModelSimulator(loaded.model) for loaded in self.models]

    def road(self) -> RoadSimulator:
        return RoadSimulator(self.moments.image_size, self.frame_skip)

    def views(self) -> list[dict[str, str]]:
        """`name` and `kind` ('model' or 'simulator') of each simulator, for the page."""
        if not self.models:
            return [{"name": "road simulator", "kind": "simulator"}]
        if self.blind:
            return [{"name": side, "kind": "model"} for side in ("left", "right")]
        return [{"name": loaded.name, "kind": "model"} for loaded in self.models]

    def comparison(self) -> BlindComparison | None:
        """A new blind comparison, whose results are written into a new file."""
        if not self.blind:
            return None
        first, second = (describe(loaded) for loaded in self.models)
        name = f"comparison-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}.json"
        return BlindComparison((first, second), self.output / name)

    def identity(self) -> dict[str, Any]:
        """Entries for an action log that identify what is driven."""
        what: dict[str, Any] = {"simulator": "daydrive/Road-v0"} if not self.models else describe(self.models[0])
        return {
            **what,
            "moments": self.moments.origin,
            "image_size": list(self.moments.image_size),
            "hz": self.moments.hz,
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
        }


def with_policy(scenario: Scenario, file: Path) -> Scenario:
    """The scenario with a policy. Raises UserError if the file is none, or one for other images or another rate."""
    policy = load_policy(file)
    policy.info.check(file, scenario.moments.hz, scenario.moments.image_size)
    return replace(scenario, policy=policy)


def describe(loaded: RolloutModel) -> dict[str, Any]:
    """Entries that identify a model."""
    with (loaded.path / WEIGHTS).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"checkpoint": str(loaded.path), "name": loaded.name, "training_step": loaded.step, "sha256": digest}


def load_scenario(
    checkpoints: Sequence[Path],
    data_root: Path | None,
    output: Path,
    *,
    env: Literal["road"] | None = None,
    image_size: tuple[int, int] | None = None,
    seed: int = 0,
    blind: bool = False,
    device: torch.device,
) -> Scenario:
    """Load the models and find their moments.

    checkpoints: none for the weights in the package or, with `env`, for the road simulator alone. data_root: a store
    with the moments; default: the store of the model's config if it exists and fits, else the road simulator's. Raises
    UserError where models, store and options do not fit together.
    """
    if env is not None and checkpoints:
        raise UserError("--env road drives the simulator itself; leave out --checkpoint, or leave out --env")
    if env is not None and data_root is not None:
        raise UserError("--env road starts from moments of the simulator; leave out --data-root")
    if image_size is not None and env is None:
        raise UserError("--image-size is for --env road; a model has the size it was trained with")
    if env is not None:
        return Scenario((), RoadMoments(image_size or ROAD_SIZE, 1, 1), 1, output, seed)
    models = tuple(_load(path, device) for path in checkpoints or [PACKAGED])
    if len(models) == 2:
        _check_comparable(*models)
    store = _store(models, data_root)
    first = models[0]
    context = max(loaded.context_frames for loaded in models)
    size = first.image_size
    assert size is not None, "a checkpoint of daydrive states its image size"
    if store is not None:
        return Scenario(models, StoreMoments(store, context, first.frame_skip), first.frame_skip, output, seed, blind)
    actions = first.config.model.action_dim if first.config else len(ACTION_NAMES)
    if actions != len(ACTION_NAMES):
        raise UserError(f"the model {first.path} expects actions of {actions} numbers, not {', '.join(ACTION_NAMES)}")
    try:
        moments = RoadMoments((size[0], size[1]), context, first.frame_skip)
    except UserError as error:
        raise UserError(f"--data-root is needed: {first.path} has no moments in the road simulator ({error})") from None
    return Scenario(models, moments, first.frame_skip, output, seed, blind)


def _load(path: Path, device: torch.device) -> RolloutModel:
    if path == PACKAGED and not path.exists():
        try:
            find_weights(str(path))
        except UserError:
            raise UserError(
                "this installation has no packaged weights; give --checkpoint RUN, or --env road for the simulator"
            ) from None
    return checkpoint.load(path, device)


def _store(models: Sequence[RolloutModel], data_root: Path | None) -> Store | None:
    if data_root is not None:
        store = Store.open(data_root)
        for loaded in models:
            check_fit(loaded, store)
        return store
    config = models[0].config
    root = None if config is None or config.data.root is None else Path(config.data.root)
    if root is None or not (root / METADATA_FILE).is_file():
        return None
    store = Store.open(root)
    return store if store.image_size == models[0].image_size else None


def _check_comparable(first: RolloutModel, second: RolloutModel) -> None:
    for what in ("image_size", "frame_skip"):
        one, other = getattr(first, what), getattr(second, what)
        if one != other:
            raise UserError(
                f"{first.path} and {second.path} cannot be driven side by side: their {what} is {one} and {other}"
            )
