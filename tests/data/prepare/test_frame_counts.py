"""What prepare says about the recorded frames: how many are in the store, which are left out and why."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from daydrive.data.kinematics import clock
from daydrive.data.prepare.prepare import prepare
from daydrive.data.sources.frame_counts import CountedDrives, FrameCounts, counts_of
from daydrive.data.store.store import Store
from helpers.drives import HEADER, write_drive
from helpers.guide_recordings import RECORDINGS

SOURCES = {
    "my_drives": "folder",
    "recordings/track": "udacity",
    "comma2k19": "comma2k19",
    "kitti/dataset": "kitti",
    "data/nuscenes": "nuscenes",
    "Bench2Drive/v1": "carla",
    "waymo_v2": "waymo",
    "mycar/data": "donkeycar",
    "rc_car": "lerobot",
    "dashcam": "video",
}


def balanced(store: Store) -> bool:
    """Whether the counts of a store add up."""
    (counts,) = store.metadata["frame_counts"]
    left_out = sum(entry["frames"] for entry in counts["left_out"])
    return bool(counts["stored"] == store.rows == counts["recorded"] + counts["repeated"] - left_out)


@pytest.mark.parametrize("hz", [None, 4.0])
@pytest.mark.parametrize("name", SOURCES)
def test_the_counts_of_every_source_add_up(
    name: str, hz: float | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "raw").mkdir()
    RECORDINGS[name](tmp_path / "raw")
    store = Store.open(prepare(SOURCES[name], tmp_path / "raw", tmp_path / "store", (16, 16), workers=1, hz=hz))
    (counts,) = store.metadata["frame_counts"]
    assert balanced(store) and counts["recorded"] > 30
    if hz and name != "my_drives":  # without times, --hz is the rate of the recording
        reduced = next(entry for entry in counts["left_out"] if entry["reason"] == "not needed at 4 Hz")
        assert reduced["frames"] > counts["recorded"] / 3
    said = capsys.readouterr().out
    assert f"frames: {counts['recorded']} recorded, {store.rows} in the store" in said
    assert all(f"  left out: {entry['frames']} {entry['reason']}" in said for entry in counts["left_out"])


def test_generated_drives_are_counted_as_they_are(tmp_path: Path) -> None:
    store = Store.open(prepare("road", None, tmp_path / "store", (64, 64), workers=1, drives=3, frames=5))
    assert balanced(store) and store.metadata["frame_counts"][0]["recorded"] == 15


def test_gaps_limits_and_additions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    times = [k / 10 + 5 * (k >= 20) + 5 * (k >= 21) for k in range(41)]
    for drive in ("a", "b"):
        rows = [f"0,0.5,0,1,{time:g}" for time in times]
        write_drive(tmp_path / "raw" / drive, 41, rows, f"{HEADER},time")
    target = tmp_path / "store"
    prepare("folder", tmp_path / "raw", target, (16, 16), workers=1, limit=2)
    (first,) = Store.open(target).metadata["frame_counts"]
    left_out = {entry["reason"]: entry for entry in first["left_out"]}
    short = left_out["in pieces shorter than 2 frames between gaps of more than 0.2 s"]
    assert short["frames"] == short["places"] == 2 and left_out["in drives beyond --limit 2"]["frames"] == 40
    assert first["recorded"] == 82
    capsys.readouterr()
    write_drive(tmp_path / "raw" / "c", 30, [f"0,0.5,0,1,{k / 10:g}" for k in range(30)], f"{HEADER},time")
    prepare("folder", tmp_path / "raw", target, (16, 16), workers=1, add=True)
    before, added = Store.open(target).metadata["frame_counts"]
    assert before == first and added["recorded"] == 112
    assert {e["reason"]: e["frames"] for e in added["left_out"]}["in drives that the store already has"] == 40
    assert f"frames: 112 recorded, {added['stored']} in the store" in capsys.readouterr().out


def test_what_usable_counts() -> None:
    times = np.concatenate([np.arange(30) / 20, 5 + np.arange(4) / 20, 10 + np.arange(40) / 20, 20 + np.arange(3) / 20])
    counts = FrameCounts(len(times))
    kept = counts.usable(clock.resample(times, 10.0, 0.5), len(times), 10.0, 0.5, "use a larger one")
    assert [number for number, _ in kept] == [0, 2]
    assert sum(len(run) for _, run in kept) == 35 and counts.repeated == 0
    reasons = {entry.reason: (entry.frames, entry.places, entry.remedy) for entry in counts.left_out.values()}
    assert reasons["in pieces shorter than 1 s between gaps of more than 0.5 s"] == (4, 2, "use a larger one")
    assert reasons["not needed at 10 Hz"][0] == 38


def test_the_report_in_words() -> None:
    counts = FrameCounts(100, repeated=20)
    counts.leave_out(0, "never mentioned")
    counts.leave_out(1, "with an image that is empty", first="log, row 3")
    counts.leave_out(1, "with an image that is empty", first="log, row 9")
    counts.leave_out(10, "in gaps", "a larger --set gap keeps more", places=4)
    counts.notes.append("the clock was put back")
    assert counts.report(108) == [
        "frames: 100 recorded, 108 in the store, 20 of them repeated, 12 left out",
        "  left out: 10 in gaps (4 places); a larger --set gap keeps more",
        "  left out: 2 with an image that is empty, the first in log, row 3",
        "  the recordings are in part slower than the store; a lower --hz repeats fewer frames",
        "  the clock was put back",
    ]
    assert counts.why_none().startswith(": of 100 frames, 10 in gaps (4 places)")
    assert json.loads(json.dumps(counts.metadata(108)))["left_out"][1]["first"] == "log, row 3"


def test_drives_of_a_source_that_does_not_count() -> None:
    assert counts_of([]) is None and counts_of(CountedDrives([], FrameCounts(3))) == FrameCounts(3)
