"""AirSim: store contents of drives with known motion and commands, and errors for malformed data."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from daydrive.data.sources import airsim, read_options
from helpers.airsim import HEADERS, commands, write_airsim
from helpers.open_formats import train_and_evaluate
from helpers.recordings import Truth, columns, intervals, prepared, shown
from helpers.refusals import refused

SIZE = (24, 32)
LOG = "airsim_rec.txt"


def truth(seed: int = 0, frames: int = 60, **more: object) -> Truth:
    return Truth(frames, hz=10.0, seed=seed, start=1.6e9, **more)


@pytest.mark.parametrize("version", ["2020", "2018", "2017"])
def test_commands_images_and_places(version: str, tmp_path: Path) -> None:
    drives = [truth(seed) for seed in range(3)]
    for k, drive in enumerate(drives):
        write_airsim(tmp_path / "raw" / f"2026-01-0{k}", drive, version, cameras=("front_center", "back_center"))
    store = prepared("airsim", tmp_path, size=SIZE)
    assert store.hz == 10.0 and sorted(d.split for d in store.drives) == ["test", "train", "val"]
    for drive in store.drives:
        expected = drives[int(drive.name[-1])]
        rows = drive.start + np.arange(drive.frames)
        assert drive.frames == 60 and np.allclose(
            store.read_actions(rows)[:, :3], commands(expected)[:, [1, 0, 2]].clip(-1, 1), atol=1e-6
        )
        values = columns(store, rows)
        assert (store.read_actions(rows)[:, 3] == 1).all() and np.array_equal(values["row"], 2 + np.arange(60))
        assert np.abs(values["speed"] - expected.at(expected.speed)).max() < 1e-4, "m/s in every version"
        assert np.abs(shown(store, rows) - np.stack(expected.images(SIZE))).mean(axis=(1, 2, 3)).max() < 6
        assert (
            np.isnan(values["x"]).all()
            if version == "2017"
            else np.allclose(values["y"], expected.at(expected.position[:, 1]), atol=1e-5)
        )
    if version == "2017":  # has one camera without a name
        return
    back = prepared("airsim", tmp_path, size=SIZE, camera="back_center", limit=1)
    name = int(back.drives[0].name.split(".")[0][-1])
    assert np.abs(255 - shown(back, np.arange(9)) - np.stack(drives[name].images(SIZE))[:9]).mean() < 6


def test_actions_from_poses(tmp_path: Path) -> None:
    expected = truth(2)
    write_airsim(tmp_path / "raw", expected, "poses")
    store = prepared("airsim", tmp_path, size=SIZE)
    rows = store.drives[0].start + np.arange(store.drives[0].frames)
    edges = intervals(expected, np.arange(len(rows)))
    actions = store.read_actions(rows)
    assert np.corrcoef(actions[:, 0], expected.mean(expected.wheel, edges))[0, 1] > 0.98, "positive to the right"
    assert np.abs(columns(store, rows)["speed"] - expected.mean(expected.speed, edges)).max() < 0.3
    assert store.metadata["drives"][0]["made_from"] == dict.fromkeys(("steering", "throttle", "brake", "gear"), "poses")


def test_negative_throttle_reverses_or_brakes_and_the_handbrake_brakes() -> None:
    speed = np.array([0.0, 5.0, 5.0, 0.1, -2.0, -2.0, -2.0, 0.0])
    commands_and_actions = [
        ((1, 0, 0, 0), (0, 1, 0, 1)),
        ((1, 0, 0, 0), (0, 1, 0, 1)),
        ((-0.5, 1.2, 0, 0), (1, 0, 0.5, 1)),
        ((-1, 0, 0, 0), (0, 1, 0, -1)),
        ((-1, 0, 0, 0), (0, 1, 0, -1)),
        ((0.5, 0, 0, 0), (0, 0, 0.5, -1)),
        ((0, 0, 0, 1), (0, 0, 1, -1)),
        ((0, 0, 2, 0), (0, 0, 1, -1)),
    ]
    given, expected = (np.array(rows, dtype=float) for rows in zip(*commands_and_actions, strict=True))
    assert np.array_equal(airsim._actions(given, speed), expected)
    assert airsim._actions(np.zeros((2, 4)), np.zeros(2)).tolist() == [[0, 0, 0, 1]] * 2


def test_driving_backwards(tmp_path: Path) -> None:
    expected = truth(backwards=True)
    write_airsim(tmp_path / "raw", expected)
    store = prepared("airsim", tmp_path, size=SIZE)
    actions = store.read_actions(np.arange(store.drives[0].frames))
    assert (actions[:, 3] == -1).all() and np.allclose(actions[:, 1], -commands(expected)[: len(actions), 0])


def test_two_vehicles_are_two_drives_of_one_split(tmp_path: Path) -> None:
    for k in range(3):
        write_airsim(tmp_path / "raw" / f"day{k}", truth(k, 30), vehicles=("Car_1", "Car_2"))
    store = prepared("airsim", tmp_path, size=(8, 8))
    splits = {drive.name: drive.split for drive in store.drives}
    assert sorted(splits) == [f"day{k}/Car_{n}" for k in range(3) for n in (1, 2)]
    assert all(splits[f"day{k}/Car_1"] == splits[f"day{k}/Car_2"] for k in range(3))


def test_rows_that_are_left_out_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_airsim(tmp_path / "raw", truth())
    lines = (folder / LOG).read_text().splitlines()
    lines[20] = lines[19]
    image = lines[30].split("\t")[-1].split(";")[-1]
    (folder / "images" / image).unlink()
    (folder / LOG).write_text("\n".join([*lines, lines[-1][:20]]) + "\n\n")
    store = prepared("airsim", tmp_path, size=(8, 8))
    assert "2 of 60 rows of" in (said := capsys.readouterr().out), said
    assert "1 without an image, 1 whose time is not after that of an earlier row" in said
    rows = store.read_values(np.arange(store.rows), ["row"])["row"].tolist()
    assert 31 not in rows and 32 in rows, "a lost image is no gap"


def test_times_in_nanoseconds_and_a_simulation_slower_than_its_clock(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_airsim(tmp_path / "raw", truth(), unit=1e-9)
    assert prepared("airsim", tmp_path, size=(8, 8)).hz == 10.0
    assert "TimeStamp is read as ns, which gives 10.0 frames per second" in capsys.readouterr().out
    lines = [line.split("\t") for line in (folder / LOG).read_text().splitlines()]
    for k, cells in enumerate(lines[1:]):
        cells[1] = str(1_600_000_000_000 + 208 * k)
    (folder / LOG).write_text("".join("\t".join(cells) + "\n" for cells in lines))
    assert prepared("airsim", tmp_path, size=(8, 8)).hz == 4.81
    said = capsys.readouterr().out
    assert "In 1 of 1 recordings the simulation did not run at the rate of its clock" in said
    assert "drives for 0.1 s from row to row, by TimeStamp for 0.208 s" in said and "recorded_hz=10 " in said
    assert prepared("airsim", tmp_path, size=(8, 8), recorded_hz=10).hz == 10.0
    assert "recorded_hz" not in capsys.readouterr().out


def test_frames_can_be_read_in_another_process(tmp_path: Path) -> None:
    write_airsim(tmp_path / "raw" / "a", truth(frames=20))
    source = airsim.AirSimSource()
    (drive,) = source.drives(tmp_path / "raw", read_options(source, {}), SIZE)
    assert drive.length == len(list(pickle.loads(pickle.dumps(drive)).frames())) == 20


def test_training_and_evaluation(tmp_path: Path, tiny_config: Path) -> None:
    for k in range(3):
        write_airsim(tmp_path / "raw" / f"d{k}", truth(k, 24))
    train_and_evaluate(prepared("airsim", tmp_path, size=(64, 64)).path, tiny_config, tmp_path)


HEADER = HEADERS["2020"]


def cell(row: int, column: str, text: str) -> Callable[[Path], object]:
    """A function that replaces a cell of the row (the header is row 1)."""

    def apply(folder: Path) -> None:
        lines = [line.split("\t") for line in (folder / LOG).read_text().splitlines()]
        lines[row - 1][HEADER.index(column)] = text
        (folder / LOG).write_text("".join("\t".join(cells) + "\n" for cells in lines))

    return apply


def text(edit: Callable[[str], str]) -> Callable[[Path], object]:
    return lambda folder: (folder / LOG).write_text(edit((folder / LOG).read_text()))


def image(data: bytes) -> Callable[[Path], object]:
    return lambda folder: sorted((folder / "images").glob("*_0_*"))[3].write_bytes(data)


def linked_out(folder: Path) -> None:
    os.rename(folder / "images", folder.parent.parent / "elsewhere")
    (folder / "images").symlink_to(folder.parent.parent / "elsewhere")


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda folder: (folder / LOG).unlink(), "has no recordings of AirSim"),
        (lambda folder: (folder / LOG).write_bytes(b""), "row 1: there is no column 'TimeStamp'"),
        (text(lambda t: t.replace("\t", ",")), "there is no column 'TimeStamp'; the columns are separated by tabs"),
        (text(lambda t: t.replace("ImageFile", "Image")), "row 1: there is no column 'ImageFile'"),
        (text(lambda t: t.replace("Brake", "B").replace("POS_X", "X")), "neither the columns Throttle, Steering"),
        (text(lambda t: t.splitlines()[0] + "\n"), "has no rows below its header"),
        (text(lambda t: "\n".join(t.splitlines()[:2]) + "\n"), "has 1 usable rows; a drive needs at least 2"),
        (text(lambda t: t.replace("\t900.000000", "", 1)), "row 2: there are 16 cells, but the header has 17"),
        (cell(5, "TimeStamp", "soon"), "row 5: timestamp is 'soon', expected a number"),
        (cell(6, "POS_X", "nan"), "row 6: pos_x is nan, which is not a finite number"),
        (cell(7, "Steering", "17.5"), "row 7: steering is 17.5, outside [-1.5, 1.5]"),
        (cell(8, "Q_W", "3"), "row 8: Q_W, Q_X, Q_Y, Q_Z are [3.0, "),
        (text(lambda t: t.replace("_0_", "_3_")), "has no RGB images; record a camera with ImageType 0"),
        (lambda folder: [file.unlink() for file in (folder / "images").iterdir()], "images has none of the images of"),
        (image(b""), "row 5: the image "),
        (image(b"P6 8 8 255 " + bytes(192)), "is not a supported image, neither JPEG nor PNG"),
        (image(b"\x89PNG\r\n\x1a\n" + bytes(30)), "is a truncated PNG"),
        (linked_out, "is a link out of the data root"),
    ],
)  # fmt: skip
def test_malformed(spoil: Callable[[Path], object], expected: str, tmp_path: Path) -> None:
    spoil(write_airsim(tmp_path / "raw" / "drive", truth(frames=20), size=(8, 8)))
    message = refused("airsim", tmp_path)
    assert expected in message, message


def test_options_multirotors_and_rates_that_cannot_be(tmp_path: Path) -> None:
    folder = write_airsim(tmp_path / "raw" / "drive", truth(frames=20), size=(8, 8))
    assert "--camera back: " in refused("airsim", tmp_path, camera="back")
    assert "has 10 frames per second, too few for --hz 25" in refused("airsim", tmp_path, hz=25)
    lines = [line.split("\t") for line in (folder / LOG).read_text().splitlines()]
    for k, cells in enumerate(lines[1:]):
        cells[1] = str(k)
    (folder / LOG).write_text("".join("\t".join(cells) + "\n" for cells in lines))
    assert "TimeStamp increases by 1 from row to row" in refused("airsim", tmp_path)
    write_airsim(tmp_path / "drone" / "raw", truth(frames=20), "poses", size=(8, 8), sideways=1.2)
    assert "recordings of multirotors are not supported" in refused("airsim", tmp_path / "drone")
    assert cv2.imread(str(next((folder / "images").iterdir()))) is not None
