"""A model card as the Hugging Face Hub reads it: README.md of a repository with the files of a checkpoint.

Form and metadata: https://huggingface.co/docs/hub/model-cards; what it says: Mitchell et al. 2019.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from safetensors import safe_open

from daydrive.checkpoint import WEIGHTS, read_config, read_state
from daydrive.config import Config
from daydrive.data.store.store import Store
from daydrive.report.rows import shown_steps
from daydrive.report.sentences import long_sentence, usable_sentence, verdict_sentence
from daydrive.report.tables import plain
from daydrive.report.text import baselines_markdown, margins_markdown
from daydrive.types import ACTION_NAMES

FILES = (WEIGHTS, "config.json", "state.json")
"""Of a checkpoint, that a repository needs to be loaded."""
TASK = "image-to-video"
"""The Hub's task that is nearest."""
LICENCES = {
    "road": ("mit", "part of daydrive"),
    "comma2k19": ("mit", "MIT"),
    "kitti": ("cc-by-nc-sa-3.0", "CC BY-NC-SA 3.0"),
    "nuscenes": ("cc-by-nc-sa-4.0", "CC BY-NC-SA 4.0, terms of use"),
    "waymo": ("other", "Waymo's own, not for commercial use"),
    "gym": ("other", "the environment's"),
    "udacity": ("other", "by recording"),
    "carla": ("other", "by dataset"),
    "lerobot": ("other", "by dataset"),
}
"""By source: the Hub's name for the licence of the drives, and the same in words."""
OWN = ("other", "that of whoever recorded them")


class Training(NamedTuple):
    """What a checkpoint's folder, and the run that it lies in, say of its training.

    minutes: of the steps alone, without validation and saving; None where the run's log is not there. provenance:
    `provenance.json` of the run, or nothing.
    """

    config: Config
    step: int
    parameters: int
    minutes: float | None
    provenance: Mapping[str, Any]


