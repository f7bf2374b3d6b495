"""Diagnosis of a step whose loss or gradient is not finite: which clip and loss component it is. The step is saved and
can be replayed.

run/faults/step-12/   clips.json   model.safetensors (before the update)   config.json
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from daydrive import checkpoint, tensors
from daydrive.config import Config, as_tree
from daydrive.data.sampling.augment import DrivingAugmentation
from daydrive.data.sampling.clips import read_clips
from daydrive.data.store.store import Store
from daydrive.distributed import DistributedContext
from daydrive.errors import UserError
from daydrive.files import atomic_replace, read_json, write_json
from daydrive.training.engine import Engine
from daydrive.training.logging.alarms import lower_rates
from daydrive.training.resume import fit_to_store
from daydrive.training.step import clips_per_pass, evaluate_batch
from daydrive.types import ACTION_HIGH, ACTION_LOW, ACTION_NAMES, Batch, Clip

RECORD = "clips.json"


class NonfiniteStepError(UserError):
    """A step's loss or gradient is not finite."""


class ClipDiagnosis(NamedTuple):
    """A clip of the step, with what is wrong with it.

    sample: its index in the sample order. frame: its first frame in the drive. parts: components of its loss that are
    not finite. gradients: parameters whose gradient it makes non-finite. inputs: invalid actions, as sentences.
    """

    sample: int
    drive: str
    frame: int
    length: int
    frame_skip: int
    parts: list[str]
    gradients: list[str]
    inputs: list[str]

    @property
    def nonfinite(self) -> bool:
        return bool(self.parts or self.gradients)

    @property
    def location(self) -> str:
        last = self.frame + (self.length - 1) * self.frame_skip
        return f"sample {self.sample}, drive '{self.drive}', frames {self.frame} to {last}"

    @property
    def symptoms(self) -> str:
        """Empty for a clip without a problem."""
        if self.parts:
            return f"{', '.join(self.parts)} not finite"
        if self.gradients:
            return f"loss finite, but not the gradient of {_abbreviate(self.gradients)}"
        return ""


class ReplayResult(NamedTuple):
    """reproduced: a clip that was not finite is so again. lines: the result as text."""

    reproduced: bool
    lines: list[str]


def nonfinite_error(
    run: Path, step: int, batches: Sequence[Batch], engine: Engine, store_path: Path
) -> NonfiniteStepError:
    """Find what made the gradient of `step` non-finite, save the step, and return the error to raise.

    batches: those of the step, as trained on. Every process calls it; it returns on the first one that holds a
    non-finite clip.
    """
    store, dist = Store.open(store_path), engine.dist
    clips = diagnose_clips(engine, batches, store)
    broken = broken_weights(engine.model)
    weights = tensors.gather(engine.model.state_dict())
    found_here = any(clip.nonfinite for clip in clips)
    found_on = dist.sum({str(rank): float(found_here and rank == dist.rank) for rank in range(dist.world_size)})
    if dist.rank != next((rank for rank in range(dist.world_size) if found_on[str(rank)]), 0):
        dist.barrier()  # the other process fails, which ends this one
    cause, advice = likely_cause(clips, broken, engine.config, store.path)
    folder = run / "faults" / f"step-{step}"
    try:
        write_nonfinite_record(folder, step, clips, weights, engine.config, store)
        outcome = f"'daydrive replay {folder}' reproduces it"
    except OSError as error:
        outcome = f"the record could not be written to {folder} ({error.strerror or error})"
    return NonfiniteStepError(f"the gradient of step {step} is not finite: {cause}; to try: {advice}; {outcome}")


