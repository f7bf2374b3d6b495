"""NVIDIA PhysicalAI-Autonomous-Vehicles: store contents of clips with known motion, and errors for malformed data."""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from helpers.ego_formats import FRONT, check_drive, write_physicalai
from helpers.open_formats import train_and_evaluate
from helpers.recordings import Truth, prepared, shown
from helpers.refusals import refused

SIZE = (48, 64)
WHEELBASE = 2.9
CLIP = "25cd4769-5dcf-4b53-a351-bf2c5deb6124"


def truth(seed: int = 0, frames: int = 60) -> Truth:
    return Truth(frames, hz=30.0, seed=seed, start=100.0)


def write_index(root: Path, splits: dict[str, str], valid: list[bool], name: str = "clip_id") -> None:
    columns = {name: list(splits), "split": list(splits.values()), "chunk": [0] * len(splits), "clip_is_valid": valid}
    pq.write_table(pa.table(columns), root / "clip_index.parquet")


@pytest.mark.parametrize("packed", [True, False])
def test_images_motion_and_official_splits(packed: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw = tmp_path / "raw"
    names = [f"clip-{k}" for k in range(5)]
    write_physicalai(raw, 0, {names[0]: truth(0), names[1]: truth(1)}, packed=packed)
    write_physicalai(raw, 1, {name: truth(k) for k, name in enumerate(names) if k > 1}, packed=packed)
    splits = dict(zip(names, ("train", "train", "val", "test", "train"), strict=True))
    write_index(raw, splits, [True] * 4 + [False], "clip_id" if packed else "__index_level_0__")
    before = sorted(Path(tmp_path).rglob("*"))
    store = prepared("physicalai", tmp_path, size=SIZE)
    assert "1 of 5 clips of camera_front_wide_120fov are skipped: 1 marked as invalid" in capsys.readouterr().out
    assert store.hz == 30.0 and {d.name: d.split for d in store.drives} == {name: splits[name] for name in names[:4]}
    for drive in store.drives:
        values = check_drive(store, drive, truth(int(drive.name[-1])), WHEELBASE, coarse=2.5)
        assert drive.frames == 60 and np.allclose(values["timestamp"], np.arange(60) / 30 * 1e6 - 14_200, atol=1)
    assert [path for path in sorted(tmp_path.rglob("*")) if "stores" not in path.parts] == before, (
        "nothing is unpacked there"
    )


def test_another_camera_rate_and_clips_without_egomotion(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    camera = "camera_rear_tele_30fov"
    write_physicalai(tmp_path / "raw", 0, {"a": truth(), "b": truth()}, camera=camera, packed=False)
    (tmp_path / "raw/labels/egomotion/egomotion.chunk_0000/b.egomotion.parquet").unlink()
    store = prepared("physicalai", tmp_path, size=SIZE, camera=camera, hz=10)
    assert "1 of 2 clips" in capsys.readouterr().out and {d.name.split(".")[0] for d in store.drives} == {"a"}
    first = np.arange(store.drives[0].frames)
    assert store.hz == 10.0
    assert np.abs(shown(store, first) - np.stack(truth().images(SIZE))[3 * first]).mean(axis=(1, 2, 3)).max() < 20


def test_training_and_evaluation(tmp_path: Path, tiny_config: Path) -> None:
    write_physicalai(tmp_path / "raw", 0, {f"clip{k}": truth(k, 40) for k in range(3)})
    train_and_evaluate(prepared("physicalai", tmp_path, size=(64, 64)).path, tiny_config, tmp_path)


CAMERA_ZIP = f"camera/{FRONT}/{FRONT}.chunk_0000.zip"
POSES_ZIP = "labels/egomotion/egomotion.chunk_0000.zip"


def rewritten(**changes: object) -> Callable[[Path], object]:
    def apply(root: Path) -> None:
        shutil.rmtree(root)
        write_physicalai(root, 0, {CLIP: truth(frames=36)}, (16, 16), **changes)

    return apply


def member(archive: str, ending: str, edit: Callable[[bytes], bytes | None]) -> Callable[[Path], object]:
    """A function that changes a member of an archive, or removes it."""

    def apply(root: Path) -> None:
        with zipfile.ZipFile(root / archive) as opened:
            members = {name: opened.read(name) for name in opened.namelist()}
        with zipfile.ZipFile(root / archive, "w") as opened:
            for name, data in members.items():
                changed = edit(data) if name.endswith(ending) else data
                if changed is not None:
                    opened.writestr(name, changed)

    return apply


def damaged(archive: str) -> Callable[[Path], object]:
    """A function that overwrites the beginning of the first member; the archive's directory remains."""

    def apply(root: Path) -> None:
        data = bytearray((root / archive).read_bytes())
        data[120:400] = bytes(280)
        (root / archive).write_bytes(data)

    return apply


def numbers(row: int, value: float | None, count: int = 128) -> pa.Array:
    return pa.array([value if k == row else 1.0 for k in range(count)], pa.float64())


def linked_out(root: Path) -> None:
    os.rename(root / POSES_ZIP, root.parent / "elsewhere.zip")
    (root / POSES_ZIP).symlink_to(root.parent / "elsewhere.zip")


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda root: (root / CAMERA_ZIP).unlink(), "has no clips of camera_front_wide_120fov"),
        (lambda root: (root / POSES_ZIP).unlink(), "has no egomotion (labels/egomotion/*.zip"),
        (lambda root: (root / CAMERA_ZIP).write_bytes(b"PK not an archive"), "is not a ZIP archive"),
        (lambda root: (root / CAMERA_ZIP).write_bytes((root / CAMERA_ZIP).read_bytes()[:900]), "is not a ZIP archive"),
        (damaged(POSES_ZIP), "egomotion.parquet cannot be unpacked (Bad CRC-32"),
        (member(POSES_ZIP, "egomotion.parquet", lambda data: data[:100]), "egomotion.parquet cannot be read"),
        (member(CAMERA_ZIP, "timestamps.parquet", lambda data: b"PAR1"), "timestamps.parquet cannot be read"),
        (member(CAMERA_ZIP, "timestamps.parquet", lambda data: None), "has no clip with timestamps and egomotion"),
        (member(CAMERA_ZIP, ".mp4", lambda data: b"no video"), ".mp4 cannot be read"),
        (member(CAMERA_ZIP, ".mp4", lambda data: data[:-3000]), ".mp4 cannot be read"),
        (rewritten(x=None), "has no column 'x'"),
        (rewritten(y=pa.array(["left"] * 128)), "the column 'y' is string, expected numbers"),
        (rewritten(z=numbers(5, None)), "row 5: z is missing"),
        (rewritten(qx=numbers(4, np.nan)), "row 4: qx is nan, which is not a finite number"),
        (rewritten(qw=numbers(3, 7.0)), "is not a rotation, whose norm is 1"),
        (rewritten(timestamp=pa.array(range(128, 0, -1), pa.int64())), "row 1: its time is before that"),
        (rewritten(stamps=pa.array([3] * 36, pa.int64())), "row 1: its timestamp is not after that of the row before"),
        (rewritten(stamps=pa.array([33_000 * k for k in range(50)], pa.int64())), "has 36 frames for the 50 rows of"),
        (lambda root: (root / "clip_index.parquet").write_bytes(b"PAR1"), "clip_index.parquet cannot be read"),
        (lambda root: pq.write_table(pa.table({"clip_id": [CLIP]}), root / "clip_index.parquet"), "needs the columns"),
        (linked_out, "is a link out of the data root"),
    ],
)  # fmt: skip
def test_malformed(spoil: Callable[[Path], object], expected: str, tmp_path: Path) -> None:
    write_physicalai(tmp_path / "raw", 0, {CLIP: truth(frames=36)}, (16, 16))
    spoil(tmp_path / "raw")
    message = refused("physicalai", tmp_path)
    assert expected in message, message


def test_options(tmp_path: Path) -> None:
    write_physicalai(tmp_path / "raw", 0, {CLIP: truth(frames=36)}, (16, 16))
    for options, expected in (
        ({"camera": "camera_front_wide"}, "did you mean 'camera_front_wide_120fov'?"),
        ({"hz": 50}, "has 30 frames per second, too few for --hz 50"),
        ({"split": "official"}, "--split official: train and val or test in the column split of"),
    ):
        assert expected in refused("physicalai", tmp_path, **options)
