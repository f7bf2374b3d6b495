"""`daydrive learn-policy`: learning, driving in the true simulator, and the files of the result.

<output>/policy.safetensors     learned in the model with the first seed      policy.onnx
         policies/world_model-0.safetensors …                                 all that were learned
         readout.safetensors                                                  unless one was given
         policy.json  roads.png  roads.mp4                                    with the comparison
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from daydrive.checkpoint import RolloutModel, check_fit, load
from daydrive.data.store.store import Store
from daydrive.decisions.closed_loop import unseen_roads
from daydrive.decisions.drive_images import video_of_drives
from daydrive.decisions.policy.evaluation import (
    DISPLACEMENTS,
    Driven,
    drive_policy,
    ratios,
    summarize_policy,
)
from daydrive.decisions.policy.imagination import HEADING, LANE_OFFSET, SPEED
from daydrive.decisions.policy.learners import LEARNERS, LearnConfig, Learners
from daydrive.decisions.policy.network import POLICY_FILE, load_policy
from daydrive.decisions.policy.onnx_file import export_policy
from daydrive.decisions.policy.trajectories import draw_roads, drive_road
from daydrive.envs.road.env import HZ
from daydrive.envs.world_model.readout import Readout
from daydrive.envs.world_model.readout_training import VALUES, train_readout
from daydrive.errors import UserError
from daydrive.files import check_folder, created_parents, write_json
from daydrive.machine import describe_machine
from daydrive.models import WorldModel
from daydrive.progress import CountProgress
from daydrive.viz.images import write_png
from daydrive.workspace import results_workspace, staged_folder

RESULTS = "done-*"
READOUT_FILE = "readout.safetensors"
RESULT_FILE, ROADS_FILE, VIDEO_FILE, ONNX_FILE = "policy.json", "roads.png", "roads.mp4", "policy.onnx"


@dataclass(frozen=True)
class LearnOptions:
    """readout: file; None: trained first. compare: whether to learn in the other ways too and to drive all policies in
    the road simulator. seeds: policies of each way, from `seed` on. roads: number of unseen roads."""

    checkpoint: Path
    data_root: Path
    readout: Path | None
    compare: bool
    seeds: int
    seed: int
    roads: int
    config: LearnConfig


def learn(options: LearnOptions, output: Path, console: Console) -> dict[str, Any] | None:
    """Learn, and write the folder `output`. Returns the contents of `policy.json`; None without the comparison.

    What an interrupted process had finished is used again. Raises UserError if checkpoint, store and readout do not
    fit, or if the output cannot be written.
    """
    check_folder(output, "output folder")
    loaded, store = load(options.checkpoint), Store.open(options.data_root)
    _check(loaded, store, options)
    given = None if options.readout is None else _checked_readout(Readout.load(options.readout), loaded, store)
    plan = {
        "checkpoint": str(loaded.path.resolve()),
        "step": loaded.step,
        "store": store.fingerprint,
        "readout": {"seed": options.seed} if given is None else given.info.model_dump(mode="json"),
        "config": json.loads(json.dumps(asdict(options.config))),
        "roads": options.roads,
    }
    with created_parents(output), results_workspace(output, plan, RESULTS) as folder:
        stages = _Stages(folder, console)
        readout = given or stages.readout(store, loaded, options.seed)
        learners = Learners(store, loaded, _checked_readout(readout, loaded, store), options.config)
        names = LEARNERS if options.compare else LEARNERS[:1]
        seeds = range(options.seed, options.seed + options.seeds)
        roads = unseen_roads(options.roads)
        for seed in seeds:
            for name in names:
                stages.learn(learners, name, seed)
                if options.compare:
                    stages.drive(name, seed, roads)
        return _write(output, stages, options, given is None, store, loaded)


class _Stages:
    """Each stage leaves a file `done-…` in the working folder, and is skipped where that is there."""

    def __init__(self, folder: Path, console: Console) -> None:
        self._folder, self._console = folder, console

    def policy_file(self, name: str, seed: int) -> Path:
        return self._folder / f"done-{name}-{seed}.safetensors"

    def readout(self, store: Store, loaded: RolloutModel, seed: int) -> Readout:
        file = self._folder / f"done-{READOUT_FILE}"
        if not file.is_file():
            with CountProgress(self._console, "readout: steps") as progress:
                train_readout(store, VALUES, loaded.frame_skip, seed=seed, progress=progress).save(file)
        return Readout.load(file)

    def learn(self, learners: Learners, name: str, seed: int) -> None:
        file = self._folder / f"done-learned-{name}-{seed}.json"
        if file.is_file():
            return
        wall, cpu = time.monotonic(), time.process_time()
        with CountProgress(self._console, f"{name}, seed {seed}: steps") as progress:
            learners.learn(name, seed, progress).save(self.policy_file(name, seed))
        minutes = {"wall": (time.monotonic() - wall) / 60, "cpu": (time.process_time() - cpu) / 60}
        write_json(file, minutes)

    def drive(self, name: str, seed: int, roads: list[int]) -> None:
        file = self._folder / f"done-driven-{name}-{seed}.json"
        if not file.is_file():
            with CountProgress(self._console, f"{name}, seed {seed}: drives") as progress:
                driven = drive_policy(load_policy(self.policy_file(name, seed)), roads, progress)
            write_json(file, driven._asdict())

    def driven(self, name: str, seed: int) -> Driven:
        return Driven(**json.loads((self._folder / f"done-driven-{name}-{seed}.json").read_text(encoding="utf-8")))

    def minutes(self, name: str, seed: int) -> dict[str, float]:
        """`wall` and `cpu` minutes of learning."""
        read: dict[str, float] = json.loads((self._folder / f"done-learned-{name}-{seed}.json").read_text())
        return read


def _write(
    output: Path, stages: _Stages, options: LearnOptions, trained_readout: bool, store: Store, loaded: RolloutModel
) -> dict[str, Any] | None:
    seeds = range(options.seed, options.seed + options.seeds)
    names = LEARNERS if options.compare else LEARNERS[:1]
    first = load_policy(stages.policy_file(LEARNERS[0], options.seed))
    result = None
    (output / "policies").mkdir(parents=True, exist_ok=True)
    for name in names:
        for seed in seeds:
            load_policy(stages.policy_file(name, seed)).save(output / "policies" / f"{name}-{seed}.safetensors")
    with staged_folder(output) as folder:
        if trained_readout:
            stages.readout(store, loaded, options.seed).save(folder / READOUT_FILE)
        first.save(folder / POLICY_FILE)
        if all(find_spec(package) for package in ("onnx", "onnxscript", "onnxruntime")):
            export_policy(first, folder / ONNX_FILE)
        if options.compare:
            policies = {}
            for name in names:
                minutes = [stages.minutes(name, seed) for seed in seeds]
                policies[name] = {
                    **summarize_policy([stages.driven(name, seed) for seed in seeds]),
                    "minutes": {key: sum(each[key] for each in minutes) / len(minutes) for key in ("wall", "cpu")},
                }
            result = {
                "policies": policies,
                "ratios": ratios(policies),
                "roads": unseen_roads(options.roads),
                "seeds": list(seeds),
                "checkpoint": loaded.name,
                "training_step": loaded.step,
                "store": store.fingerprint,
                "config": asdict(options.config),
                "machine": describe_machine(torch.device("cpu")),
            }
            write_json(folder / RESULT_FILE, result)
            shown = {name: load_policy(stages.policy_file(name, options.seed)) for name in names}
            drives = drive_road(shown, unseen_roads(1)[0])
            write_png(folder / ROADS_FILE, draw_roads(drives))
            video_of_drives(folder / VIDEO_FILE, drives, HZ)
    return result


def policies_table(result: dict[str, Any]) -> Table:
    """The shares of all policies, for the terminal."""
    table = Table(title=f"on {len(result['roads'])} unseen roads, {len(result['seeds'])} seeds", title_justify="left")
    for heading in ("policy", "in the lane", "m/s", "recovered", *DISPLACEMENTS, "minutes"):
        table.add_column(heading, justify="left" if heading == "policy" else "right")
    for name, each in result["policies"].items():
        recovered = [each["recovered_share"], *(start["share"] for start in each["recovered"].values())]
        shares = [f"{share:.0%}" for share in recovered]
        table.add_row(
            name, f"{each['lane_share']:.0%}", f"{each['speed']:.1f}", *shares, f"{each['minutes']['cpu']:.1f}"
        )
    return table


def _check(loaded: RolloutModel, store: Store, options: LearnOptions) -> None:
    check_fit(loaded, store)
    if not isinstance(loaded.model, WorldModel):
        raise UserError(f"the model {loaded.path} has no derivatives; give a checkpoint of daydrive")
    hz = store.clip_hz(loaded.frame_skip)
    if options.compare and store.source != "road":
        raise UserError(
            f"the drives of {store.path} are from '{store.source}', not from the road simulator, where the policies "
            "are compared; give --no-compare"
        )
    if options.compare and hz != HZ:
        raise UserError(
            f"the model has {hz:g} frames a second and the road simulator, where the policies are compared, {HZ}; give "
            "--no-compare"
        )


def _checked_readout(readout: Readout, loaded: RolloutModel, store: Store) -> Readout:
    missing = [name for name in (LANE_OFFSET, HEADING, SPEED) if name not in readout.names]
    if missing:
        raise UserError(
            f"learning in the model needs a readout of {', '.join(missing)}, and this one reads "
            f"{', '.join(readout.names)}; train one with `daydrive train-readout`"
        )
    readout.check(store.clip_hz(loaded.frame_skip), store.image_size)
    return readout
