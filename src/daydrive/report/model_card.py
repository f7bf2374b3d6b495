"""Model cards for the Hugging Face Hub: the README.md of a repository with the files of a checkpoint.

Format and metadata: https://huggingface.co/docs/hub/model-cards; content: Mitchell et al. 2019.
"""

from __future__ import annotations

import json
import math
import shlex
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
from daydrive.report.tables import format_value
from daydrive.report.text import baselines_markdown, margins_markdown
from daydrive.types import ACTION_NAMES

FILES = (WEIGHTS, "config.json", "state.json")
"""Files of a checkpoint that are needed to load it."""
TASK = "image-to-video"
"""The closest of the Hub's tasks."""
TAGS = ("world-model", "driving", "video-prediction", "action-conditioned")
LICENCES = {
    "road": ("mit", "part of daydrive"),
    "comma2k19": ("mit", "MIT"),
    "kitti": ("cc-by-nc-sa-3.0", "CC BY-NC-SA 3.0"),
    "nuscenes": ("cc-by-nc-sa-4.0", "CC BY-NC-SA 4.0, terms of use"),
    "waymo": ("other", "Waymo's own, not for commercial use"),
    "argoverse2": ("cc-by-nc-sa-4.0", "CC BY-NC-SA 4.0"),
    "nuplan": ("cc-by-nc-sa-4.0", "CC BY-NC-SA 4.0, terms of use"),
    "bdd100k": ("other", "Berkeley's own, research and education"),
    "physicalai": ("other", "NVIDIA AV Dataset, not to be redistributed"),
    "gym": ("other", "the environment's"),
    "udacity": ("other", "by recording"),
    "carla": ("other", "by dataset"),
    "lerobot": ("other", "by dataset"),
}
"""By source: the Hub's identifier of the licence of the drives, and its description."""
OTHER_LICENCE = ("other", "that of the person who recorded them")


class Training(NamedTuple):
    """Details of a training, from a checkpoint's folder and its run.

    minutes: of the training steps alone, without validation and saving; None without the run's log. provenance: the
    contents of the run's `provenance.json`, empty without one.
    """

    config: Config
    step: int
    parameters: int
    minutes: float | None
    provenance: Mapping[str, Any]


def training_of(weights: Path | None) -> Training | None:
    """Reads the details of a training; None if `weights` is not the file of a daydrive checkpoint. UserError if it
    cannot be read."""
    if weights is None or not all((weights.parent / name).is_file() for name in FILES):
        return None
    folder = weights.parent
    run = folder.parent.parent if folder.parent.name == "checkpoints" else folder
    step = int(read_state(folder)["step"])
    with safe_open(weights, framework="pt") as tensors:
        parameters = sum(math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118
    file = run / "provenance.json"
    provenance = _parse(file.read_text(encoding="utf-8", errors="replace")) if file.is_file() else {}
    return Training(read_config(folder), step, parameters, _minutes(run / "metrics.jsonl", step), provenance)


def _minutes(log: Path, last_step: int) -> float | None:
    """Minutes up to a step: the seconds per step times the steps between the lines of a run's log."""
    if not log.is_file():
        return None
    seconds, before = 0.0, 0
    for record in map(_parse, log.read_text(encoding="utf-8", errors="replace").splitlines()):
        step, step_seconds = record.get("step"), record.get("speed/step_seconds")
        if isinstance(step, int) and isinstance(step_seconds, int | float) and before < step <= last_step:
            seconds, before = seconds + step_seconds * (step - before), step
    return seconds / 60 if before else None


def _parse(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}


def model_card(evaluation: Mapping[str, Any], store: Store, training: Training) -> str:
    """The text of the model card. evaluation: the result of `evaluate` on `store`."""
    name = str(evaluation.get("name") or "daydrive world model")
    head = yaml.safe_dump(_metadata(evaluation, store, name), sort_keys=False, allow_unicode=True)
    parts = [
        f"# {name}",
        _summary(store, training),
        "## Intended use\n\n" + _intended_use(store),
        "## Training data\n\n" + _training_data(store, training),
        "## Training\n\n" + _training(training),
        "## Evaluation\n\n" + _evaluation(evaluation),
        "## Limits\n\n" + _limits(evaluation),
        "## How to load it\n\n" + _loading(store, training),
    ]
    return f"---\n{head}---\n\n" + "\n\n".join(part.strip() for part in parts) + "\n"


def plain_card(training: Training) -> str:
    """The text of a model card without an evaluation; a publisher adds the licence and the data."""
    config = training.config
    size = config.model.image_size
    name = f"daydrive {config.model.type}"
    head = {"library_name": "daydrive", "pipeline_tag": TASK, "tags": list(TAGS)}
    images = "" if size is None else f" of {size[0]}x{size[1]} pixels"
    parts = [
        f"# {name}",
        f"A world model of driving: from {config.training.context_frames} images{images} and the driver's actions "
        f"({', '.join(ACTION_NAMES)}) it predicts the camera's next frames. {training.parameters:,} parameters.",
        "## Intended use\n\nResearch on world models. **Not for controlling a car**, and not for assessing driving "
        "safety.",
        "## Training\n\n" + _training(training),
        "## Evaluation\n\nNone is recorded here; `daydrive evaluate` writes a model card with its results.",
    ]
    return f"---\n{yaml.safe_dump(head, sort_keys=False)}---\n\n" + "\n\n".join(parts) + "\n"


def _metadata(evaluation: Mapping[str, Any], store: Store, name: str) -> dict[str, Any]:
    """The Hub's metadata: https://github.com/huggingface/hub-docs/blob/main/modelcard.md."""
    licences = {LICENCES.get(source, OTHER_LICENCE)[0] for source in _sources(store)}
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
            {
                "type": "controllability",
                "value": mark,
                "name": "share of passed checks of the controllability scorecard",
            }
        )
    result = {
        "task": {"type": TASK, "name": "action-conditioned driving video prediction"},
        "dataset": {"type": "-".join(data), "name": store.path.name, "split": evaluation["split"],
                    "revision": store.fingerprint},
        "metrics": values,
    }  # fmt: skip
    return {
        "license": licence,
        **({"license_name": "that-of-the-training-drives"} if licence == "other" else {}),
        "library_name": "daydrive",
        "pipeline_tag": TASK,
        "tags": [*TAGS, *_sources(store)],
        "datasets": data,
        "metrics": metrics,
        "model-index": [{"name": name, "results": [result]}],
    }


