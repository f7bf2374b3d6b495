"""Latency alone and with eight viewers, and memory in a long drive."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from daydrive.drive.scenario import load_scenario
from helpers.driving import Page, serving
from helpers.endurance import measure_latency, soak, viewers

pytestmark = pytest.mark.slow


def test_latency_and_memory(trained: Path, road_store: Path, tmp_path: Path) -> None:
    """Bounds for a machine that is busy with other tests; docs/DRIVE.md has measurements."""
    scenario = load_scenario([trained], road_store, tmp_path, device=torch.device("cpu"))
    with serving(scenario) as address, Page(address) as page:
        assert measure_latency(page, 30).p95 < 400
        with viewers(address, page.welcome["session"], 8):
            assert measure_latency(page, 30).p95 < 400
            page.answer(type="reset")
            steps, early, late = soak(page, address, 40.0)
    assert steps > 100 and late - early < 16 * 2**20
