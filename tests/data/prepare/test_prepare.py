"""Preparation: the same store for any number of workers, whole or absent, repeatable."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest

from daydrive.data import sources
from daydrive.data.prepare import prepare as module
from daydrive.data.prepare import shards, split
from daydrive.data.prepare.prepare import prepare
from daydrive.data.store.store import Store
from daydrive.progress import DriveProgress
from helpers.drives import CountedSource, write_drive
from helpers.paths import TESTS
from helpers.refusals import refuses

SCRIPT = """
from pathlib import Path
from daydrive.data import sources
from daydrive.data.prepare.prepare import prepare
from helpers.drives import CountedSource
if __name__ == "__main__":
    sources.SOURCES["counted"] = CountedSource()
    prepare("counted", None, Path({target!r}), (24, 32), workers={workers})
"""


@pytest.fixture(autouse=True)
def counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sources.SOURCES, "counted", CountedSource())


@pytest.fixture
def whole(tmp_path_factory: pytest.TempPathFactory, counted: None) -> Store:
    """The store of an uninterrupted preparation."""
    return Store.open(prepare("counted", None, tmp_path_factory.mktemp("whole") / "store", (24, 32), workers=1))


@pytest.fixture
def drives(tmp_path: Path) -> Path:
    for k in range(4):
        write_drive(tmp_path / "raw" / f"d{k}", 6 + k)
    return tmp_path / "raw"


def test_number_of_workers_does_not_change_the_store(whole: Store, tmp_path: Path) -> None:
    store = Store.open(prepare("counted", None, tmp_path / "store", (24, 32), workers=2))
    assert store.fingerprint == whole.fingerprint and store.drives == whole.drives
    rows = np.arange(store.rows)
    (jpegs, actions), (others, same) = store.read(rows), whole.read(rows)
    assert jpegs == others and np.array_equal(actions, same)
    assert os.listdir(tmp_path) == ["store"]


def test_killed_preparation_is_completed(whole: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target, partial = tmp_path / "store", tmp_path / "store.partial"
    script = tmp_path / "run.py"
    script.write_text(SCRIPT.format(target=str(target), workers=2))
    environment = {**os.environ, "PYTHONPATH": str(TESTS), "DAYDRIVE_TEST_PAUSE": "0.1"}
    quiet = subprocess.DEVNULL
    process = subprocess.Popen([sys.executable, str(script)], env=environment, stdout=quiet, stderr=quiet)
    deadline = time.monotonic() + 400
    while not list(partial.glob("*.arrow")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    workers = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    assert not target.exists()
    _, alive = psutil.wait_procs(workers, timeout=30)
    assert not alive, "workers end with the preparation"
    finished = len(list(partial.glob("*.arrow")))
    asked: list[int] = []
    write = shards.write_shards
    monkeypatch.setattr(shards, "write_shards", lambda jobs, *rest: (asked.append(len(jobs)), write(jobs, *rest)))
    store = Store.open(prepare("counted", None, target, (24, 32), workers=1))
    assert asked == [8 - finished] and finished > 0
    assert store.fingerprint == whole.fingerprint and not partial.exists()


@pytest.mark.slow
def test_ten_kills_at_random_moments_give_the_same_store(whole: Store, tmp_path: Path) -> None:
    """After each kill the store is absent or complete, and a further attempt gives the same store."""
    environment = {**os.environ, "PYTHONPATH": str(TESTS), "DAYDRIVE_TEST_PAUSE": "0.01"}

    def begin(target: Path) -> subprocess.Popen[bytes]:
        (tmp_path / "run.py").write_text(SCRIPT.format(target=str(target), workers=2))
        return subprocess.Popen([sys.executable, str(tmp_path / "run.py")], env=environment, stdout=subprocess.DEVNULL)

    def finished(target: Path) -> int:
        return len(list(target.with_name(f"{target.name}.partial").glob("??????.arrow")))

    moments = np.random.default_rng(3)
    kills, rounds, left = 0, 0, set()
    while kills < 10:
        target = tmp_path / f"store{rounds}"
        while not target.exists():
            process, enough = begin(target), min(finished(target) + moments.integers(0, 4), 8)
            deadline = time.monotonic() + 120
            while process.poll() is None and finished(target) < enough and time.monotonic() < deadline:
                time.sleep(0.002)
            with suppress(subprocess.TimeoutExpired):
                process.wait(float(moments.uniform(0.0, 0.1)))
            if process.poll() is None:
                kills += 1
                left.add(finished(target))
                process.kill()
            assert process.wait(60) in (0, -signal.SIGKILL)
            assert not target.exists() or Store.open(target).fingerprint == whole.fingerprint
            if kills == 10:
                break
        prepare("counted", None, target, (24, 32), workers=1)
        rounds += 1
    assert len(left) > 2, f"they hit at different moments: {left} drives were finished"
    rows = np.arange(whole.rows)
    (jpegs, actions), stored = whole.read(rows), whole.read_values(rows, ["drive", "frame", "time", "number"])
    for store in (Store.open(tmp_path / f"store{k}") for k in range(rounds)):
        others, same = store.read(rows)
        assert others == jpegs and np.array_equal(actions, same) and store.drives == whole.drives
        assert all(
            np.array_equal(values, stored[name]) for name, values in store.read_values(rows, list(stored)).items()
        )
    assert sorted(os.listdir(tmp_path)) == sorted(["run.py", *(f"store{k}" for k in range(rounds))])


def test_shards_of_other_options_are_not_reused(drives: Path, tmp_path: Path) -> None:
    class Interrupted(KeyboardInterrupt):
        pass

    def interrupt(*_: object) -> None:
        raise Interrupted

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "write_store", interrupt)
        with pytest.raises(KeyboardInterrupt):
            prepare("folder", drives, tmp_path / "store", (16, 16), workers=1)
    assert len(list((tmp_path / "store.partial").glob("*.arrow"))) == 4 and not (tmp_path / "store").exists()
    store = Store.open(prepare("folder", drives, tmp_path / "store", (24, 16), workers=1))
    assert store.image_size == (24, 16) and sorted(os.listdir(tmp_path)) == ["raw", "store"]


def test_repeating_does_nothing_and_other_options_are_rejected(
    drives: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = prepare("folder", drives, tmp_path / "store", (16, 16), workers=1)
    made = (target / "store.json").stat().st_mtime_ns
    capsys.readouterr()
    prepare("folder", drives, target, (16, 16), workers=1)
    assert "nothing to do" in capsys.readouterr().out and (target / "store.json").stat().st_mtime_ns == made
    message = refuses(lambda: prepare("folder", drives, target, (16, 32), workers=1, seed=4), tmp_path)
    assert "image size is [16, 16], not [16, 32]" in message and "--seed is 0, not 4" in message
    assert "--overwrite" in message
    store = Store.open(prepare("folder", drives, target, (16, 32), workers=1, overwrite=True))
    assert store.image_size == (16, 32) and sorted(os.listdir(tmp_path)) == ["raw", "store"]


def test_metadata_allows_inverting_the_conversion(drives: Path, tmp_path: Path) -> None:
    metadata = json.loads((prepare("folder", drives, tmp_path / "s", (16, 16), workers=1) / "store.json").read_text())
    for name in ("steering", "throttle", "brake", "gear"):
        assert set(metadata["actions"][name]) == {"unit", "sign", "scale", "converted"}
    assert metadata["jpeg_quality"] == 95 and metadata["format_version"] == 1 and metadata["daydrive"]
    assert metadata["pixel_aspect"] == 1.5 and metadata["recorded_image_size"] == [40, 60]
    scales = dict.fromkeys(("steering_scale", "throttle_scale", "brake_scale", "speed_scale"))
    times = dict.fromkeys(("time_scale", "recorded_hz"))
    assert metadata["request"]["options"] == {"hz": None, "seed": 0, "gap": None, **scales, **times}


def test_default_output(drives: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert prepare("folder", drives, workers=1) == Path("data/processed/folder")
    assert Store.open(tmp_path / "data/processed/folder").image_size == (256, 256)


def test_invalid_drive_stops_all_workers(drives: Path, tmp_path: Path) -> None:
    (drives / "d2" / "images" / "f2.jpg").write_bytes(b"\xff\xd8\xff\xe0nothing")
    message = refuses(lambda: prepare("folder", drives, tmp_path / "deep" / "store", (16, 16), workers=2), tmp_path)
    assert "d2/actions.csv, row 4" in message and "f2.jpg" in message


@pytest.mark.parametrize(("count", "val", "test"), [(3, 1, 1), (7, 1, 1), (8, 2, 4), (72, 5, 12), (140, 10, 23)])
def test_split_by_drive(count: int, val: int, test: int) -> None:
    splits = split.by_drive(count, 0)
    assert (splits.count("val"), splits.count("test"), len(splits)) == (val, test, count)
    assert splits == split.by_drive(count, 0) and (count < 8 or splits != split.by_drive(count, 1))


def test_split_by_time_leaves_gaps_without_overlap() -> None:
    pieces = split.by_time([300, 700], 10.0)
    assert [(p.drive, p.start, p.stop, p.split) for p in pieces] == [
        (0, 0, 300, "train"),
        (1, 0, 375, "train"),
        (1, 400, 475, "val"),
        (1, 500, 700, "test"),
    ]


def test_frame_order_across_batches(tmp_path: Path) -> None:
    write_drive(tmp_path / "raw" / "d", 700, size=(16, 16))
    store = Store.open(prepare("folder", tmp_path / "raw", tmp_path / "store", (16, 16), workers=1))
    batches = list(store.dataset.to_batches(columns=["frame"]))
    frames = np.concatenate([batch.column("frame").to_numpy() for batch in batches])
    assert store.rows == len(frames) and (np.diff(frames) == 1).sum() == len(frames) - len(store.drives)


def test_plain_progress_lines(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daydrive.progress.PLAIN_INTERVAL", -1.0)
    with DriveProgress([10, 10, 10, 10], [10, 10]) as progress:
        progress.frames_done(10)
        progress.drive_done()
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("drives 3/4, ") and "frames/s, 0:00 left" in last
