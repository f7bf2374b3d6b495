"""Files that are none of the recording: of operating systems, hidden, temporary."""

from __future__ import annotations

from pathlib import Path

import pytest

from daydrive.data.prepare.prepare import prepare
from daydrive.data.sources import get, read_options
from daydrive.data.sources.files import entries, is_recorded, subfolders
from daydrive.data.sources.frame_counts import counts_of
from daydrive.data.store.store import Store
from helpers.guide_recordings import RECORDINGS
from helpers.open_formats import write_old_tub
from helpers.refusals import refused

NOT_RECORDED = (
    "._a.jpg", ".DS_Store", "Thumbs.db", "ehthumbs.db", "desktop.ini", "Desktop.ini", ".hidden.mp4", "a.jpg.tmp",
    "b.csv~", "c.mp4.part", "d.mp4.crdownload", "__MACOSX", "$RECYCLE.BIN", ".Spotlight-V100", "e.parquet.swp",
)  # fmt: skip


@pytest.mark.parametrize("name", NOT_RECORDED)
def test_names_that_are_not_recorded(name: str) -> None:
    assert not is_recorded(name)


@pytest.mark.parametrize("name", ["a.jpg", "tmp", "0.png", "thumbs", "a b.mp4", "desktop.jpg", "part.1", "tub.tmp.1"])
def test_names_that_are_recorded(name: str) -> None:
    assert is_recorded(name)


def test_one_listing(tmp_path: Path) -> None:
    for name in (*NOT_RECORDED, "f10.jpg", "f2.jpg"):
        (tmp_path / name).write_bytes(b"")
    for name in ("d10", "d9", ".git", "__MACOSX.d"):
        (tmp_path / name).mkdir()
    assert [path.name for path in entries(tmp_path, "*.jpg")] == ["f2.jpg", "f10.jpg"]
    assert [path.name for path in subfolders(tmp_path)] == ["__MACOSX.d", "d9", "d10"]


def clutter(root: Path) -> None:
    """Puts beside each file what macOS, Windows and interrupted copies leave behind."""
    for file in [path for path in root.rglob("*") if path.is_file()]:
        file.with_name(f"._{file.name}").write_bytes(b"\0\5\x16\7")
        file.with_name(f"{file.name}.part").write_bytes(b"half")
    for folder in [root, *(path for path in root.rglob("*") if path.is_dir())]:
        for name in (".DS_Store", "Thumbs.db", "desktop.ini"):
            (folder / name).write_bytes(b"\0\1")
        for name in (".Trashes", "__MACOSX"):
            (folder / name).mkdir()
            (folder / name / "._a.mp4").write_bytes(b"\0\5\x16\7")


OLD_TUB = "an old tub"
STEERING = {"steering": "wheel_deg", "steering_scale": -0.01, "throttle": "gas", "speed": "kmh"}
SOURCES: dict[str, tuple[str, dict[str, object]]] = {
    "my_drives": ("folder", {}),
    "recordings/track": ("udacity", {}),
    "comma2k19": ("comma2k19", {}),
    "kitti/dataset": ("kitti", {}),
    "data/nuscenes": ("nuscenes", {}),
    "Bench2Drive/v1": ("carla", {}),
    "waymo_v2": ("waymo", {}),
    "mycar/data": ("donkeycar", {}),
    OLD_TUB: ("donkeycar", {}),
    "rc_car": ("lerobot", {}),
    "trips": ("video", STEERING),
    "argoverse2": ("argoverse2", {}),
    "nuplan-v1.1": ("nuplan", {}),
    "bdd100k": ("bdd100k", {}),
    "physicalai": ("physicalai", {}),
    "Documents/AirSim": ("airsim", {}),
    "L2D": ("lerobot", {}),
    "bags": ("rosbag", {}),
    "routes": ("openpilot", {}),
    "my_logs": ("table", {}),
}
"""The dataset and options of each recording."""


@pytest.mark.parametrize("name", SOURCES)
def test_sources_ignore_them(name: str, tmp_path: Path) -> None:
    raw, (dataset, options) = tmp_path / "raw", SOURCES[name]
    raw.mkdir()
    if name == OLD_TUB:
        write_old_tub(raw / "tub", range(40))
    else:
        RECORDINGS[name](raw)
    clean = Store.open(prepare(dataset, raw, tmp_path / "clean", (16, 16), workers=1, **options))
    source = get(dataset)
    assert counts_of(source.drives(raw, read_options(source, options), (16, 16))) is not None, "the source counts"
    clutter(raw)
    cluttered = Store.open(prepare(dataset, raw, tmp_path / "cluttered", (16, 16), workers=1, **options))
    assert cluttered.fingerprint == clean.fingerprint and cluttered.rows == clean.rows > 10
    (counted,) = clean.metadata["frame_counts"]
    assert cluttered.metadata["frame_counts"] == [counted]
    left_out = sum(entry["frames"] for entry in counted["left_out"])
    assert counted["recorded"] == counted["stored"] - counted["repeated"] + left_out, "every frame is accounted for"


def test_a_folder_of_nothing_else_is_empty(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / ".DS_Store").write_bytes(b"")
    assert "is empty" in refused("folder", tmp_path)
