"""A policy as one ONNX file, without PyTorch."""

from __future__ import annotations

from pathlib import Path

import torch
from torch.export import Dim

from daydrive.decisions.policy.network import Policy
from daydrive.envs.world_model.readout import FRAMES, SIDE
from daydrive.errors import UserError
from daydrive.export import onnx_files
from daydrive.files import atomic_replace

EXAMPLES = 2
TOLERANCE = 1e-3
"""Of steering and pedals, compared with PyTorch's."""


def export_policy(policy: Policy, file: Path) -> None:
    """Write `file`: input `frames`, float32 (B, 2, 3, h, w) in [-1, 1], the newest last and with a shorter side of at
    most 64 px; output `controls`, float32 (B, 3): steering in [-1, 1], throttle and brake in [0, 1].

    Raises UserError if the packages for ONNX are missing, or if its controls differ from PyTorch's.
    """
    onnx_files.check_packages()
    import onnxruntime

    height, width = policy.info.image_size
    factor = min(1.0, SIDE / min(height, width))
    size = (round(factor * height), round(factor * width))
    frames = torch.rand(EXAMPLES, FRAMES, 3, *size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    expected = policy.network(frames)
    program = torch.export.export(
        policy.network, (frames,), dynamic_shapes=({0: Dim("batch", min=1, max=4096)},), strict=False
    )
    data = onnx_files.to_onnx(program, ["frames"], ["controls"]).SerializeToString()
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    (controls,) = session.run(None, {"frames": frames.numpy()})
    difference = float((torch.from_numpy(controls) - expected).abs().max())
    if not difference <= TOLERANCE:
        raise UserError(f"the exported policy is not the same: its controls differ by {difference:.2g} from PyTorch's")
    with atomic_replace(file) as temporary:
        temporary.write_bytes(data)
