"""Exports a checkpoint: as ONNX, as a program of PyTorch, as a web page, or as a folder to share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from daydrive.checkpoint import RolloutModel, load
from daydrive.errors import UserError, did_you_mean
from daydrive.export import onnx_files, parity, web, web_runtime
from daydrive.export.clips import ExportClips, read
from daydrive.export.exported import ExportedModel, Graph, onnx_graph, torch_graph
from daydrive.export.graphs import Graphs, trace
from daydrive.export.state import flatten
from daydrive.files import check_folder, write_json
from daydrive.machine import describe_machine
from daydrive.models import WorldModel
from daydrive.models.rollout import STANDING_CHANGE
from daydrive.pretrained import save_pretrained
from daydrive.types import ACTION_HIGH, ACTION_LOW, ACTION_NAMES
from daydrive.workspace import staged_folder

PRECISIONS = {
    "onnx": ("float32", "float16", "int8"),
    "torch": ("float32",),
    "web": ("float32", "float16", "int8"),
    "pretrained": ("float32", "float16"),
}
"""By format."""
VERSION = 1
"""Of `model.json`."""


@dataclass(frozen=True)
class ExportConfig:
    """format: see `PRECISIONS`. precision: of the stored weights. data_root: store whose split is used to compare and
    for start moments; default: the road world. clips: number of clips to compare. runtime: see `read_runtime`."""

    format: str
    precision: str = "float32"
    data_root: Path | None = None
    split: str = "test"
    clips: int = 8
    runtime: Path | None = None


def export(
    checkpoint: Path, output: Path, config: ExportConfig, report: Callable[[str], object] = print
) -> dict[str, Any] | None:
    """Write an export into the folder `output`, and return the contents of its `parity.json`; None for `pretrained`.

    Nothing is written if the exported model differs from PyTorch's by more than `parity.check` allows. Raises UserError
    for an unknown format or precision, a missing package, a checkpoint that cannot be read or exported, and an output
    that cannot be written.
    """
    _check_options(config)
    if config.format == "pretrained":
        save_pretrained(checkpoint, output, config.precision)
        return None
    if config.format != "torch":
        onnx_files.check_packages()
    runtime = web_runtime.read_runtime(config.runtime) if config.format == "web" else {}
    check_folder(output, "output folder")
    loaded = load(checkpoint)
    model = loaded.model
    assert isinstance(model, WorldModel)
    clips = read(loaded, config.data_root, config.split, max(config.clips, web.STARTS if runtime else 1), parity.STEPS)
    report("tracing the model")
    graphs = trace(model)
    if graphs.init is None:
        report(f"without a graph for the start, which cannot be exported ({graphs.no_init})")
        if runtime:
            raise UserError(f"a page needs a graph for the start, which cannot be exported ({graphs.no_init})")
    with staged_folder(output) as folder:
        report("converting and comparing with PyTorch")
        exported = _write_graphs(folder, graphs, model, config)
        result = _measure(loaded, exported, clips, config, graphs.no_init)
        about = _about(loaded, graphs, clips, config)
        if runtime:
            about["starts"] = web.write_page(folder, runtime, clips, model.context_frames)
        result["bytes"] = {file.name: file.stat().st_size for file in sorted(folder.iterdir())}
        write_json(folder / "model.json", about)
        write_json(folder / "parity.json", result)
        if runtime:
            web.check_size(folder, config.precision)
    return result


def _check_options(config: ExportConfig) -> None:
    if config.format not in PRECISIONS:
        raise UserError(f"there is no export format '{config.format}'{did_you_mean(config.format, PRECISIONS)}")
    known = PRECISIONS[config.format]
    if config.precision not in known:
        raise UserError(
            f"the format {config.format} has no precision '{config.precision}'; its precisions: {', '.join(known)}"
        )
    if config.clips < 1:
        raise UserError(f"--clips must be at least 1, not {config.clips}")
    if config.runtime is not None and config.format != "web":
        raise UserError(f"--runtime is for --format web, not {config.format}")


def _write_graphs(folder: Path, graphs: Graphs, model: WorldModel, config: ExportConfig) -> ExportedModel:
    """Write the graphs; they are read back from their files."""
    names = [tensor.name for tensor in graphs.state]
    step_names = (["action", *names], ["frame", *(tensor.next_name for tensor in graphs.state)])
    programs: dict[str, tuple[ExportedProgram, list[str], list[str]]] = {"step": (graphs.step, *step_names)}
    if graphs.init is not None:
        programs["init"] = (graphs.init, ["images", "actions"], names)
    if config.format == "torch":
        for name, (program, _, _) in programs.items():
            torch.export.save(program, folder / f"{name}.pt2")
        read_back: dict[str, Graph] = {name: torch_graph(folder / f"{name}.pt2") for name in programs}
    else:
        protos = {}
        for name, (program, inputs, outputs) in programs.items():
            protos[f"{name}.onnx"] = proto = onnx_files.to_onnx(program, inputs, outputs)
            if config.precision != "float32":
                onnx_files.compress(proto, program.state_dict, config.precision)
        onnx_files.save(protos, folder)
        read_back = {name: onnx_graph(folder / f"{name}.onnx", threads=1) for name in programs}
    init = read_back.get("init", lambda inputs: list(flatten(model.init_state(*inputs)).values()))
    return ExportedModel(read_back["step"], init, model.context_frames)


def _measure(
    loaded: RolloutModel, exported: ExportedModel, clips: ExportClips, config: ExportConfig, no_init: str | None
) -> dict[str, Any]:
    compared = clips._replace(images=clips.images[: config.clips], actions=clips.actions[: config.clips])
    differences = parity.compare(loaded.model, exported, compared)
    parity.check(differences, config.precision)
    return {
        "checkpoint": loaded.name,
        "training_step": loaded.step,
        "format": config.format,
        "precision": config.precision,
        "init": no_init or "exported",
        "tolerance": {"max_difference": parity.TOLERANCE, "psnr_loss": parity.MAX_LOSS},
        **differences,
        "latency_ms": parity.latency(loaded.model, exported, compared),
        "machine": describe_machine(torch.device("cpu")),
    }


def _about(loaded: RolloutModel, graphs: Graphs, clips: ExportClips, config: ExportConfig) -> dict[str, Any]:
    """Contents of `model.json`: everything that a program needs to run the graphs."""
    suffix = ".pt2" if config.format == "torch" else ".onnx"
    assert loaded.config is not None
    return {
        "version": VERSION,
        "name": loaded.name,
        "architecture": loaded.config.model.type,
        "precision": config.precision,
        "image_size": loaded.image_size,
        "pixel_aspect": clips.pixel_aspect,
        "context_frames": loaded.context_frames,
        "hz": clips.hz,
        "standing_change": STANDING_CHANGE,
        "actions": [
            {"name": name, "low": low, "high": high}
            for name, low, high in zip(ACTION_NAMES, ACTION_LOW.tolist(), ACTION_HIGH.tolist(), strict=True)
        ],
        "state": [
            {"name": tensor.name, "next": tensor.next_name, "shape": tensor.shape, "dtype": tensor.dtype}
            for tensor in graphs.state
        ],
        "step": f"step{suffix}",
        "init": None if graphs.init is None else f"init{suffix}",
        "weights": None if config.format == "torch" else onnx_files.WEIGHTS_FILE,
    }
