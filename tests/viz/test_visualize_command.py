"""`daydrive visualize`: files of every kind, and errors for invalid input."""

from __future__ import annotations

import json
import runpy
import shutil
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image as Pillow

from daydrive.data.store.store import Store
from helpers.paths import REPO
from helpers.refusals import Refuse

STEPS = 3

COPIER = """
class Copier:
    context = 2

    def reset(self, context):
        self.last = context.images[:, -1]

    def step(self, action):
        return self.last


def load(checkpoint, device):
    return Copier()
"""


@pytest.fixture(scope="module")
def drive(road_store: Path) -> str:
    return str(Store.open(road_store).drives[0].name)


def frames_of(file: Path) -> int:
    if file.suffix == ".mp4":
        with av.open(str(file)) as video:
            return sum(1 for _ in video.decode(video=0))
    return getattr(Pillow.open(file), "n_frames", 1)


@pytest.mark.parametrize(
    ("kind", "name", "frames"),
    [
        ("rollout", "a.png", 1),
        ("rollout", "a.mp4", 4 + STEPS),
        ("rollout", "A.GIF", 4 + STEPS),
        ("steering-sweep", "new/b.png", 1),
        ("steering-sweep", "b.gif", 4 + STEPS),
        ("motion", "c.png", 1),
        ("motion", "c.mp4", STEPS),
        ("latent", "d.png", 1),
        ("latent", "d.mp4", STEPS),
        ("error", "e.png", 1),
        ("error", "e.gif", STEPS),
        ("sheet", "f.png", 1),
    ],
)
def test_every_kind_in_every_format(
    kind: str, name: str, frames: int, trained: Path, road_store: Path, here: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    options = ["--checkpoint", trained, "--data-root", road_store, "--horizon", STEPS, "--output", name]
    options += ["--clips", "2"] if kind in ("rollout", "error", "sheet") else []
    monkeypatch.setattr(sys, "argv", ["visualize.py", kind, *map(str, options), "--device", "cpu"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(REPO / "scripts/visualize.py"), run_name="__main__")
    assert not ended.value.code
    assert capsys.readouterr().out.startswith(f"{name}: ")
    assert frames_of(here / name) == frames
    assert [path for path in here.rglob("*") if path.is_file()] == [here / name]


@pytest.mark.parametrize("kind", ["rollout", "steering-sweep", "error", "sheet"])
def test_external_models_are_supported(
    kind: str, road_store: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "copier.py").write_text(COPIER)
    options = ["--checkpoint", "copier.py", "--adapter", "copier.py:load", "--data-root", str(road_store)]
    monkeypatch.setattr(sys, "argv", ["visualize.py", kind, *options, "--horizon", "2", "--output", "a.png"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(REPO / "scripts/visualize.py"), run_name="__main__")
    assert not ended.value.code and min(Pillow.open(here / "a.png").size) > 200


def test_curves_need_no_checkpoint(trained: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "a").mkdir()
    shutil.copy(trained / "metrics.jsonl", here / "a")
    monkeypatch.setattr(sys, "argv", ["visualize.py", "curves", "a", str(trained), "--output", "c.png"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(REPO / "scripts/visualize.py"), run_name="__main__")
    assert not ended.value.code
    image = np.asarray(Pillow.open(here / "c.png"))
    assert image.shape[1] > image.shape[0] > 400


def test_invalid_input(
    refuse: Refuse, trained: Path, road_store: Path, small_store: Path, here: Path, drive: str
) -> None:
    (here / "file").write_text("in the way")
    (here / "folder.png").mkdir()
    model = ("--checkpoint", trained)
    road = (*model, "--data-root", road_store)
    to = ("--output", "a.png")
    suffixes = r"written as \.png, \.mp4 or \.gif, so the file name has to end in that"
    for kind in ("rollout", "steering-sweep", "motion", "latent", "error"):
        refuse("visualize", kind, *road, "--output", "a.jpg", message=f"--output a.jpg: {kind} is {suffixes}")
    refuse("visualize", "sheet", *road, "--output", "a.mp4", message=r"sheet is written as \.png, so")
    refuse("visualize", "rollout", *road, "--output", "folder.png", message="is a folder; name a file in it")
    refuse("visualize", "rollout", *road, "--output", "file/a.png", message="folder of --output file is a file")
    refuse("visualize", "rollout", "--checkpoint", "x", *road[2:], *to, message="there is no checkpoint x")
    refuse("visualize", "motion", "--checkpoint", road_store, *road[2:], *to, message="is not a checkpoint")
    for kind in ("rollout", "motion", "steering-sweep"):
        refuse(
            "visualize", kind, *model, "--data-root", small_store, *to, message="expects images of 64x64 and the store"
        )
    refuse("visualize", "error", *road, *to, "--split", "tset", message="did you mean 'test'")
    near = drive[:-1] + "x"
    refuse(
        "visualize", "latent", *road, *to, "--drive", near, message=f"has no drive '{near}'; did you mean '{drive[:-1]}"
    )
    late = ("--drive", drive, "--at", "2.3")
    refuse("visualize", "steering-sweep", *road, *to, *late, message=r"--at 2.3: in the drive .* from 0.3 s to 2.2 s")
    refuse("visualize", "sheet", *road, *to, "--at", "1", message="name the drive with --drive")
    refuse(
        "visualize",
        "steering-sweep",
        *model,
        *to,
        "--drive",
        drive,
        message="require a store: name it with --data-root",
    )
    refuse(
        "visualize",
        "motion",
        *road,
        *to,
        "--adapter",
        "a.py:b",
        message="motion shows the internal state of daydrive's own models",
    )
    refuse(
        "visualize",
        "latent",
        *road,
        *to,
        "--adapter",
        "a.py:b",
        message="latent shows the internal state of daydrive's own models",
    )
    for kind in ("motion", "latent"):
        refuse(
            "visualize",
            kind,
            *road,
            *to,
            "--adapter",
            "a.py:b",
            message=f"{kind} shows the internal state of daydrive's own models",
        )
    refuse("visualize", "rollout", *road, *to, "--horizon", 0, message="horizon")
    refuse("visualize", "rollouts", message="rollout")


def test_drives_that_are_too_short(refuse: Refuse, trained: Path, store: Path) -> None:
    metadata = json.loads((store / "store.json").read_text())
    first, second, *others = metadata["drives"]
    metadata["drives"] = [{**first, "frames": 4}, {**second, "start": 4, "frames": 44}, *others]
    (store / "store.json").write_text(json.dumps(metadata))
    arguments = ("--checkpoint", trained, "--data-root", store, "--output", "a.png", "--drive", first["name"])
    refuse("visualize", "steering-sweep", *arguments, message="has 4 frames, and 5 are needed")


def test_runs_without_metrics(refuse: Refuse, trained: Path, here: Path) -> None:
    (here / "empty").mkdir()
    (here / "blank").mkdir()
    (here / "blank/metrics.jsonl").write_text('{"step": 1, "lr": 0.1}\n')
    to = ("--output", "c.png")
    refuse("visualize", "curves", trained, "empty", *to, message="the run folder empty has no metrics.jsonl; give")
    refuse("visualize", "curves", "nowhere", *to, message="the run folder nowhere does not exist")
    refuse("visualize", "curves", "blank", *to, message="contains neither train/loss nor val/psnr")
    refuse("visualize", "curves", trained, "--output", "c.gif", message="curves is written as .png")
    refuse("visualize", "curves", trained, *to, "--smooth", "1", message="smooth")