def write_nonfinite_record(
    folder: Path, step: int, clips: Sequence[ClipDiagnosis], weights: dict[str, Tensor], config: Config, store: Store
) -> None:
    """Save the step's clips, weights and config to `folder`. Raises OSError where the disk is full."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
    with atomic_replace(folder) as temporary:
        temporary.mkdir()
        tensors.write(weights, temporary / checkpoint.WEIGHTS)
        write_json(temporary / "config.json", as_tree(config))
        record = {
            "format": checkpoint.FORMAT,
            "step": step,
            "store": str(store.path.resolve()),
            "fingerprint": store.fingerprint,
            "clips": [clip._asdict() for clip in clips],
        }
        write_json(temporary / RECORD, record)


def replay(fault: Path, device: torch.device, store_path: Path | None = None) -> ReplayResult:
    """Read the clips of a saved step again, load its weights, and evaluate each clip.

    store_path: where the store is now; default: its path at the time. Raises UserError where the record or the store
    is invalid.
    """
    record, recorded = _read_record(fault)
    store = Store.open(store_path or Path(record["store"]))
    config = fit_to_store(checkpoint.read_config(fault), store)
    engine = Engine(config, DistributedContext.single(device))
    checkpoint.load_weights(engine.model, fault, format_version=record.get("format", 2))
    engine.model.train()
    batch = read_clips(store, [_clip_in(store, clip) for clip in recorded])
    augment = DrivingAugmentation.from_config(config.data.augmentation, config.training.seed)
    batch = augment(replace(batch, samples=[clip.sample for clip in recorded])).to(device)
    clips = diagnose_clips(engine, batch.split(config.training.batch_size), store)

    found = [clip for clip in clips if clip.nonfinite]
    before = {clip.sample for clip in recorded if clip.nonfinite}
    reproduced = any(clip.sample in before for clip in found)
    lines = [f"step {record['step']}, {len(clips)} clips of {store.path}"]
    if store.fingerprint != record["fingerprint"]:
        lines.append("the store has changed since then")
    lines += [f"{clip.location}: {'; '.join([clip.symptoms, *clip.inputs])}" for clip in found]
    lines.append(f"{len(clips) - len(found)} of {len(clips)} clips are finite")
    cause, advice = likely_cause(clips, broken_weights(engine.model), config, store.path)
    lines += [f"reproduced: {cause}", f"to try: {advice}"] if reproduced else ["not reproduced"]
    return ReplayResult(reproduced, lines)


def diagnose_clips(engine: Engine, batches: Sequence[Batch], store: Store) -> list[ClipDiagnosis]:
    """Evaluate the loss of each clip; where all losses are finite, also the gradient of each clip by itself."""
    clips = []
    with torch.no_grad():
        for batch in batches:
            for micro_batch in batch.split(clips_per_pass(batch)):
                losses = {
                    name: values.isfinite().tolist() for name, values in engine.evaluate(micro_batch).parts.items()
                }
                for i, clip in enumerate(micro_batch.clips):
                    bad = [name for name, finite in losses.items() if not finite[i]]
                    parts = [name for name in bad if name != "loss"] or bad
                    frame = store.locate(clip.start)[1]
                    inputs = bad_actions(micro_batch.actions[i], frame, clip.frame_skip)
                    location = (micro_batch.samples[i], clip.drive, frame, clip.length, clip.frame_skip)
                    clips.append(ClipDiagnosis(*location, parts, [], inputs))
    if engine.sharded or any(clip.nonfinite for clip in clips):
        return clips
    singles = [single for batch in batches for single in batch.split(1)]
    return [c._replace(gradients=_bad_gradients(engine, one)) for c, one in zip(clips, singles, strict=True)]


def bad_actions(actions: Tensor, frame: int, frame_skip: int) -> list[str]:
    """Invalid values in actions (T-1, action_dim), which start at `frame`. Images are uint8 and are always finite."""
    problems = []
    for name, values, low, high in zip(ACTION_NAMES, actions.T.tolist(), ACTION_LOW, ACTION_HIGH, strict=True):
        bad = [t for t, value in enumerate(values) if not low <= value <= high]
        if bad:
            first = f"{name} is {values[bad[0]]:g} at frame {frame + bad[0] * frame_skip}, not in [{low:g}, {high:g}]"
            problems.append(first + (f" (and {len(bad) - 1} more times)" if len(bad) > 1 else ""))
    return problems


def broken_weights(model: nn.Module) -> list[str]:
    """Names of parameters that are not finite; of a sharded parameter, this process's shard is checked."""
    local = {name: getattr(p, "_local_tensor", p) for name, p in model.named_parameters()}
    return [name for name, weight in local.items() if not weight.isfinite().all()]