def _sources(store: Store) -> list[str]:
    return list(dict.fromkeys(member.source for member in store.members))


def _summary(store: Store, training: Training) -> str:
    height, width = store.image_size
    context, skip = training.config.training.context_frames, training.config.data.frame_skip
    return (
        f"A world model of driving: from {context} images of {height}x{width} pixels and the driver's actions "
        f"({', '.join(ACTION_NAMES)}) it predicts the camera's next frames, {store.clip_hz(skip):g} per second. "
        f"{training.parameters:,} parameters, trained with daydrive."
    )


def _intended_use(store: Store) -> str:
    return (
        "Research on world models: predicting how drives like those of the training data "
        f"({', '.join(_sources(store))}) would look with other actions, comparing models, testing metrics.\n\n"
        "**Not for controlling a car**, and not for assessing driving safety: the predicted images are plausible but "
        "not reliable, objects on the road appear and disappear, and the model does not estimate its uncertainty."
    )


def _training_data(store: Store, training: Training) -> str:
    drives = {name: store.split(name) for name in ("train", "val", "test")}
    rows = [
        f"- {name}: {len(found)} drives, {sum(d.frames for d in found) / store.hz / 60:.1f} minutes"
        for name, found in drives.items()
    ]
    licences = [f"- {source}: {LICENCES.get(source, OTHER_LICENCE)[1]}" for source in _sources(store)]
    same = training.provenance.get("store", {}).get("fingerprint") == store.fingerprint
    note = (
        "The model was trained on the drives of split 'train' of this store"
        if same
        else "The store on which the model was evaluated"
    )
    return (
        f"{note} (fingerprint `{store.fingerprint}`, {store.hz:g} Hz):\n\n"
        + "\n".join(rows)
        + "\n\nLicences of the drives by source. The licence in the metadata follows them; the publisher of the "
        "model decides on it:\n\n" + "\n".join(licences)
    )


def _training(training: Training) -> str:
    config, provenance = training.config, training.provenance
    lines = {
        "steps": training.step,
        "clips per step and process": config.training.batch_size * config.training.gradient_accumulation,
        "optimizer": f"{config.optimizer.type}, learning rate {config.optimizer.lr:g}",
        "minutes of training steps": None if training.minutes is None else f"{training.minutes:.1f}",
        "hardware": provenance.get("device"),
        "started": provenance.get("began"),
        "seed": config.training.seed,
        "command": _command(provenance.get("command")),
        "code": provenance.get("git_commit"),
        "versions": provenance.get("versions"),
    }
    settings = "All settings are in `config.json`."
    return (
        "\n".join(f"- {name}: {format_value(value)}" for name, value in lines.items() if value is not None)
        + f"\n\n{settings}"
    )


def _command(words: Any) -> str | None:
    """The command of a run; None without one. Cards are shared, so absolute paths are reduced to their names."""
    if not isinstance(words, list) or not words:
        return None
    return f"`{shlex.join(Path(word).name if Path(word).is_absolute() else word for word in map(str, words))}`"


def _evaluation(evaluation: Mapping[str, Any]) -> str:
    drives = f"On {len(evaluation['held'])} held-out drives. " if evaluation["split"] != "train" else ""
    parts = [
        drives + usable_sentence(evaluation),
        margins_markdown(dict(evaluation)),
        baselines_markdown(evaluation),
        verdict_sentence(evaluation),
    ]
    return "\n\n".join(part.strip() for part in parts if part)


def _limits(evaluation: Mapping[str, Any]) -> str:
    lines = [
        f"- Its rollouts are better than every baseline for {evaluation['usable_seconds']:.1f} s; later frames may be "
        "no better than the last context frame.",
        "- It was trained only on the roads, weather and cameras of its training drives.",
    ]
    if "controllability" in evaluation:
        scores = evaluation["controllability"]
        failed = [check["name"] for check in scores["checks"] if check["passed"] is False]
        note = f"; not passed: {', '.join(failed)}" if failed else ""
        lines.append(f"- Verdict of the controllability scorecard: it {scores['verdict']}{note}.")
    if "long_dreams" in evaluation:
        lines.append(f"- {long_sentence(evaluation)}")
    return "\n".join(lines)


def _loading(store: Store, training: Training) -> str:
    height, width = store.image_size
    context = training.config.training.context_frames
    return f"""Install daydrive, and put {", ".join(f"`{name}`" for name in FILES)} of the checkpoint next to this file.

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
