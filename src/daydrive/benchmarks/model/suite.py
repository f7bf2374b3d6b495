"""The model suite: all benchmarks of models and baselines."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from daydrive.benchmarks import interleaved_timing
from daydrive.benchmarks.findings import Findings, Target, write
from daydrive.benchmarks.model import cost, latency, metrics_speed
from daydrive.benchmarks.model.candidates import Candidate, find_candidates, of_size
from daydrive.benchmarks.model.energy import energy_of
from daydrive.benchmarks.model.environments import environments_per_second
from daydrive.benchmarks.model.scene import REAL_TIME_HZ, Scene, noise, of_store, swaying_actions
from daydrive.benchmarks.model.throughput import frames_per_second
from daydrive.checkpoint import RolloutModel, check_fit, load
from daydrive.data.store.store import Store
from daydrive.errors import UserError
from daydrive.files import check_folder, created_parents
from daydrive.machine import describe_machine
from daydrive.models.rollout import Session

TARGETS = {
    "real_time": Target(1.0, True, "frames per second of one rollout over the real-time rate"),
    "later_frames": Target(1.5, False, "time of the last frames of a long rollout over that of its first"),
    "vs_constant_flow": Target(None, False, "minimum time of a frame over that of the constant-flow baseline"),
    "vs_copy_last": Target(None, False, "minimum time of a frame over that of the copy-last baseline"),
    "joules": Target(None, False, "energy per frame"),
    "vector_env": Target(4.0, True, "frames per second of 64 environments in a vector over 64 steps of a single one"),
    **metrics_speed.TARGETS,
}
BATCHES, SIZES = (1, 4, 16), (64, 128, 256)
"""Batch sizes; sides of square images for which the settings are also measured, with untrained weights."""

ENERGY_SECONDS = 5.0


def benchmark_model(
    output: Path,
    checkpoints: Sequence[Path],
    adapters: Sequence[str],
    data_root: Path | None,
    devices: Sequence[torch.device],
    quick: bool,
    log: Callable[[str], None],
) -> tuple[Findings, dict[str, Target]]:
    """Measure the models of the checkpoints and write JSON: `ratios`, `targets`, `not_measured`, `machine`, `raw`.

    adapters: external models, `FILE.py:NAME@CHECKPOINT` each. data_root: a store whose first drive gives context and
    rate, and whose clips the environments start from; default: noise at 10 Hz. Ratios are named `RATIO_NAME_DEVICE`;
    `raw.dreams` has one row per model and device, `raw.frames_per_second` one per batch size and image size as well,
    `raw.environments` one per checkpoint and device. Raises UserError before measuring.
    """
    if output.is_dir():
        raise UserError(f"--output {output} is a folder; give a file")
    loaded, *others = (load(checkpoint) for checkpoint in checkpoints)
    for other in others:
        if other.image_size != loaded.image_size:
            raise UserError(
                f"the models {loaded.path} and {other.path} use images of {loaded.image_size} and {other.image_size}; "
                "models can only be compared at the same image size"
            )
    candidates = find_candidates([loaded, *others], adapters)
    store = None if data_root is None else Store.open(data_root)
    scene = _scene(loaded, store, max(candidate.context_frames for candidate in candidates))
    check_folder(output.absolute().parent, "output folder")
    machine = describe_machine(devices[-1])
    own = {candidate.name: model for candidate, model in zip(candidates, (loaded, *others), strict=False)}
    raw: dict[str, Any] = {"dreams": [], "frames_per_second": [], "environments": []}
    found = Findings(raw={**raw, "seen": scene.text, "hz": scene.hz})
    found.raw["flops_are"] = cost.COUNTED
    for device in devices:
        _measure_on(device, loaded, candidates, scene, quick, found, log)
        _measure_environments(device, own, store, quick, found, log)
    log("cpu: PSNR and SSIM")
    found.add(metrics_speed.measures_ratio(quick))
    with created_parents(output):
        write(output, "model", quick, machine, found, TARGETS)
    return found, TARGETS


def _scene(loaded: RolloutModel, store: Store | None, frames: int) -> Scene:
    if store is None:
        assert loaded.image_size is not None, "training sets it from the store"
        return noise(loaded.image_size, frames, REAL_TIME_HZ)
    check_fit(loaded, store)
    scene = of_store(store, frames, loaded.frame_skip)
    if scene is None:
        raise UserError(f"no drive of {store.path} has the {frames} frames of context that the models need")
    return scene


@torch.no_grad()
def _measure_on(
    device: torch.device,
    loaded: RolloutModel,
    candidates: Sequence[Candidate],
    scene: Scene,
    quick: bool,
    found: Findings,
    log: Callable[[str], None],
) -> None:
    """Everything on one device."""
    batches, sizes = (BATCHES[:2], SIZES[:2]) if quick else (BATCHES, SIZES)
    effort = interleaved_timing.QUICK if quick else interleaved_timing.THOROUGH._replace(seconds=5)
    sessions = {candidate.name: Session(candidate.load(device)) for candidate in candidates}
    log(f"{device}: latency of {', '.join(sessions)}")
    latencies = latency.measure_latency(sessions, scene, latency.QUICK if quick else latency.THOROUGH)
    rows = {}
    for candidate in candidates:
        session = sessions[candidate.name]
        key = {"name": candidate.name, "device": str(device)}
        row = {**key, "kind": candidate.kind, "made_from": candidate.made_from, "context": candidate.context_frames}
        row |= latency.summary(latencies[candidate.name])
        if candidate.kind != "baseline":
            log(f"{device}: cost of {candidate.name}")
            row |= _costs(candidate, session, scene, device, 0.0 if quick else ENERGY_SECONDS, found)
            log(f"{device}: frames per second of {candidate.name}")
            entries = frames_per_second(session, scene, batches, effort, device)
            found.raw["frames_per_second"] += [key | entry for entry in entries]
        rows[candidate.name] = row
    found.raw["dreams"] += rows.values()
    _ratios(rows, scene.hz, device, found)
    own = {"name": candidates[0].name, "device": str(device), "untrained": True}
    for size in sizes:
        if (size, size) != scene.image_size:
            log(f"{device}: frames per second of {own['name']}'s settings at {size} px, untrained")
            entries = _untrained(loaded, size, batches, effort, device)
            found.raw["frames_per_second"] += [own | entry for entry in entries]


def _measure_environments(
    device: torch.device,
    models: Mapping[str, RolloutModel],
    store: Store | None,
    quick: bool,
    found: Findings,
    log: Callable[[str], None],
) -> None:
    effort = interleaved_timing.QUICK if quick else interleaved_timing.THOROUGH._replace(seconds=5)
    for name, loaded in models.items():
        ratio = f"vector_env_{name}_{device.type}"
        if store is None:
            found.not_measured[ratio] = "episodes start from clips of a store: --data-root"
            continue
        log(f"{device}: environments of {name}")
        entry = environments_per_second(loaded, store, effort, device)
        found.raw["environments"].append({"name": name, "device": str(device)} | entry)
        found.ratios[ratio] = entry["vector_frames_per_second"] / entry["single_frames_per_second"]


def _untrained(
    loaded: RolloutModel, size: int, batches: Sequence[int], effort: interleaved_timing.Effort, device: torch.device
) -> list[dict[str, Any]]:
    """Throughput of the same settings with untrained weights, or the reason why they do not fit images of that size."""
    try:
        model = of_size(loaded, (size, size), device)
    except UserError as error:
        return [{"image_size": [size, size], "reason": str(error)}]
    scene = noise((size, size), model.context_frames, REAL_TIME_HZ)
    return frames_per_second(Session(model), scene, batches, effort, device)


def _costs(
    candidate: Candidate, session: Session, scene: Scene, device: torch.device, seconds: float, found: Findings
) -> dict[str, Any]:
    row: dict[str, Any] = {**(cost.weights(session) or {}), **(cost.flops(session, scene) or {})}
    row["working_bytes"] = cost.working_bytes(session, scene, device)
    if device.type == "cpu":
        row["resident_bytes"] = cost.resident_bytes(candidate, scene, device)
    session.reset(*scene.context(session.model.context_frames))
    energy = energy_of(partial(_frame, session, swaying_actions(1)[:, 0]), seconds, device)
    if energy.joules is None:
        found.not_measured[f"joules_{candidate.name}_{device.type}"] = energy.reason
    else:
        row |= {"joules": energy.joules, "joules_of": energy.source}
    return row


def _frame(session: Session, action: torch.Tensor) -> None:
    session.step(action).cpu()


def _ratios(rows: dict[str, dict[str, Any]], hz: float, device: torch.device, found: Findings) -> None:
    for name, row in rows.items():
        if row["kind"] == "baseline":
            continue
        ratios = {"real_time": 1e3 / row["next_frame_ms_p50"] / hz, "later_frames": row["later_frames"]}
        for baseline in ("copy_last", "constant_flow"):
            ratios[f"vs_{baseline}"] = row["next_frame_ms_min"] / rows[baseline]["next_frame_ms_min"]
        found.ratios |= {f"{ratio}_{name}_{device.type}": value for ratio, value in ratios.items()}
