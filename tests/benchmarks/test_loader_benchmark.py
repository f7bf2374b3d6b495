"""The loader benchmark compares loaders on the same clips; their speed is not tested here."""

from __future__ import annotations

import itertools
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from daydrive import cli
from daydrive.benchmarks.data.loader_baselines import (
    FloatBatches,
    JpegFolder,
    Meter,
    Shard,
    cpu_seconds,
    has_webdataset,
    in_torch,
)
from daydrive.benchmarks.data.suite import TARGETS, _reads
from daydrive.benchmarks.findings import Findings, outcomes
from daydrive.data.sampling.clips import ClipIndex, read_clips
from daydrive.data.store.store import Store
from helpers.refusals import Refuse


@pytest.fixture
def store(road_store: Path) -> Store:
    return Store.open(road_store)


def test_baselines_return_the_same_clips(store: Store, tmp_path: Path) -> None:
    index = ClipIndex(store, "train", 5)
    clips = [index.clip(i) for i in (3, 0, 20, 7)]
    ours = read_clips(store, clips)
    images, actions = (
        torch.stack(parts) for parts in zip(*JpegFolder.write(store, clips, tmp_path / "folder"), strict=True)
    )
    assert (images.int() - ours.images.int()).abs().max() <= 2 and torch.equal(actions, ours.actions)
    floats, actions = FloatBatches(store, clips, 2)[1]
    assert floats.dtype == torch.float32 and torch.allclose(floats * 255, ours.images[2:].float())
    assert torch.equal(actions, ours.actions[2:])
    if has_webdataset():
        Shard.write(store, clips, tmp_path / "clips.tar")
        for with_pil in (True, False):
            batches = list(itertools.islice(Shard(tmp_path / "clips.tar", 5, 4, with_pil), 2))
            for images, actions in batches:
                assert (images.int() - ours.images.int()).abs().max() <= 2 and torch.equal(actions, ours.actions)


def test_batch_is_read_at_once(store: Store) -> None:
    index = ClipIndex(store, "train", 16)
    found = _reads(store, [index.clip(i % len(index)) for i in range(32)])
    assert found.ratios["reads_per_clip"] <= 1.3 and found.ratios["bytes_vs_payload"] <= 1.1
    assert found.raw["reads"]["payload"] > 32 * 500


class _Work(torch.utils.data.Dataset[int]):
    def __getitem__(self, number: int) -> int:
        return int(np.ones(2_000_000).sum())


def test_time_includes_workers_and_main_process() -> None:
    def work() -> None:
        _Work()[0]

    alone = cpu_seconds(work, 0.1)
    measured = Meter(in_torch(_Work(), 1, 4)).measure(0.3)
    assert 0.3 < measured / alone < 10


@pytest.mark.slow
def test_the_data_suite_measures_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "figures" / "data.json"
    monkeypatch.setattr(sys, "argv", ["daydrive", "benchmark", "data", "--output", str(output), "--quick"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0
    assert sorted(file.name for file in output.parent.iterdir()) == ["data.json", "data.png"]
    result = json.loads(output.read_text())
    assert result["ratios"].keys() | result["not_measured"].keys() == TARGETS.keys() and result["suite"] == "data"
    assert all(math.isfinite(value) and value > 0 for value in result["ratios"].values())
    assert result["ratios"]["reads_per_clip"] <= 1.3 and result["ratios"]["bytes_vs_payload"] <= 1.1


def test_invalid_input_fails_before_anything_is_measured(refuse: Refuse, tmp_path: Path) -> None:
    refuse("benchmark", "data", "--output", tmp_path, message="is a folder")
    refuse(
        "benchmark",
        "data",
        "--output",
        tmp_path / "a.json",
        "--data-root",
        tmp_path,
        message="generates its own drives",
    )


def test_every_target_has_a_ratio() -> None:
    met = {name: target.bound for name, target in TARGETS.items()}
    assert all(outcome["met"] for outcome in outcomes(Findings(met), TARGETS).values())
