"""Detection of CPU features decides whether bfloat16 is used."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from daydrive import processor
from daydrive.devices import has_bfloat16
from daydrive.machine import describe_machine
from daydrive.training.optim.muon import orthogonalize

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def no_cached_features() -> Iterator[None]:
    processor.processor_features.cache_clear()
    yield
    processor.processor_features.cache_clear()


@pytest.mark.parametrize(
    ("line", "feature"),
    [
        ("flags\t\t: fpu avx2 avx512f avx512bw avx512_vnni", None),  # oneDNN emulates bfloat16 with AVX-512
        ("flags\t\t: fpu avx2", None),
        ("flags\t\t: avx512f avx512_bf16", "avx512_bf16"),
        ("flags\t\t: avx512f avx512_bf16 amx_bf16 amx_tile", "amx_bf16"),
        ("Features\t: fp asimd bf16 i8mm", "bf16"),
        ("Features\t: fp asimd", None),
    ],
)
def test_linux(line: str, feature: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    text = f"processor\t: 0\nmodel name\t: A processor\n{line}\n\n"
    monkeypatch.setattr(Path, "read_text", lambda self: text)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True)
    assert processor.bfloat16_feature() == feature
    assert has_bfloat16(CPU) == (feature is not None)
    assert describe_machine(CPU)["bfloat16"] == feature
    assert _dtype_of_muon(monkeypatch) == (torch.bfloat16 if feature else torch.float32)


@pytest.mark.parametrize(("answer", "feature"), [("1\n", "bf16"), ("0\n", None), ("", None)])
def test_macos(answer: str, feature: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_text", _no_file)
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(processor.subprocess, "run", lambda *_, **__: SimpleNamespace(stdout=answer))
    assert processor.bfloat16_feature() == feature


def test_other_systems_use_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_text", _no_file)
    monkeypatch.setattr(platform, "system", lambda: "Windows")
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    assert processor.processor_features() == {"avx512_bf16"}


def _no_file(self: Path) -> str:
    raise FileNotFoundError(self)


def _dtype_of_muon(monkeypatch: pytest.MonkeyPatch) -> torch.dtype:
    """The dtype of Muon's matrix products."""
    seen: list[torch.dtype] = []
    matmul = torch.Tensor.__matmul__

    def spied(self: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        seen.append(self.dtype)
        return matmul(self, other)

    monkeypatch.setattr(torch.Tensor, "__matmul__", spied)
    orthogonalize(torch.randn(1, 5, 6))
    return seen[0]
