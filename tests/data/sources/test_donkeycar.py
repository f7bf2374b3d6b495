"""Donkeycar tubs of both versions."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from daydrive.data.prepare.prepare import prepare
from daydrive.data.quality.check import find_bad_rows
from daydrive.data.store.store import Store
from daydrive.errors import UserError
from helpers.open_formats import SIZE, record, seen, train_and_evaluate, write_old_tub, write_tub
from helpers.paths import SHARED


def prepared(root: Path, **options: object) -> Store:
    return Store.open(prepare("donkeycar", root, root.parent / "store", SIZE, workers=1, **options))


def test_sessions_and_deleted_records_end_a_drive(tmp_path: Path) -> None:
    write_tub(tmp_path / "raw" / "tub 1 é", (30, 25), deleted=(0, 33, 34))
    write_tub(tmp_path / "raw" / "more" / "tub_2", (24,), deleted=(3,))
    write_tub(tmp_path / "raw" / "more" / "tub_3", (24,))
    store = prepared(tmp_path / "raw")
    names = {d.name: d for d in store.drives}
    assert store.hz == 20.0 and sorted(names) == [
        "more/tub_2/20-09-13_0/4", "more/tub_3/20-09-13_0/0", "tub 1 é/20-09-13_0/1", "tub 1 é/20-09-13_1/35"
    ]  # fmt: skip
    assert names["tub 1 é/20-09-13_0/1"].split == names["tub 1 é/20-09-13_1/35"].split, "a tub is in one split"
    for name, first, last in (("tub 1 é/20-09-13_0/1", 1, 29), ("tub 1 é/20-09-13_1/35", 35, 54)):
        rows = names[name].start + np.arange(names[name].frames)
        numbers = list(range(first, last + 1))
        assert seen(store, rows) == [k % 51 for k in numbers]
        values = store.read_values(rows, ["user_angle", "user_throttle", "record"])
        assert values["record"].tolist() == numbers
        assert np.allclose(values["user_angle"], [record(k)["user/angle"] for k in numbers])
        throttle = np.array([record(k)["user/throttle"] for k in numbers])
        assert np.allclose(values["user_throttle"], throttle)
        expected = np.column_stack([values["user_angle"], throttle.clip(0), (-throttle).clip(0), np.ones(len(rows))])
        assert np.allclose(store.read_actions(rows), expected, atol=1e-6)
    assert "LEFT" not in str(store.metadata["actions"]) and not find_bad_rows(store)
    assert store.metadata["actions"]["steering"]["sign"] == "positive to the right"


@pytest.mark.parametrize("times", ["milliseconds", "timestamp", ""])
def test_tubs_of_version_1(times: str, tmp_path: Path) -> None:
    write_old_tub(tmp_path / "raw", [*range(5), *range(6, 50)], times)
    store = prepared(tmp_path / "raw", hz=10)
    assert {d.name.rsplit(".", 1)[0] for d in store.drives} == {"raw/6"}, "runs shorter than a second are dropped"
    assert seen(store) == list(range(6, 50, 2)) and store.hz == 10.0
    steering = [(record(k)["user/angle"] + record(k + 1)["user/angle"]) / 2 for k in range(6, 48, 2)]
    assert np.allclose(store.read_actions(np.arange(store.rows))[:-1, 0], steering[: store.rows - 1], atol=1e-6)


def stalled(milliseconds: int, number: int) -> int:
    """The time of record `number` of a loop at 20 Hz that stalls for so many ms before every tenth record."""
    return 50 * number + milliseconds * (number // 10)


@pytest.mark.parametrize(("gap", "kept"), [(None, True), (0.5, True), (0.2, False), (0.35, True)])
def test_stalls_shorter_than_the_gap_limit_do_not_end_a_drive(
    gap: float | None, kept: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tub = write_tub(tmp_path / "raw", (60,), in_catalog=60)
    lines = [json.loads(line) for line in (tub / "catalog_0.catalog").read_text().splitlines()]
    for number, found in enumerate(lines):
        found["_timestamp_ms"] = 1_600_000_000_000 + stalled(250, number)
    (tub / "catalog_0.catalog").write_text("\n".join(map(json.dumps, lines)))
    if not kept:
        with pytest.raises(UserError, match=r"of 60 frames, 60 in pieces shorter than 1 s between gaps of more than"):
            prepared(tmp_path / "raw", gap=gap)
        return
    store = prepared(tmp_path / "raw", gap=gap)
    counts = store.metadata["frame_counts"][0]
    assert {drive.name.rsplit(".", 1)[0] for drive in store.drives} == {"raw/20-09-13_0/0"}
    assert counts["recorded"] == 60 and not any("pieces" in entry["reason"] for entry in counts["left_out"])
    assert counts["repeated"] == 25 and "a lower --hz repeats fewer frames" in capsys.readouterr().out


def test_deletions_refer_to_the_number_the_car_gave(tmp_path: Path) -> None:
    tub = write_tub(tmp_path / "raw", (60,), deleted=(30, 31), in_catalog=60)
    lines = (tub / "catalog_0.catalog").read_text().splitlines()
    del lines[1:4]
    (tub / "catalog_0.catalog").write_text("\n".join(lines))
    store = prepared(tmp_path / "raw")
    record = store.read_values(np.arange(store.rows), ["record"])["record"].astype(int).tolist()
    assert not {30, 31} & set(record) and {27, 28, 29, 32, 33} <= set(record)
    assert seen(store) == [number % 51 for number in record], "an image belongs to its record, not to its row"


def test_a_folder_of_tubs_within_an_empty_tub(tmp_path: Path) -> None:
    """A car's data folder is a tub itself, and people keep other tubs in it."""
    write_tub(tmp_path / "raw", ())
    write_tub(tmp_path / "raw" / "tub_1", (30,))
    assert {drive.name.split("/")[0] for drive in prepared(tmp_path / "raw").drives} == {"tub_1"}


STALLS = SHARED / "donkeycar_stalls"


@pytest.mark.skipif(not STALLS.is_dir(), reason=f"the recording is not at {STALLS}")
def test_a_real_car_whose_loop_stalls(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store.open(prepare("donkeycar", STALLS, tmp_path / "store", (16, 16), workers=1, hz=10))
    counts, said = store.metadata["frame_counts"][0], capsys.readouterr().out
    left_out = sum(entry["frames"] for entry in counts["left_out"])
    assert counts["recorded"] == 5751 and counts["stored"] == store.rows == 5751 - left_out + counts["repeated"]
    short = next(entry for entry in counts["left_out"] if "pieces" in entry["reason"])
    assert short["frames"] < 0.05 * 5751 and short["remedy"] == "a larger --set gap=SECONDS keeps more"
    assert f"frames: 5751 recorded, {store.rows} in the store" in said and short["reason"] in said
    before = Store.open(prepare("donkeycar", STALLS, tmp_path / "short", (16, 16), workers=1, hz=10, gap=0.2))
    assert before.rows < store.rows / 3


def test_training_and_evaluation(tmp_path: Path, tiny_config: Path) -> None:
    for k in range(3):
        write_tub(tmp_path / "raw" / f"tub_{k}", (24,))
    train_and_evaluate(
        prepare("donkeycar", tmp_path / "raw", tmp_path / "s", (64, 64), workers=1), tiny_config, tmp_path
    )
