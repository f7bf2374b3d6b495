"""ONNX files from traced graphs: weights in several precisions, stored once for all graphs."""

from __future__ import annotations

import hashlib
import logging
import warnings
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch.export import ExportedProgram

from daydrive.errors import UserError

if TYPE_CHECKING:
    from onnx import ModelProto, TensorProto

OPSET = 20
"""The first with GridSample for any number of dimensions and with Gelu."""
WEIGHTS_FILE = "weights.bin"
LARGE = 256
"""Bytes from which a tensor is stored in `WEIGHTS_FILE`, outside of the graph."""
ALIGNMENT = 64
"""Bytes; of weights in their file, so that they can be used where they are mapped into memory."""


def check_packages() -> None:
    """Raise UserError if packages for ONNX are missing."""
    missing = next((name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None), None)
    if missing is not None:
        raise UserError(f"exporting to ONNX needs the package {missing}: pip install 'daydrive[export]'")


def to_onnx(program: ExportedProgram, inputs: Sequence[str], outputs: Sequence[str]) -> ModelProto:
    """A graph with named inputs and outputs; the batch dimension stays dynamic."""
    with _quiet():
        exported = torch.onnx.export(
            program, dynamo=True, opset_version=OPSET, input_names=inputs, output_names=outputs, verbose=False
        )
    assert exported is not None
    proto: ModelProto = exported.model_proto
    _remove_notes(proto)
    return proto


def compress(proto: ModelProto, weights: Container[str], precision: str) -> None:
    """Store the matrices and kernels among the tensors `weights` of a graph in `precision`, float16 or int8 with one
    scale per row. They are converted back when the graph is loaded: all computation is in float32."""
    from onnx import TensorProto, helper, numpy_helper

    conversions, retained = [], []
    for tensor in proto.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or tensor.name not in weights or len(tensor.dims) < 2:
            retained.append(tensor)
            continue
        values, name = numpy_helper.to_array(tensor), tensor.name
        small = f"{name}.{precision}"
        if precision == "float16":
            retained.append(numpy_helper.from_array(values.astype(np.float16), small))
            conversions.append(helper.make_node("Cast", [small], [name], to=TensorProto.FLOAT))
            continue
        rows, scale = _to_int8(values)
        retained += [numpy_helper.from_array(rows, small), numpy_helper.from_array(scale, f"{name}.scale")]
        conversions.append(helper.make_node("Cast", [small], [f"{small}.float"], to=TensorProto.FLOAT))
        conversions.append(helper.make_node("Mul", [f"{small}.float", f"{name}.scale"], [name]))
    nodes = [*conversions, *proto.graph.node]
    del proto.graph.initializer[:], proto.graph.node[:]
    proto.graph.initializer.extend(retained)
    proto.graph.node.extend(nodes)


def _to_int8(values: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """Integers in [-127, 127] and the scale of each index of the first dimension."""
    magnitude = np.abs(values).max(axis=tuple(range(1, values.ndim)), keepdims=True)
    scale = (np.where(magnitude > 0, magnitude, 1) / 127).astype(np.float32)
    return np.rint(values / scale).astype(np.int8), scale


def save(protos: Mapping[str, ModelProto], folder: Path) -> None:
    """Write graphs by file name, and their weights to one file, each weight once."""
    from onnx import checker

    places: dict[bytes, int] = {}
    with (folder / WEIGHTS_FILE).open("wb") as file:
        for proto in protos.values():
            for tensor in proto.graph.initializer:
                data = _raw(tensor)
                if len(data) < LARGE:
                    continue
                key = hashlib.sha256(data).digest()
                if key not in places:
                    file.write(bytes(-file.tell() % ALIGNMENT))
                    places[key] = file.tell()
                    file.write(data)
                _refer_to_file(tensor, places[key], len(data))
    for name, proto in protos.items():
        (folder / name).write_bytes(proto.SerializeToString())
        checker.check_model(str(folder / name))


def _raw(tensor: TensorProto) -> bytes:
    from onnx import numpy_helper

    return bytes(tensor.raw_data) or numpy_helper.to_array(tensor).tobytes()


def _refer_to_file(tensor: TensorProto, offset: int, length: int) -> None:
    """Let a tensor refer to bytes of the weights' file."""
    from onnx import TensorProto

    for kind in ("raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data"):
        tensor.ClearField(kind)
    tensor.data_location = TensorProto.EXTERNAL
    del tensor.external_data[:]
    for key, value in (("location", WEIGHTS_FILE), ("offset", str(offset)), ("length", str(length))):
        tensor.external_data.add(key=key, value=value)


def _remove_notes(proto: ModelProto) -> None:
    """Remove notes about the code that was traced, which include local paths."""
    graph = proto.graph
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del part.metadata_props[:]
        part.ClearField("doc_string")


@contextmanager
def _quiet() -> Iterator[Any]:
    """Without the exporter's notes, which are about its own code."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
