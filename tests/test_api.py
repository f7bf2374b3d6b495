"""The public API of `import daydrive`, at run time and for a type checker."""

from __future__ import annotations

import os
import pickle
import pkgutil
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

import daydrive
from daydrive.data.sampling.clips import ClipIndex, read_clips
from daydrive.models.rollout import rollout_uint8
from helpers.guide import blocks
from helpers.paths import REPO

SOURCE = Path(daydrive.__file__).parent


def test_import_is_lazy_and_names_exist() -> None:
    code = "import sys, daydrive; print('torch' in sys.modules, set(daydrive.__all__) <= set(dir(daydrive)))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.split() == ["False", "True"]
    for name in daydrive.__all__:
        assert getattr(daydrive, name).__doc__
    assert not hasattr(daydrive, "load_model")


def test_no_module_shadows_a_public_name() -> None:
    """Importing `daydrive.x` sets the attribute x of the package."""
    assert not {module.name for module in pkgutil.iter_modules([str(SOURCE)])} & set(daydrive.__all__)


def test_clips_match_the_store(road_store: Path) -> None:
    store = daydrive.Store.open(road_store)
    drives = store.split("train")
    clips = daydrive.Clips(road_store, "train", length=6)
    assert len(clips) == sum(drive.frames - 5 for drive in drives)
    images, actions = clips[3]
    expected = read_clips(store, [ClipIndex(store, "train", 6).clip(3)])
    assert images.equal(expected.images[0]) and actions.equal(expected.actions[0])
    assert (images.dtype, actions.dtype) == (torch.uint8, torch.float32)
    assert clips[-1][0].equal(clips[len(clips) - 1][0]) and not clips[-1][0].equal(images)
    for place in (len(clips), -len(clips) - 1):
        with pytest.raises(IndexError):
            clips[place]
    sparse = daydrive.Clips(store, "val", length=4, frame_skip=3, where="frame >= 6")
    assert sparse[0][0].equal(read_clips(store, [ClipIndex(store, "val", 4, 3, where="frame >= 6").clip(0)]).images[0])
    with pytest.raises(daydrive.UserError, match="no drive long enough"):
        daydrive.Clips(store, "train", length=100)
    with pytest.raises(daydrive.UserError, match="did you mean 'train'"):
        daydrive.Clips(store, "trian")


@pytest.mark.parametrize("workers", [0, 2])
def test_clips_in_a_data_loader(road_store: Path, workers: int) -> None:
    clips = daydrive.Clips(road_store, "train", length=6)
    assert pickle.loads(pickle.dumps(clips))[5][0].equal(clips[5][0])
    loader = DataLoader(
        clips, batch_size=3, num_workers=workers, multiprocessing_context="forkserver" if workers else None
    )
    images, actions = next(iter(loader))
    assert images.shape == (3, 6, 3, 64, 64) and actions.shape == (3, 5, 4)
    assert all(images[k].equal(clips[k][0]) and actions[k].equal(clips[k][1]) for k in range(3))


def test_model_is_loaded_from_run_checkpoint_or_file(trained: Path) -> None:
    folder = trained / "checkpoints" / (trained / "checkpoints/last").read_text().strip()
    models = [daydrive.load(place) for place in (trained, str(folder), folder / "model.safetensors")]
    for model in models:
        assert not model.training and model.context_frames == 4
        assert all(a.equal(b) for a, b in zip(model.parameters(), models[0].parameters(), strict=True))
    with pytest.raises(daydrive.UserError, match="there is no checkpoint"):
        daydrive.load("nowhere")


def test_rollout_matches_the_model_and_preserves_random_state(trained: Path, road_store: Path) -> None:
    model = daydrive.load(trained)
    images, actions = (part[None] for part in daydrive.Clips(road_store, "test", length=9)[0])
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    frames = daydrive.rollout(model, images[:, :4], actions, seed=1)
    assert torch.rand(2).equal(expected)
    assert frames.equal(rollout_uint8(model, images[:, :4], actions)) and frames.shape == (1, 5, 3, 64, 64)


