"""Malformed comma2k19 and KITTI recordings: a one-line error with file and row, and no files left behind."""

from __future__ import annotations

import io
import os
import pickle
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from daydrive import cli
from daydrive.data.prepare.prepare import prepare
from helpers.recordings import Truth, save, write_comma2k19, write_odometry, write_raw
from helpers.refusals import refused

Spoil = Callable[[Path], object]


class Trap:
    """Creates a folder if it is unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, ("unpickled",)


def change(name: str, edit: Callable[[np.ndarray], np.ndarray]) -> Spoil:
    return lambda segment: save(segment / name, edit(np.load(segment / name)))


def put(values: np.ndarray, row: int, value: float) -> np.ndarray:
    values[row] = value
    return values


def swapped(values: np.ndarray) -> np.ndarray:
    values[[10, 11]] = values[[11, 10]]
    return values


def cut(name: str, size: int) -> Spoil:
    return lambda segment: (segment / name).write_bytes((segment / name).read_bytes()[:size])


def write(name: str, content: bytes) -> Spoil:
    return lambda segment: (segment / name).write_bytes(content)


def linked_out(name: str) -> Spoil:
    def apply(segment: Path) -> None:
        outside = segment.parents[2] / "elsewhere"
        shutil.move(segment / name, outside)
        (segment / name).symlink_to(outside)

    return apply


def bomb() -> bytes:
    """An array header that claims a terabyte, without data."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f8", "fortran_order": False, "shape": (1 << 37,)})
    return stream.getvalue()


