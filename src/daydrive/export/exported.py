"""Exported graphs as a model for rollouts, to compare them with the model that they come from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

Graph = Callable[[Sequence[Tensor]], list[Tensor]]
"""Inputs in order → outputs in order."""


class ExportedModel:
    """A `Predictor` of exported graphs; see `export.graphs` for their inputs and outputs."""

    def __init__(self, step: Graph, init: Graph, context_frames: int) -> None:
        self._step, self._init, self.context_frames = step, init, context_frames

    def init_state(self, images: Tensor, actions: Tensor, generator: torch.Generator | None = None) -> list[Tensor]:
        return self._init([images, actions])

    def step(
        self, state: Sequence[Tensor], action: Tensor, generator: torch.Generator | None = None
    ) -> tuple[list[Tensor], Tensor]:
        frame, *after = self._step([action, *state])
        return after, frame


def onnx_graph(file: Path, threads: int) -> Graph:
    """A graph run by onnxruntime on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    names = [entry.name for entry in session.get_inputs()]

    def run(inputs: Sequence[Tensor]) -> list[Tensor]:
        values = {name: tensor.contiguous().numpy() for name, tensor in zip(names, inputs, strict=True)}
        return [torch.from_numpy(value) for value in session.run(None, values)]

    return run


def torch_graph(file: Path) -> Graph:
    """A graph run by PyTorch."""
    module = torch.export.load(file).module()
    return lambda inputs: list(module(*inputs))
