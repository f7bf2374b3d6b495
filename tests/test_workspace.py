"""A folder that one process at a time uses: the files after an interruption."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from daydrive.errors import UserError
from daydrive.workspace import LOCK, PLAN, exclusive_lock, publish, workspace


def work(folder: Path, plan: dict[str, Any] | None, error: BaseException | None = None) -> list[str]:
    """The files at the beginning; leaves a result and other files behind."""
    with workspace(
        folder, plan, "*.part", lambda holder: f"{holder} works", lambda error: isinstance(error, OSError)
    ) as there:
        found = sorted(path.name for path in there.iterdir())
        (there / "a.part").write_text("whole")
        (there / ".b.part.1.tmp").write_text("half")
        if error is not None:
            raise error
    return found


def interrupted(folder: Path, plan: dict[str, Any] | None, error: BaseException) -> bool:
    """Whether results remain."""
    with pytest.raises(type(error)):
        work(folder, plan, error)
    return folder.exists()


def test_only_results_of_the_same_plan_are_resumed(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "store.partial"
    assert interrupted(folder, {"size": (64, 64)}, OSError())
    assert work(folder, {"size": [64, 64]}) == ["a.part", LOCK, PLAN]
    assert not folder.exists()
    assert work(tmp_path / "new" / "store.partial", {}) == [LOCK, PLAN] and not (tmp_path / "new").exists()
    assert interrupted(folder, {"size": 1}, OSError())
    assert work(folder, {"size": 2}) == [LOCK, PLAN]


@pytest.mark.parametrize(("plan", "error"), [({"size": 1}, UserError("bad")), (None, OSError())])
def test_unusable_results_are_removed(tmp_path: Path, plan: dict[str, Any] | None, error: Exception) -> None:
    assert not interrupted(tmp_path / "store.partial", plan, error)


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_second_process_gets_the_holder(tmp_path: Path, kind: str) -> None:
    place = tmp_path if kind == "folder" else tmp_path / "lock"
    holder = "another process" if kind == "folder" else f"process {os.getpid()} on {socket.gethostname()}"
    with (
        exclusive_lock(place, str),
        pytest.raises(UserError, match=f"^{holder} works$"),
        exclusive_lock(place, lambda holder: f"{holder} works"),
    ):
        pass
    with exclusive_lock(place, str):
        pass


def test_existing_output_is_replaced(tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    publish(tmp_path / "new", tmp_path / "old", tmp_path / "aside")
    assert (tmp_path / "old" / "file").read_text() == "new" and (tmp_path / "aside" / "file").read_text() == "old"