@pytest.mark.parametrize(
    ("images", "actions", "message"),
    [
        (torch.zeros(1, 3, 3, 64, 64, dtype=torch.uint8), torch.zeros(1, 8, 4), "4 context frames"),
        (torch.zeros(1, 4, 3, 64, 64), torch.zeros(1, 8, 4), "images are torch.float32"),
        (torch.zeros(1, 4, 3, 32, 64, dtype=torch.uint8), torch.zeros(1, 8, 4), "3, 64, 64"),
        (torch.zeros(2, 4, 3, 64, 64, dtype=torch.uint8), torch.zeros(1, 8, 4), r"float32 \(2, 3 \+ N, 4\)"),
        (torch.zeros(1, 4, 3, 64, 64, dtype=torch.uint8), torch.zeros(1, 3, 4), "give at least 4"),
    ],
)
def test_rollout_rejects_invalid_tensors(
    trained: Path, images: torch.Tensor, actions: torch.Tensor, message: str
) -> None:
    with pytest.raises(daydrive.UserError, match=message) as caught:
        daydrive.rollout(daydrive.load(trained), images, actions)
    assert "\n" not in str(caught.value)


def test_readme_example_runs(trained: Path, road_store: Path, here: Path) -> None:
    shutil.copytree(road_store, here / "data/processed/road")
    shutil.copytree(trained, here / "runs/demo")
    (block,) = blocks("python", REPO / "README.md")
    found: dict[str, torch.Tensor] = {}
    exec(compile(block.text, "README.md", "exec"), found)
    assert found["frames"].shape == (1, 16, 3, 64, 64)


USES_ALL = """
from pathlib import Path
from typing import assert_type

import torch
from torch import Tensor
from torch.utils.data import DataLoader

import daydrive
from daydrive import Clips, Store, UserError, build_world_model, evaluate, load, rollout
from daydrive.config import load_config

store = Store.open("data/processed/road")
first = store.split("test")[0]
assert_type(first.start + first.frames, int)
clips = Clips(store, "train", length=6, frame_skip=1, where=None)
assert_type(clips[0], tuple[Tensor, Tensor])
assert_type(len(clips), int)
loader = DataLoader(clips, batch_size=2)
model = load(Path("runs/first"), device=torch.device("cpu"))
assert_type(model.context_frames, int)
assert_type(rollout(model, clips[0][0][None], clips[0][1][None], seed=0), Tensor)
new = build_world_model(load_config("demo"))
new.enable_gradient_checkpointing()
try:
    found = evaluate("runs/first", "data/processed/road", "evaluation", split="val", horizon=5)
    print(found["clips"], daydrive.__version__)
except UserError as error:
    print(str(error))
"""


def check_types(text: str, folder: Path) -> tuple[int, str]:
    """The output of mypy in strict mode for a file outside of the repository."""
    (folder / "uses.py").write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--config-file=", "uses.py"],
        cwd=folder, env={**os.environ, "MYPYPATH": str(SOURCE.parent)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout


@pytest.mark.slow
def test_strict_typing_for_users(tmp_path: Path) -> None:
    assert (SOURCE / "py.typed").is_file()
    code, output = check_types(USES_ALL, tmp_path)
    assert code == 0, output
    code, output = check_types("import daydrive\ndaydrive.lod('a')\ndaydrive.load(3)\n", tmp_path)
    assert code == 1 and '"lod"' in output and '"load"' in output and "Found 2 errors" in output


def test_evaluation_with_string_paths(trained: Path, road_store: Path, tmp_path: Path) -> None:
    run = shutil.copytree(trained, tmp_path / "run")
    found = daydrive.evaluate(str(run), str(road_store), str(tmp_path / "e"), split="val", horizon=4, clips=2)
    assert found["split"] == "val" and (tmp_path / "e/report.html").is_file()


def test_checkpoints_are_read_without_the_slow_import_of_sharded_tensors() -> None:
    modules = "daydrive.evaluation, daydrive.training.optim.muon"
    code = f"import sys, {modules}; print('torch.distributed.tensor' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "False\n"
