"""The data suite: all benchmarks of the data loader."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from daydrive.benchmarks.data.loader_baselines import (
    QUICK,
    THOROUGH,
    Effort,
    FloatBatches,
    JpegFolder,
    Meter,
    Shard,
    cpu_seconds,
    has_webdataset,
    in_torch,
)
from daydrive.benchmarks.findings import Findings, Target, write
from daydrive.data.images import decode_all
from daydrive.data.prepare.prepare import prepare
from daydrive.data.sampling.clips import ClipIndex, read_clips
from daydrive.data.sampling.loader import ClipLoader
from daydrive.data.sampling.sample_order import SampleOrder
from daydrive.data.store.store import Store
from daydrive.errors import UserError
from daydrive.files import check_folder, created_parents
from daydrive.machine import describe_machine
from daydrive.types import Clip

TARGETS = {
    "loader_256": Target(1.6, True, "CPU time of a JPEG folder with PIL over daydrive's, clips at 256 px"),
    "loader_64": Target(3.0, True, "CPU time of a JPEG folder with PIL over daydrive's, clips at 64 px"),
    "loader_float_256": Target(4.0, True, "CPU time with float32 from the worker over that with uint8"),
    "webdataset_256": Target(
        1.0, True, "CPU time of webdataset with its own decoding over daydrive's, clips at 256 px"
    ),
    "webdataset_64": Target(1.0, True, "CPU time of webdataset with its own decoding over daydrive's, clips at 64 px"),
    "reads_per_clip": Target(1.3, False, "disk reads per clip, read in batches"),
    "bytes_vs_payload": Target(1.1, False, "bytes read per batch over the bytes of its JPEGs and actions"),
    "decode_share": Target(0.85, True, "CPU time of decoding alone over the loader's, clips at 256 px"),
}
LENGTH, BATCH, CLIPS = 16, 16, 64


def benchmark_data(output: Path, quick: bool, log: Callable[[str], None]) -> tuple[Findings, dict[str, Target]]:
    """Measure the loader on road drives and write JSON: `ratios`, `targets`, `not_measured`, `machine`, `raw`.

    Every loader reads the same clips in one worker process. Reported is the CPU time of both processes per batch, the
    minimum of several rounds, all loaders in turn. Temporary stores are written beside `output`.
    """
    if output.is_dir():
        raise UserError(f"--output {output} is a folder; give a file")
    check_folder(output.absolute().parent, "output folder")
    machine = describe_machine(torch.device("cpu"))
    effort = QUICK if quick else THOROUGH
    found = Findings()
    with created_parents(output), TemporaryDirectory(prefix=".benchmark-", dir=output.absolute().parent) as folder:
        for size in (256, 64):
            log(f"{size} px: drives")
            drives, frames = (3, 40) if quick else (8, 60)
            path = prepare("road", None, Path(folder) / f"road-{size}", (size, size), drives=drives, frames=frames)
            log(f"{size} px: loaders")
            found.add(_of_size(Store.open(path), size, effort, Path(folder)))
        write(output, "data", quick, machine, found, TARGETS)
    return found, TARGETS


def _of_size(store: Store, size: int, effort: Effort, folder: Path) -> Findings:
    index = ClipIndex(store, "train", LENGTH)
    numbers = SampleOrder.plain(len(index), 0).clips(0, CLIPS)
    clips = [index.clip(int(number)) for number in numbers]
    meters = _meters(index, clips, size, folder)
    jpegs, _ = store.read(_rows(clips[:BATCH]))
    decoded = np.empty((len(jpegs), size, size, 3), dtype=np.uint8)
    seconds: dict[str, list[float]] = {name: [] for name in (*meters, "decoding")}
    for _ in range(effort.rounds):
        for name, meter in meters.items():
            seconds[name].append(meter.measure(effort.seconds))
        seconds["decoding"].append(cpu_seconds(lambda: decode_all(jpegs, decoded), effort.seconds))
    best = {name: min(each) for name, each in seconds.items()}
    raw = {
        "cpu_seconds_of_a_batch": seconds,
        "clips_a_cpu_second": {name: BATCH / each for name, each in best.items()},
        "clips_of_a_batch": BATCH,
        "frames_of_a_clip": LENGTH,
        "bytes_of_a_jpeg": sum(map(len, jpegs)) / len(jpegs),
    }
    found = Findings({f"loader_{size}": best["folder"] / best["ours"]}, {f"loaders_{size}": raw})
    if "webdataset" in best:
        found.ratios[f"webdataset_{size}"] = best["webdataset"] / best["ours"]
    else:
        found.not_measured[f"webdataset_{size}"] = "needs `pip install 'daydrive[bench]'`"
    if size == 256:
        found.ratios["loader_float_256"] = best["float"] / best["ours"]
        found.ratios["decode_share"] = best["decoding"] / best["ours"]
        found.add(_reads(store, clips))
    return found


def _meters(index: ClipIndex, clips: list[Clip], size: int, folder: Path) -> dict[str, Meter]:
    store = index.store
    loaders: dict[str, Any] = {
        "ours": ClipLoader(index, batch_size=BATCH, num_workers=1),
        "folder": in_torch(JpegFolder.write(store, clips, folder / f"jpegs-{size}"), BATCH, len(clips)),
    }
    if size == 256:
        loaders["float"] = in_torch(FloatBatches(store, clips, BATCH), None, len(clips) // BATCH)
    if has_webdataset():
        tar = folder / f"clips-{size}.tar"
        Shard.write(store, clips, tar)
        loaders["webdataset"] = in_torch(Shard(tar, LENGTH, BATCH, True), None, None)
        loaders["webdataset, our decoder"] = in_torch(Shard(tar, LENGTH, BATCH, False), None, None)
    return {name: Meter(loader) for name, loader in loaders.items()}


def _reads(store: Store, clips: list[Clip]) -> Findings:
    """Disk reads and bytes as counted by Lance, for batches read in turn from an open table."""
    store = Store.open(store.path)
    read_clips(store, clips[:1])
    store.dataset.io_stats_incremental()
    payload = 0
    batches = [clips[first : first + BATCH] for first in range(0, len(clips), BATCH)]
    for batch in batches:
        read_clips(store, batch)
    counted = store.dataset.io_stats_incremental()
    for batch in batches:
        jpegs, actions = store.read(np.unique(_rows(batch)))
        payload += sum(map(len, jpegs)) + actions.nbytes
    ratios = {"reads_per_clip": counted.read_iops / len(clips), "bytes_vs_payload": counted.read_bytes / payload}
    raw = {"reads": counted.read_iops, "bytes": counted.read_bytes, "payload": payload, "clips": len(clips)}
    return Findings(ratios, {"reads": raw})


def _rows(clips: list[Clip]) -> np.ndarray:
    return np.concatenate([np.arange(clip.start, clip.start + clip.length) for clip in clips])
