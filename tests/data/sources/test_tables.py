"""CSV files as programs write them: case, separators, blank lines, decimal commas, units of the steering."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from daydrive.data.prepare.prepare import prepare
from daydrive.data.store.store import Store
from helpers.drives import HEADER, write_drive
from helpers.open_formats import SIZE, write_csv, write_video
from helpers.refusals import refused

ROWS = [f"{k / 100},0.5,0,1" for k in range(30)]


@pytest.mark.parametrize(
    ("header", "rows"),
    [
        ("Steering,THROTTLE,Brake,gear", ROWS),
        (" Steering ,Throttle, Brake,Gear,Note", [f"{row},x" for row in ROWS]),
        (HEADER, [*ROWS, "", ""]),
        (HEADER, [*ROWS, ",,,"]),
        (HEADER.replace(",", ";"), [row.replace(",", ";") for row in ROWS]),
        (HEADER.replace(",", "\t"), [row.replace(",", "\t") for row in ROWS]),
        ("\ufeff" + HEADER, ROWS),
        ("steering,Steering,throttle,brake,gear", [f"{row.split(',')[0]},9,{row.split(',', 1)[1]}" for row in ROWS]),
    ],
    ids=["case", "spaces", "blank lines", "blank cells", "semicolons", "tabs", "byte order mark", "two cases"],
)
def test_tables_that_are_read(header: str, rows: list[str], tmp_path: Path) -> None:
    write_drive(tmp_path / "raw" / "drive", 30, rows, header)
    store = Store.open(prepare("folder", tmp_path / "raw", tmp_path / "store", (16, 16), workers=1))
    assert np.allclose(store.read_actions(np.arange(store.rows))[:, 0], np.arange(30) / 100)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([ROWS[0], "", *ROWS[1:]], "row 3: empty row before other rows"),
        (['"0,25",0.5,0,1', *ROWS[1:]], "row 2: steering is '0,25', expected a number with a decimal point"),
        (["25,0.5,0,1", *ROWS[1:]], "row 2: steering is 25, outside [-1, 1]; set a factor to that range with --set"),
        (["0,0.5,0,3", *ROWS[1:]], "row 2: gear is 3, outside [-1, 1]"),
    ],
)  # fmt: skip
def test_tables_that_are_not(rows: list[str], expected: str, tmp_path: Path) -> None:
    write_drive(tmp_path / "raw" / "drive", 30, rows)
    message = refused("folder", tmp_path)
    assert expected in message and not message.endswith("--set gear_scale=F")


def test_a_missing_column_names_the_nearest(tmp_path: Path) -> None:
    write_drive(tmp_path / "raw" / "drive", 30, ROWS, "steer,throttle,brake,gear")
    assert "there is no column 'steering'; rename 'steer'?" in refused("folder", tmp_path)


@pytest.mark.parametrize(
    ("unit", "scale"), [(90.0, 1 / 90), (-np.pi / 2, -2 / np.pi)], ids=["degrees", "radians to the left"]
)
def test_steering_in_another_unit(unit: float, scale: float, tmp_path: Path) -> None:
    rows = [f"{unit * (k - 15) / 10},50,0,1,{36 + k}" for k in range(30)]
    write_drive(tmp_path / "raw" / "drive", 30, rows, f"{HEADER},speed")
    options = {"steering_scale": scale, "throttle_scale": 0.01, "speed_scale": 1 / 3.6}
    store = Store.open(prepare("folder", tmp_path / "raw", tmp_path / "store", (16, 16), workers=1, **options))
    speed = store.read_values(np.arange(store.rows), ["speed"])["speed"]
    number = np.round(3.6 * speed - 36)
    actions = store.read_actions(np.arange(store.rows))
    assert np.allclose(actions[:, 0], ((number - 15) / 10).clip(-1, 1), atol=1e-5) and np.allclose(actions[:, 1], 0.5)
    described = store.metadata["actions"]["steering"]["converted"]
    assert described.startswith(f"{scale:g} * the given one, clipped")


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_table_of_a_video_in_any_case(separator: str, tmp_path: Path) -> None:
    write_video(tmp_path / "raw" / "a.mp4", [100 * k for k in range(30)])
    file = write_csv(tmp_path / "raw" / "a.csv", "Time,Steering,Throttle", [[k / 10, k / 100, 0.5] for k in range(30)])
    file.write_text(file.read_text().replace(",", separator) + "\n")
    store = Store.open(prepare("video", tmp_path / "raw", tmp_path / "store", SIZE, workers=1))
    assert np.allclose(store.read_actions([0, 1, 2])[:, 1], 0.5) and store.read_actions([2])[0, 0] > 0.015
    assert store.metadata["drives"][0]["made_from"]["steering"] == "Steering"