def training_of(weights: Path | None) -> Training | None:
    """None for what is not a daydrive checkpoint's file. UserError where it can't be read."""
    if weights is None or not all((weights.parent / name).is_file() for name in FILES):
        return None
    folder = weights.parent
    run = folder.parent.parent if folder.parent.name == "checkpoints" else folder
    step = int(read_state(folder)["step"])
    with safe_open(weights, framework="pt") as tensors:
        parameters = sum(math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118
    note = run / "provenance.json"
    provenance = _record(note.read_text(encoding="utf-8", errors="replace")) if note.is_file() else {}
    return Training(read_config(folder), step, parameters, _minutes(run / "metrics.jsonl", step), provenance)


def _minutes(log: Path, until: int) -> float | None:
    """Seconds a step times steps, from line to line of a run's log."""
    if not log.is_file():
        return None
    seconds, before = 0.0, 0
    for record in map(_record, log.read_text(encoding="utf-8", errors="replace").splitlines()):
        step, cost = record.get("step"), record.get("speed/step_seconds")
        if isinstance(step, int) and isinstance(cost, int | float) and before < step <= until:
            seconds, before = seconds + cost * (step - before), step
    return seconds / 60 if before else None


def _record(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}


def model_card(evaluation: Mapping[str, Any], store: Store, training: Training) -> str:
    """The whole text. evaluation: what `evaluate` returns; store: what it was evaluated on."""
    name = str(evaluation.get("name") or "daydrive world model")
    head = yaml.safe_dump(_metadata(evaluation, store, name), sort_keys=False, allow_unicode=True)
    parts = [
        f"# {name}",
        _what(store, training),
        "## Intended use\n\n" + _use(store),
        "## Training data\n\n" + _data(store, training),
        "## Training\n\n" + _training(training),
        "## Evaluation\n\n" + _evaluation(evaluation),
        "## Limits\n\n" + _limits(evaluation),
        "## How to load it\n\n" + _loading(store, training),
    ]
    return f"---\n{head}---\n\n" + "\n\n".join(part.strip() for part in parts) + "\n"


def _metadata(evaluation: Mapping[str, Any], store: Store, name: str) -> dict[str, Any]:
    """What the Hub reads: https://github.com/huggingface/hub-docs/blob/main/modelcard.md."""
    licences = {LICENCES.get(source, OWN)[0] for source in _sources(store)}
    licence = licences.pop() if len(licences) == 1 else "other"
    data = [f"daydrive-{source}" for source in _sources(store)]
    metrics = [metric for metric in ("psnr", "ssim", "lpips") if metric in evaluation["horizons"][0]]
    values = [{"type": "usable_seconds", "value": evaluation["usable_seconds"], "name": "usable seconds"}]
    values += [
        {"type": metric, "value": entry[metric], "name": f"{metric.upper()} at step {entry['step']}"}
        for entry in shown_steps(evaluation)
        for metric in metrics
        if entry[metric] is not None
    ]
    if "controllability" in evaluation:
        mark = evaluation["controllability"]["mark"]["share"]
        values.append(
            {"type": "controllability", "value": mark, "name": "share of the controllability scorecard's checks passed"}
        )
    result = {
        "task": {"type": TASK, "name": "driving, frame by frame from actions"},
        "dataset": {"type": "-".join(data), "name": store.path.name, "split": evaluation["split"],
                    "revision": store.fingerprint},
        "metrics": values,
    }  # fmt: skip
    return {
        "license": licence,
        **({"license_name": "that-of-the-training-drives"} if licence == "other" else {}),
        "library_name": "daydrive",
        "pipeline_tag": TASK,
        "tags": ["world-model", "driving", "video-prediction", "action-conditioned", *_sources(store)],
        "datasets": data,
        "metrics": metrics,
        "model-index": [{"name": name, "results": [result]}],
    }


def _sources(store: Store) -> list[str]:
    return list(dict.fromkeys(member.source for member in store.members))


def _what(store: Store, training: Training) -> str:
    height, width = store.image_size
    context, skip = training.config.training.context_frames, training.config.data.frame_skip
    return (
        f"A world model of driving: from {context} images of {height}x{width} pixels and what the driver does "
        f"({', '.join(ACTION_NAMES)}) it shows what the car will see, {store.clip_hz(skip):g} times a second. "
        f"{training.parameters:,} parameters, made with daydrive."
    )


def _use(store: Store) -> str:
    return (
        f"Research into world models: dreaming what a drive like those of its training ({', '.join(_sources(store))}) "
        "looks like under other actions, comparing models, trying metrics.\n\n"
        "**Not for controlling a car**, and not for judging whether a way of driving is safe: its images are guesses "
        "that look right, it invents and forgets what is on the road, and nothing in it knows when it is wrong."
    )


def _data(store: Store, training: Training) -> str:
    drives = {name: store.split(name) for name in ("train", "val", "test")}
    rows = [
        f"- {name}: {len(found)} drives, {sum(d.frames for d in found) / store.hz / 60:.1f} minutes"
        for name, found in drives.items()
    ]
    licences = [f"- {source}: {LICENCES.get(source, OWN)[1]}" for source in _sources(store)]
    same = training.provenance.get("store", {}).get("fingerprint") == store.fingerprint
    note = (
        "It was trained on the drives of split 'train' of this store" if same else "The store that it was evaluated on"
    )
    return (
        f"{note} (fingerprint `{store.fingerprint}`, {store.hz:g} Hz):\n\n"
        + "\n".join(rows)
        + "\n\nLicence of the drives, by source; the model's, above, follows it, and who publishes the model "
        "decides:\n\n" + "\n".join(licences)
    )


def _training(training: Training) -> str:
    config, note = training.config, training.provenance
    lines = {
        "steps": training.step,
        "clips a step, of each process": config.training.batch_size * config.training.gradient_accumulation,
        "optimizer": f"{config.optimizer.type}, learning rate {config.optimizer.lr:g}",
        "minutes of steps": None if training.minutes is None else f"{training.minutes:.1f}",
        "hardware": note.get("device"),
        "began": note.get("began"),
        "seed": config.training.seed,
        "code": note.get("git_commit"),
        "versions": note.get("versions"),
    }
    settings = "All settings are in `config.json`."
    return (
        "\n".join(f"- {name}: {plain(value)}" for name, value in lines.items() if value is not None) + f"\n\n{settings}"
    )


def _evaluation(evaluation: Mapping[str, Any]) -> str:
    held = f"On {len(evaluation['held'])} drives that it never saw. " if evaluation["split"] != "train" else ""
    parts = [
        held + usable_sentence(evaluation),
        margins_markdown(dict(evaluation)),
        baselines_markdown(evaluation),
        verdict_sentence(evaluation),
    ]
    return "\n\n".join(part.strip() for part in parts if part)


def _limits(evaluation: Mapping[str, Any]) -> str:
    lines = [
        f"- Its dreams are better than any guess for {evaluation['usable_seconds']:.1f} s; what comes later may be "
        "worth no more than the last image.",
        "- It knows the roads, weather and cameras of its training drives, and no others.",
    ]
    if "controllability" in evaluation:
        scores = evaluation["controllability"]
        failed = [check["name"] for check in scores["checks"] if check["passed"] is False]
        note = f"; not passed: {', '.join(failed)}" if failed else ""
        lines.append(
            f"- Asked whether it obeys its driver, the controllability scorecard says: it {scores['verdict']}{note}."
        )
    if "long_dreams" in evaluation:
        lines.append(f"- {long_sentence(evaluation)}")
    return "\n".join(lines)


def _loading(store: Store, training: Training) -> str:
    height, width = store.image_size
    context = training.config.training.context_frames
    return f"""Install daydrive, and put {", ".join(f"`{name}`" for name in FILES)} of the checkpoint beside this file.

```python
from pathlib import Path

import torch

from daydrive.checkpoint import load
from daydrive.models.rollout import rollout_uint8

model = load(Path(".")).model
seen = torch.zeros(1, {context}, 3, {height}, {width}, dtype=torch.uint8)  # the last {context} images, RGB
actions = torch.zeros(1, {context - 1} + 10, {len(ACTION_NAMES)})  # {", ".join(ACTION_NAMES)}
frames = rollout_uint8(model, seen, actions)  # 10 steps ahead, uint8 (1, 10, 3, {height}, {width})
```"""
