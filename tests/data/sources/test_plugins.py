"""Sources of other packages: the guide's example, installed unchanged, and errors for invalid sources."""

from __future__ import annotations

import pickle
import re
import shlex
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from daydrive import cli
from daydrive.data import sources
from daydrive.data.prepare.prepare import prepare
from daydrive.data.store.store import Store
from helpers.drives import numbers
from helpers.guide import blocks
from helpers.refusals import Refuse, refuses
from helpers.source_packages import GUIDES, SOURCE, install, shown_package, write_package, write_racer


@pytest.fixture(scope="session")
def racer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which pip has installed the guide's package."""
    for needed in ("pip", "setuptools"):
        if find_spec(needed) is None:
            pytest.skip(f"{needed} is not installed")
    folder = tmp_path_factory.mktemp("racer")
    return install(shown_package(folder), folder / "installed")


@pytest.fixture
def installed(racer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(racer)
    monkeypatch.delitem(sys.modules, "racer_drives", raising=False)


def test_package_of_the_guide(
    installed: None, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "racer" in sources.names() and "racer_drives" not in sys.modules, "found, but not imported"
    shown = [c for guide in GUIDES for block in blocks("bash", guide) for c in block.commands if "--dataset racer" in c]
    words = shlex.split(shown[0])
    write_racer(here / words[words.index("--data-root") + 1], drives=4, frames=40, skipped=range(12, 22))
    monkeypatch.setattr(sys, "argv", ["daydrive", "prepare-dataset", *words[2:], "--workers", "1"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code, capsys.readouterr().err
    store = Store.open(here / "data/processed/racer")
    assert store.hz == 5.0 and len(store.drives) == 5
    splits = {drive.name: drive.split for drive in store.drives}
    assert splits["lap 0.0"] == splits["lap 0.1"] and set(splits.values()) == {"train", "val", "test"}
    assert {d["name"]: d.get("group") for d in store.metadata["drives"]}["lap 0.1"] == "lap 0"
    (drive,) = (drive for drive in store.drives if drive.name.startswith("lap 2"))
    rows = drive.start + np.arange(drive.frames)
    degrees = 10 * np.sin(np.arange(40) / 5)
    actions = store.read_actions(rows)
    assert np.allclose(actions[:-1, 0], -(degrees[0:38:2] + degrees[1:39:2]) / 2 / 25, atol=1e-4)
    assert np.allclose(actions[[0, 6]], [[actions[0, 0], 0.5, 0, 1], [actions[6, 0], 0, 0.25, 1]])
    assert np.abs(np.array(numbers(store, rows)) - 2 * np.arange(drive.frames)).max() <= 3
    assert store.metadata["actions"]["steering"]["scale"] == "25 at 1"
    assert store.metadata["request"]["options"] == {"hz": 5.0, "lock": 25.0}
    assert pickle.loads(
        pickle.dumps(sources.get("racer").drives(Path("recordings/racer"), {"hz": 5, "lock": 9}, (8, 8)))
    )


def test_options(installed: None, refuse: Refuse, tmp_path: Path) -> None:
    write_racer(tmp_path / "work/raw")
    command = ("prepare-dataset", "--dataset", "racer", "--data-root", "raw", "--workers", "1", "--set")
    refuse(*command, "lokc=25", said="'racer' does not take --set lokc; did you mean 'lock'")
    refuse(*command, "lock", said="--set lock: give NAME=VALUE")
    refuse(*command, "lock=wide", said="--set lock must be a number, not 'wide'")
    refuse(*command, "lock=0.5", said="--set lock must be at least 1")
    refuse(*command, "hz=5", "--hz", "5", said="'hz' is given twice")
    refuse(*command, "hz=5", "--set", "hz=6", said="'hz' is given twice")


def test_errors_of_the_source(installed: None, tmp_path: Path) -> None:
    log = write_racer(tmp_path / "raw", 1) / "lap 0/log.csv"
    log.write_text(log.read_text().replace(",0.1,", ",soon,", 1))
    message = refuses(lambda: prepare("racer", tmp_path / "raw", tmp_path / "s", workers=1), tmp_path)
    assert message.endswith("log.csv, row 3: time is 'soon', expected a number")
    log.write_text("image,when\n0.jpg,0\n")
    message = refuses(lambda: prepare("racer", tmp_path / "raw", tmp_path / "s", workers=1), tmp_path)
    assert (
        message
        == "the dataset 'racer' of the package 'racer-drives' failed (KeyError: 'time'); --debug shows the traceback"
    )


FAULTS = {
    "it is not importable": ("import numpy", "import nowhere_at_all", r"failed \(ModuleNotFoundError: No module named"),
    "its module raises": ("import numpy", "1 / 0\nimport numpy", r"failed \(ZeroDivisionError: division by zero\)"),
    "there is no such class": ("class Source", "class Others", r"failed \(AttributeError: .*'Source'"),
    "it lacks a method": ("def describe", "def described", "package:Source is not a source, it has no 'describe'"),
    "it has another name": ('"broken", False', '"brken", False', "has the name 'brken'"),
    "its split is unknown": ('False, "drive"', 'False, "frame"', "its split is 'frame', not 'drive' or 'time'"),
    "its options are strings": ('"drive", ()', '"drive", ("hz",)', "its options have to be instances of daydrive.data"),
    "an action is not described": ('"gear"), entry', '"gea"), entry', r"has no entry for the action 'gear'"),
    "a value is a store column": ('{"v": "m/s"}', '{"time": "s"}', r"a value 'time', which is a column of every store"),
    "it finds no drives": ("return [Drive", "return [] or 0 and [Drive", r"drives\(\) returned no drives"),
    "two drives have one name": ('f"d{k}"', '"d"', r"drives\(\) returned two drives with the name 'd'"),
    "a drive's split is unknown": ("10.0, frames)", '10.0, frames, "dev")', "'d0' has the split 'dev', not train"),
    "an action is out of range": ("array([0,", "array([k,", r"frame 2 of the drive 'd0' has the action \[2.0, "),
    "an action is NaN": ("array([0,", "array([np.nan,", r"frame 0 of the drive 'd0' has the action \[nan, "),
    "an image is float32": ("np.uint8", "np.float32", r"an image of float32 \(8, 8, 3\), not uint8"),
    "a drive raises": ("for k in range(5):", "for k in [1][2]:", r"failed \(IndexError: list index out of range\)"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_invalid_package(fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new, message = FAULTS[fault]
    assert old in SOURCE
    monkeypatch.syspath_prepend(write_package(tmp_path / "site", "broken-package", SOURCE.replace(old, new, 1)))
    monkeypatch.delitem(sys.modules, "broken_package", raising=False)
    (tmp_path / "stores").mkdir()
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    sentence = refuses(lambda: prepare("broken", None, tmp_path / "stores/s", (8, 8), workers=1), tmp_path)
    assert sentence.startswith("the dataset 'broken' of the package 'broken-package' ")
    assert re.search(message, sentence), sentence
    assert sources.get("road").name == "road", "other sources still work"


def test_name_conflicts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], refuse: Refuse
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.syspath_prepend(write_package(tmp_path / "site", "third-party", SOURCE, "udacity"))
    for k in range(2):
        write_package(tmp_path / "site", f"twin-{k}", SOURCE, "twin")
    refuse(
        "prepare-dataset",
        "--dataset",
        "udacity",
        said="the package 'third-party' registers a dataset 'udacity', which is a built-in",
    )
    refuse("prepare-dataset", "--dataset", "twin", said="'twin-[01]' and 'twin-[01]' both register a dataset 'twin'")
    refuse("prepare-dataset", "--dataset", "twim", said="there is no dataset 'twim'; did you mean 'twin'")
    assert sources.get("kitti").name == "kitti"
    monkeypatch.setattr(sys, "argv", ["daydrive", "data", "sources"])
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as ended:
        cli.main()
    output = capfd.readouterr().out
    assert not ended.value.code and "both register a dataset 'twin'" in output
    for name in sources.SOURCES:
        assert f"\n{name} " in output
    assert "Recordings of Udacity" not in output and "--camera=CAM_FRONT: channel of the camera" in output