def likely_cause(clips: Sequence[ClipDiagnosis], broken: Sequence[str], config: Config, store: Path) -> tuple[str, str]:
    """The most likely cause, and what to try."""
    suspects = [clip for clip in clips if clip.nonfinite]
    slower, much_slower = lower_rates(config), lower_rates(config, by=10)
    if broken:
        return f"the weights are no longer finite ({_abbreviate(broken)}): the training has diverged", much_slower
    if not suspects:
        exact = "training.use_amp=false" if config.training.use_amp else slower
        return f"each of the {len(clips)} clips is finite on its own", exact
    all_suspect = len(suspects) == len(clips)
    blamed = [clip for clip in suspects if clip.inputs]
    if blamed and (len(blamed) == len(suspects) or not all_suspect):
        others = f", and {len(suspects) - 1} more clips" if len(suspects) > 1 else ""
        remedy = (
            f"repair or leave out that recording and prepare the store again ('daydrive find-nan {store}' lists all)"
        )
        return f"{blamed[0].location}: {blamed[0].inputs[0]}{others}", remedy
    first = suspects[0]
    if all_suspect and len(clips) > 1:
        return f"all {len(clips)} clips ({first.symptoms}): the training has diverged", much_slower
    exact = " training.use_amp=false" if config.training.use_amp else ""
    return f"{first.location}: {first.symptoms}, although its actions are valid", slower + exact


def _bad_gradients(engine: Engine, single: Batch) -> list[str]:
    names, parameters = zip(*engine.model.named_parameters(), strict=True)
    result = evaluate_batch(engine.objective, replace(single, weights=None), engine.precision.autocast)
    gradients = torch.autograd.grad(result.loss, parameters, allow_unused=True)
    return [n for n, g in zip(names, gradients, strict=True) if g is not None and not g.isfinite().all()]


def _read_record(fault: Path) -> tuple[dict[str, Any], list[ClipDiagnosis]]:
    file = fault / RECORD
    if not file.is_file():
        raise UserError(
            f"{fault} is not the record of a failed step: it has no {RECORD}; a run writes them to RUN/faults/step-N"
        )
    record = read_json(file, "record of a failed step")
    try:
        recorded = [ClipDiagnosis(**clip) for clip in record["clips"]]
        numbers = [n for clip in recorded for n in (clip.sample, clip.frame, clip.length, clip.frame_skip)]
        texts = [record["store"], record["fingerprint"], *(clip.drive for clip in recorded)]
        known = all(type(n) is int for n in numbers) and all(type(text) is str for text in texts)
    except (KeyError, TypeError):
        known = False
    if not known or not recorded or "step" not in record:
        raise UserError(f"{file} does not list the clips of a step")
    return record, recorded


def _clip_in(store: Store, clip: ClipDiagnosis) -> Clip:
    drive = next((drive for drive in store.drives if drive.name == clip.drive), None)
    if drive is None:
        raise UserError(f"the store {store.path} has no drive '{clip.drive}'; --data-root names another store")
    if min(clip.frame, clip.length - 2, clip.frame_skip - 1) < 0 or (
        clip.frame + (clip.length - 1) * clip.frame_skip >= drive.frames
    ):
        raise UserError(
            f"the drive '{clip.drive}' of {store.path} has {drive.frames} frames, which do not include {clip.location}"
        )
    return Clip(clip.drive, drive.start + clip.frame, clip.length, clip.frame_skip)


def _abbreviate(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