TIMES, POSITIONS, TURNS = (f"global_pose/frame_{name}" for name in ("times", "positions", "orientations"))
ANGLE, SPEED = "processed_log/CAN/steering_angle", "processed_log/CAN/speed"


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (change(TIMES, swapped), "frame_times, row 11: time 46000.500000 is before 46000.550000"),
        (change(TIMES, lambda t: put(t, 7, t[6])), "frame_times, row 7: two frames have the time"),
        (change(TIMES, lambda t: put(t, 9, np.nan)), "frame_times, row 9: nan is not finite"),
        (change(TIMES, lambda t: t[:39]), "frame_positions has 40 rows, but global_pose/frame_times has 39"),
        (change(TIMES, lambda t: t[:0]), "frame_times has 0 frames"),
        (change(POSITIONS, lambda p: put(p, 5, np.inf)), "frame_positions, row 5: [inf inf inf] is not finite"),
        (change(POSITIONS, lambda p: put(p, 6, 0)), "frame_positions, row 6: [0. 0. 0.] is not a valid position"),
        (change(POSITIONS, lambda p: p[:, :2]), "frame_positions has the shape (40, 2), expected (N, 3)"),
        (change(TURNS, lambda q: put(q, 3, np.nan)), "frame_orientations, row 3: [nan nan nan nan] is not finite"),
        (change(TURNS, lambda q: put(q, 4, 0)), "frame_orientations, row 4: [0. 0. 0. 0.] is not a valid orientation"),
        (change(f"{SPEED}/value", lambda v: v[:-1]), "speed has 166 times, but 165 values"),
        (change(f"{SPEED}/value", lambda v: put(v, 12, np.nan)), "CAN/speed/value, row 12: nan is not finite"),
        (change(f"{ANGLE}/t", lambda t: t[::-1]), "steering_angle/t, row 1: time"),
        (change(f"{ANGLE}/t", lambda t: t[:1]), "steering_angle/t has 1 messages"),
        (change(f"{ANGLE}/t", lambda t: t + 1000), "has no 1 s of frames, speed and steering without a gap"),
        (change(f"{ANGLE}/value", lambda v: v.astype("U8")), "value contains <U8, expected numbers"),
        (cut(f"{ANGLE}/value", 500), "is truncated: 372 bytes of data, but its header specifies 1328"),
        (cut(TIMES, 0), "frame_times is not a NumPy file"),
        (write(POSITIONS, bomb()), "frame_positions is truncated: 0 bytes of data, but its header specifies 109951"),
        (write(f"{ANGLE}/t", pickle.dumps(Trap())), "steering_angle/t is not a NumPy file"),
        (
            lambda segment: save(segment / ANGLE / "value", np.array([Trap()]), allow_pickle=True),
            "steering_angle/value contains pickled Python objects, which are not supported",
        ),
        (lambda segment: (segment / SPEED / "t").unlink(), "speed/t cannot be read (No such file or directory)"),
        (lambda segment: shutil.rmtree(segment / "processed_log"), "is an incomplete segment: it has no processed_log"),
        (lambda segment: (segment / "video.hevc").unlink(), "is an incomplete segment: it has no video.hevc"),
        (write("video.hevc", b""), "video.hevc has 0 frames for the 40 rows of"),
        (write("video.hevc", b"not a video at all" * 99), "video.hevc cannot be read at frame 0"),
        (cut("video.hevc", 700), "frames for the 40 rows of"),
        (linked_out(SPEED), "is a link out of the data root, to"),
        (linked_out("video.hevc"), "is a link out of the data root, to"),
        (linked_out("global_pose"), "is a link out of the data root, to"),
    ],
)  # fmt: skip
def test_comma2k19(spoil: Spoil, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    segment = write_comma2k19(tmp_path / "raw" / "déjà vu|x" / "0", Truth(40))
    spoil(segment)
    message = refused("comma2k19", tmp_path)
    assert expected in message and ("raw" in message) and not (tmp_path / "unpickled").exists()


def test_duplicate_segment(tmp_path: Path) -> None:
    write_comma2k19(tmp_path / "raw" / "Chunk_1" / "r" / "0", Truth(40))
    shutil.copytree(tmp_path / "raw" / "Chunk_1", tmp_path / "raw" / "Chunk_2")
    assert "Chunk_1/r/0 are the same segment of the same route" in refused("comma2k19", tmp_path)


def line(name: str, row: int, edit: Callable[[str], str]) -> Spoil:
    def apply(root: Path) -> None:
        lines = (root / name).read_text().splitlines()
        lines[row] = edit(lines[row])
        (root / name).write_text("\n".join(lines) + "\n")

    return apply


def words(index: int, value: str) -> Callable[[str], str]:
    return lambda text: " ".join([*text.split()[:index], value, *text.split()[index + 1 :]])


POSES, SEQUENCE = "poses/00.txt", "sequences/00"


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (line(POSES, 4, lambda text: " ".join(text.split()[:11])), "00.txt, row 5: there are 11 numbers, but a 3x4"),
        (line(POSES, 4, words(3, "nan")), "00.txt, row 5: a 3x4 matrix is nan, which is not a finite number"),
        (line(POSES, 4, words(3, "left")), "00.txt, row 5: a 3x4 matrix is 'left', expected a number"),
        (line(POSES, 4, words(0, "7")), "00.txt, row 5: its first three columns are not a rotation"),
        (line(POSES, 19, lambda _: ""), "00.txt, row 20: there are 0 numbers"),
        (line(f"{SEQUENCE}/times.txt", 3, lambda _: "0.1"), "times.txt, row 4: the time is not after that of row 3"),
        (line(f"{SEQUENCE}/times.txt", 3, lambda _: "0.1 0.2"), "times.txt, row 4: there are 2 numbers"),
        (lambda root: (root / SEQUENCE / "image_2/000003.png").unlink(), "times.txt has 20 times for 19 images"),
        (lambda root: (root / SEQUENCE / "image_2/000003.png").write_bytes(b""), "row 4: the image"),
        (lambda root: cut("image_2/000003.png", 60)(root / SEQUENCE), "000003.png is a truncated PNG"),
        (lambda root: (root / POSES).unlink(), "00 has no poses: neither poses.txt in it nor"),
        (lambda root: (root / POSES).write_text(""), "00.txt has 0 rows"),
        (lambda root: (root / POSES).write_bytes(b"\x80\x05" + bytes(99)), "00.txt, row 1: "),
        (
            lambda root: (root / SEQUENCE).rename(root / "sequences/11") and (root / POSES).unlink(),
            "no KITTI drives",
        ),
        (lambda root: write_raw(root, 1, Truth(20, hz=10)), "odometry sequences and raw drives, which are the same"),
        (
            lambda root: [(root / SEQUENCE / "times.txt").unlink(), (root / SEQUENCE / "image_2/000019.png").unlink()],
            "00.txt has 20 poses, but ",
        ),
        (
            lambda root: [
                shutil.move(root / SEQUENCE / "image_2/000003.png", root.parent / "out.png"),
                (root / SEQUENCE / "image_2/000003.png").symlink_to(root.parent / "out.png"),
            ],
            "000003.png is a link out of the data root",
        ),
        (
            lambda root: [shutil.move(root / POSES, root.parent / "p"), (root / POSES).symlink_to(root.parent / "p")],
            "00.txt is a link out of the data root",
        ),
        (lambda root: (root / SEQUENCE / "again").symlink_to(root), None),
        (lambda root: (root / "loop").symlink_to(root / "loop"), None),
    ],
)
def test_kitti_odometry(spoil: Spoil, expected: str | None, tmp_path: Path) -> None:
    write_odometry(tmp_path / "raw", "00", Truth(20, hz=10), (8, 24), cameras=(2,))
    spoil(tmp_path / "raw")
    if expected is None:
        assert prepare("kitti", tmp_path / "raw", tmp_path / "store", (16, 16), workers=1).exists()
    else:
        assert expected in refused("kitti", tmp_path)


