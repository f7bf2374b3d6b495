"""Preparation rejects malformed tables, images and recordings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import simplejpeg

from helpers.drives import HEADER, numbered_image, write_drive, write_udacity
from helpers.refusals import Refuse

GOOD = "0.1,0.5,0,1"


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([GOOD] * 3, "has 3 rows for the 4 images"),
        ([GOOD, "left,0,0,1", GOOD, GOOD], "actions.csv, row 3: steering is 'left', expected a number"),
        ([GOOD, GOOD, "0,nan,0,1", GOOD], "actions.csv, row 4: throttle is nan"),
        ([GOOD, "0,0,1", GOOD, GOOD], "actions.csv, row 3: there are 3 cells"),
        ([GOOD, f"{'1' * 200_000},0,0,1", GOOD, GOOD], "actions.csv, row 3: not CSV"),
        ([], "has 0 rows below its header"),
    ],
)
def test_invalid_tables(rows: list[str], expected: str, refuse: Refuse, tmp_path: Path) -> None:
    write_drive(tmp_path / "raw" / "d", 4, rows, HEADER)
    command = ("prepare-dataset", "--dataset", "folder", "--workers", 1, "--output", "new/store", "--data-root")
    refuse(*command, tmp_path / "raw", message=expected)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (simplejpeg.encode_jpeg(np.ascontiguousarray(numbered_image(3)))[:300], "row 4: .*f2.jpg is a damaged JPEG"),
        (b"", r"row 4: .*f2.jpg is empty \(0 bytes\)"),
        (b"hello", "row 4: .*f2.jpg is not a supported image"),
    ],
)
@pytest.mark.parametrize("workers", [1, 2])
def test_invalid_images(content: bytes, expected: str, workers: int, refuse: Refuse, tmp_path: Path) -> None:
    for k in range(2):
        write_drive(tmp_path / "raw" / f"d{k}", 4)
    (tmp_path / "raw" / "d1" / "images" / "f2.jpg").write_bytes(content)
    command = ("prepare-dataset", "--dataset", "folder", "--workers", workers, "--output", "new/store", "--data-root")
    refuse(*command, tmp_path / "raw", message=expected)


def test_invalid_recordings_and_outputs(refuse: Refuse, tmp_path: Path, here: Path, road_store: Path) -> None:
    root = write_udacity(tmp_path / "raw", [100 * k for k in range(20)])
    log = (root / "driving_log.csv").read_text()
    (here / "file").write_text("in the way")
    command = ("prepare-dataset", "--dataset", "udacity", "--workers", 1, "--data-root")
    refuse(*command, here / "file", message="is a file")
    refuse(*command, here, message="is not a recording of the Udacity simulator")
    refuse(*command, root, "--hz", 50, message="too few for --hz 50")
    refuse(*command, root, "--output", "file", message="the output file is a file")
    refuse(*command, root, "--output", "file/store", message="cannot be written")
    refuse(*command, root, "--output", root, message="is not a store; choose an empty")
    refuse(*command, root, "--output", road_store, message="there is another store at")
    for old, new, expected in (("0.5", "fast", "row 1: throttle is 'fast'"), ("_100.jpg", ".jpg", "row 2: ")):
        (root / "driving_log.csv").write_text(log.replace(old, new))
        refuse(*command, root, message=expected)
