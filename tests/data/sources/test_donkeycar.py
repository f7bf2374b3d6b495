"""Donkeycar tubs of both versions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from daydrive.data.prepare.prepare import prepare
from daydrive.data.quality.check import find_bad_rows
from daydrive.data.store.store import Store
from helpers.open_formats import SIZE, record, seen, train_and_evaluate, write_old_tub, write_tub


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


def test_training_and_evaluation(tmp_path: Path, tiny_config: Path) -> None:
    for k in range(3):
        write_tub(tmp_path / "raw" / f"tub_{k}", (24,))
    train_and_evaluate(
        prepare("donkeycar", tmp_path / "raw", tmp_path / "s", (64, 64), workers=1), tiny_config, tmp_path
    )