DRIVE = "2011_09_26/2011_09_26_drive_0001_sync"
STAMPS, READING = f"{DRIVE}/image_02/timestamps.txt", f"{DRIVE}/oxts/data/0000000004.txt"


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (line(STAMPS, 2, lambda _: "13:02:25.5"), "timestamps.txt, row 3: '13:02:25.5' is not a time"),
        (line(STAMPS, 2, lambda _: ""), "timestamps.txt, row 3: '' is not a time"),
        (line(STAMPS, 2, lambda text: text.replace("-26", "-25")), "row 3: the time is not after"),
        (
            line(f"{DRIVE}/oxts/timestamps.txt", 5, lambda text: text.replace("2011", "2010")),
            "oxts/timestamps.txt, row 6",
        ),
        (line(READING, 0, words(8, "nan")), "0000000004.txt, row 1: an OXTS reading is nan"),
        (line(READING, 0, lambda text: text[:40]), "0000000004.txt, row 1: there are"),
        (lambda root: (root / READING).write_text(""), "0000000004.txt has 0 rows, expected 1"),
        (lambda root: (root / READING).unlink(), "has 19 readings, but oxts/timestamps.txt has 20 times"),
        (lambda root: shutil.rmtree(root / DRIVE / "oxts"), "drive_0001_sync has no oxts/"),
        (lambda root: (root / STAMPS).unlink(), "image_02/timestamps.txt cannot be read"),
    ],
)
def test_kitti_raw(spoil: Spoil, expected: str, tmp_path: Path) -> None:
    write_raw(tmp_path / "raw", 1, Truth(20, hz=10), (8, 24))
    spoil(tmp_path / "raw")
    assert expected in refused("kitti", tmp_path)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"camera": "4"}, "--camera 4: the cameras are 0 and 1 (grayscale), 2 and 3 (color)"),
        ({"camera": "3"}, "image_3 does not exist, but all drives are read from one camera"),
        ({"hz": 30}, "has 10 frames per second, too few for --hz 30"),
        ({"limit": 0}, "--limit must be at least 1, not 0"),
        ({"fit": "squeeze"}, "--fit squeeze: no such fit"),
    ],
)
def test_options(options: dict[str, object], expected: str, tmp_path: Path) -> None:
    write_odometry(tmp_path / "raw", "00", Truth(20, hz=10), (8, 24), cameras=(2,))
    assert expected in refused("kitti", tmp_path, **options)


@pytest.mark.parametrize("dataset", ["comma2k19", "kitti"])
def test_roots(dataset: str, tmp_path: Path) -> None:
    assert "does not exist" in refused(dataset, tmp_path)
    (tmp_path / "raw" / "something").mkdir(parents=True)
    assert f"{tmp_path / 'raw'} has no" in refused(dataset, tmp_path)
    assert "does not take --env" in refused(dataset, tmp_path, env="x")


def test_the_command_line_exits_with_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    segment = write_comma2k19(tmp_path / "raw" / "r" / "0", Truth(40))
    cut(TIMES, 200)(segment)
    arguments = ["prepare-dataset", "--dataset", "comma2k19", "--data-root", str(tmp_path / "raw"), "--limit", "1"]
    monkeypatch.setattr(sys, "argv", ["daydrive", *arguments, "--fit", "crop", "--output", str(tmp_path / "store")])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    message = capfd.readouterr().err
    assert ended.value.code == cli.BAD_INPUT and message.startswith("error: ") and "frame_times is truncated" in message
    assert os.listdir(tmp_path) == ["raw"]
