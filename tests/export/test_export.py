"""Exports of every architecture as ONNX and as programs of PyTorch, run without the model's own code."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor

from daydrive import checkpoint
from daydrive.cli import app
from daydrive.config import ModelConfig
from daydrive.errors import UserError
from daydrive.export import parity
from daydrive.export.graphs import trace
from daydrive.export.onnx_files import compress, save
from daydrive.export.state import flatten, rebuild
from daydrive.models import WorldModel
from helpers.architectures import ARCHITECTURES, clip
from helpers.checkpoints import write_checkpoint
from helpers.guide import blocks
from helpers.paths import REPO
from helpers.refusals import Refuse

ADDITIONS: dict[str, dict[str, Any]] = {
    "a stabilizer": {"stabilizer": {"adaptation": 0.01}},
    "noise": {"noise": True, "source_detail": True, "context_noise": 0.1},
}
"""Settings of the model."""


@pytest.fixture(scope="module", params=[*ARCHITECTURES, "texture with a stabilizer", "texture with noise"])
def exported(request: pytest.FixtureRequest, small_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run and its export as ONNX."""
    folder = tmp_path_factory.mktemp("exported")
    architecture, _, addition = request.param.partition(" with ")
    write_checkpoint(folder / "run", architecture, **ADDITIONS.get(addition, {}))
    command(folder / "run", small_store, folder / "onnx", "--format", "onnx")
    return folder


def command(run: Path, store: Path, output: Path, *more: str) -> None:
    arguments = ["export", "--checkpoint", str(run), "--data-root", str(store), "--output", str(output), *more]
    app([*arguments, "--clips", "2"], standalone_mode=False)


def onnx_frames(folder: Path, images: Tensor, actions: Tensor, context: int) -> np.ndarray:
    """A rollout that uses only `model.json` and onnxruntime, (B, N, 3, H, W)."""
    about = json.loads((folder / "model.json").read_text())
    init, step = (onnxruntime.InferenceSession(folder / about[name]) for name in ("init", "step"))
    past = {"images": images.numpy(), "actions": actions[:, : context - 1].numpy()}
    names = [part["name"] for part in about["state"]]
    state = dict(zip(names, init.run(names, past), strict=True))
    frames = []
    for action in actions[:, context - 1 :].unbind(1):
        outputs = ["frame", *(part["next"] for part in about["state"])]
        frame, *after = step.run(outputs, {"action": action.numpy(), **state})
        state = dict(zip(names, after, strict=True))
        frames.append(frame)
    return np.stack(frames, 1)


@pytest.mark.parametrize("batch", [1, 3])
def test_onnx_rollouts_match_for_any_number_of_clips(exported: Path, batch: int) -> None:
    model = checkpoint.load(exported / "run").model
    generator = torch.Generator().manual_seed(batch)
    images = 2 * torch.rand(batch, 4, 3, 32, 32, generator=generator) - 1
    actions = torch.rand(batch, 3 + 6, 4, generator=generator)
    with torch.no_grad():
        state, expected = model.init_state(images, actions[:, :3]), []
        for action in actions[:, 3:].unbind(1):
            state, frame = model.step(state, action)
            expected.append(frame)
    found = onnx_frames(exported / "onnx", images, actions, 4)
    assert found.shape == (batch, 6, 3, 32, 32)
    np.testing.assert_allclose(found, torch.stack(expected, 1).numpy(), atol=1e-4)


def test_parity_is_written(exported: Path) -> None:
    found = json.loads((exported / "onnx/parity.json").read_text())
    assert found["steps"] == 50 and found["clips"] == 2 and [row["step"] for row in found["rows"]] == [1, 5, 10, 30, 50]
    assert all(row["max_difference"] < 1e-3 < found["tolerance"]["max_difference"] for row in found["rows"])
    compared = [row for row in found["rows"] if "psnr_torch" in row]
    assert [row["step"] for row in compared] == [1, 5, 10], "the clips end after 12 frames"
    assert all(row["psnr_torch"] == pytest.approx(row["psnr_exported"], abs=0.05) for row in compared)
    assert all(
        found["latency_ms"][name]["p95"] >= found["latency_ms"][name]["p50"] > 0 for name in ("torch", "exported")
    )
    assert found["bytes"] == {
        file.name: file.stat().st_size
        for file in sorted((exported / "onnx").iterdir())
        if file.name not in ("model.json", "parity.json")
    }


def test_weights_are_stored_once_and_without_local_paths(exported: Path) -> None:
    folder = exported / "onnx"
    parameters = sum(tensor.numel() for tensor in checkpoint.load(exported / "run").model.state_dict().values())
    assert (folder / "weights.bin").stat().st_size < 1.2 * 4 * parameters
    for name in ("step.onnx", "init.onnx"):
        text = (folder / name).read_bytes()
        assert b".py" not in text and b"site-packages" not in text
    assert b"weights.bin" in (folder / "step.onnx").read_bytes()


@pytest.mark.parametrize(("precision", "share"), [("float16", 0.6), ("int8", 0.4)])
def test_smaller_weights(exported: Path, tmp_path: Path, precision: str, share: float) -> None:
    model = checkpoint.load(exported / "run").model
    protos = {name: onnx.load(exported / "onnx" / name) for name in ("step.onnx", "init.onnx")}
    for proto in protos.values():
        compress(proto, {f"model.{name}" for name in model.state_dict()}, precision)
    save(protos, tmp_path)
    sizes = [(folder / "weights.bin").stat().st_size for folder in (exported / "onnx", tmp_path)]
    assert sizes[1] < share * sizes[0]
    shutil.copy(exported / "onnx/model.json", tmp_path)
    images, actions = clip((32, 32), frames=6)
    exact, found = (onnx_frames(folder, images[:, :4], actions, 4) for folder in (exported / "onnx", tmp_path))
    assert 1e-6 < np.abs(found - exact).max() < (0.02 if precision == "float16" else 0.2)


def test_examples_of_the_guide(exported: Path, here: Path) -> None:
    (here / "runs").mkdir()
    (here / "exported").mkdir()
    shutil.copytree(exported / "run", here / "runs/demo")
    shutil.copytree(exported / "onnx", here / "exported/onnx")
    made: dict[str, Any] = {}
    for block in blocks("python", REPO / "docs/EXPORT.md"):
        exec(compile(block.text, block.name, "exec"), made)
    assert made["frame"].shape == (1, 3, 32, 32) and made["model"].image_size == (32, 32)


@pytest.fixture(scope="module")
def program(small_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run and its export for PyTorch, into a folder that existed."""
    folder = tmp_path_factory.mktemp("program")
    (folder / "torch").mkdir()
    (folder / "torch/model.json").write_text("{}")
    (folder / "torch/notes.txt").write_text("mine")
    write_checkpoint(folder / "run", "texture")
    command(folder / "run", small_store, folder / "torch", "--format", "torch")
    return folder


def test_program_of_pytorch_matches(program: Path) -> None:
    model = checkpoint.load(program / "run").model
    init, step = (torch.export.load(program / f"torch/{name}.pt2").module() for name in ("init", "step"))
    images, actions = torch.rand(3, 4, 3, 32, 32), torch.rand(3, 4, 4)
    with torch.no_grad():
        expected_state, expected = model.step(model.init_state(images, actions[:, :3]), actions[:, 3])
        frame, *state = step(actions[:, 3], *init(images, actions[:, :3]))
    torch.testing.assert_close(frame, expected)
    about = json.loads((program / "torch/model.json").read_text())
    assert about["architecture"] == "texture" and (program / "torch/notes.txt").read_text() == "mine"
    expected_parts = flatten(expected_state)
    for part, tensor in zip(about["state"], state, strict=True):
        assert list(tensor.shape) == [3, *part["shape"]]
        torch.testing.assert_close(tensor, expected_parts[part["name"]])


class Pair(NamedTuple):
    first: Tensor
    second: Any


def test_state_is_flattened_and_rebuilt() -> None:
    a, b, c, d = (torch.full((1,), float(k)) for k in range(4))
    state = Pair(a, {"grid": (b, None), "other": [c, Pair(d, None)]})
    flat = flatten(state)
    assert list(flat) == ["state.first", "state.second.grid.0", "state.second.other.0", "state.second.other.1.first"]
    other = rebuild(state, iter([tensor + 10 for tensor in flat.values()]))
    assert isinstance(other, Pair) and other.second["grid"] == (b + 10, None) and other.second["other"][1].first == 13
    assert flatten(a) == {"state": a}
    with pytest.raises(UserError, match=r"its state\.second is a int; a state consists of tensors"):
        flatten(Pair(a, 3))


class Fading(WorldModel):
    """Fades the last frame. broken: what makes it differ from other models."""

    config_class = ModelConfig
    broken = ""

    def __init__(self, broken: str) -> None:
        super().__init__(ModelConfig(type="texture", image_size=(32, 32)), (32, 32), 2)
        self.broken = broken
        self.factor = torch.nn.Parameter(torch.tensor(0.9))

    def init_state(self, images: Tensor, actions: Tensor, generator: torch.Generator | None = None) -> Any:
        if self.broken == "start" and float(images.mean()) > 3:
            images = images + 1
        if self.broken == "count":
            return images[:, -1], torch.zeros(())
        return (images[:, -1],)

    def step(self, state: Any, action: Tensor, generator: torch.Generator | None = None) -> tuple[Any, Tensor]:
        if self.broken == "numpy":
            return state, torch.from_numpy(state[0].detach().numpy() * 0.5)
        frame = state[0] * self.factor
        return ((torch.cat([frame, frame]),) if self.broken == "growing" else (frame,)), frame

    def reconstruct(self, images: Tensor, actions: Tensor, frames: Sequence[int]) -> Tensor:
        return images[:, list(frames)]


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("numpy", r"^exporting the model architecture 'texture' failed \(\w+: .*--debug shows the traceback"),
        ("count", r"the first dimension of its state\.1, \(\) for 2 clips, is not the clip"),
        ("growing", r"the size of a state is constant, and its state\.0 of .* is .* after a step"),
    ],
)
def test_architecture_that_cannot_be_exported(broken: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        trace(Fading(broken).eval())


def test_architecture_without_a_graph_for_its_start() -> None:
    assert trace(Fading("").eval()).init is not None
    graphs = trace(Fading("start").eval())
    assert graphs.init is None and graphs.no_init
    frame, state = graphs.step.module()(torch.zeros(3, 4), torch.ones(3, 3, 32, 32))
    assert frame.eq(state).all() and frame.flatten()[0].item() == pytest.approx(0.9)


@pytest.fixture
def small_run(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "run", "texture")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--format", "onx"], "there is no export format 'onx'; did you mean 'onnx'"),
        (["--format", "onnx", "--precision", "int4"], "format onnx has no precision 'int4'; its precisions: float32,"),
        (
            ["--format", "torch", "--precision", "int8"],
            "format torch has no precision 'int8'; its precisions: float32$",
        ),
        (["--format", "pretrained", "--precision", "int8"], "format pretrained has no precision 'int8'"),
        (["--format", "onnx", "--clips", "0"], "--clips must be at least 1, not 0"),
        (["--format", "onnx", "--runtime", "x.tgz"], "--runtime is for --format web, not onnx"),
        (["--format", "onnx", "--split", "tset"], "there is no split 'tset'; did you mean 'test'"),
        (["--format", "web"], r"there is no onnxruntime-web in this folder.*`npm pack onnxruntime-web@\d+\.\d+\.\d+`"),
        (["--format", "web", "--runtime", "nowhere.tgz"], "there is no onnxruntime-web at nowhere.tgz"),
        (["--format", "web", "--runtime", __file__], "cannot be read as a package of npm"),
        (["--format", "web", "--runtime", str(Path(__file__).parent)], "has no dist/ort.wasm.bundle.min.mjs"),
        (["--format", "onnx", "--output", __file__], "output folder .* is a file; give a folder"),
        (["--format", "onnx", "--output", "/proc/none/out"], "output folder .* cannot be written"),
        (["--format", "pretrained", "--output", "/proc/none/out"], "output folder .* cannot be written"),
        (["--format", "onnx", "--checkpoint", "nowhere"], "there is no checkpoint nowhere"),
        (["--format", "onnx", "--checkpoint", "road"], "weights 'road' are not part of this installation"),
    ],
)
def test_invalid_options(
    options: list[str],
    message: str,
    small_run: Path,
    small_store: Path,
    refuse: Refuse,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("daydrive.weights.FOLDER", small_run)
    given = ["--checkpoint", small_run, "--output", "out", "--data-root", small_store]
    refuse("export", *given, *options, message=f"(?i){message}")


def test_stores_and_sizes_that_do_not_fit(small_run: Path, road_store: Path, refuse: Refuse) -> None:
    given = ["export", "--checkpoint", small_run, "--output", "out", "--format", "onnx"]
    refuse(*given, "--data-root", road_store, message="expects images of 32x32 and the store .* has 64x64")
    refuse(*given, message=r"image_size \(32, 32\) must be square.*name a store .* by --data-root")


def test_missing_packages(small_run: Path, refuse: Refuse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daydrive.export.onnx_files.find_spec", lambda name: None)
    given = ["export", "--checkpoint", small_run, "--output", "out", "--format"]
    refuse(*given, "onnx", message=r"needs the package onnx: pip install 'daydrive\[export\]'")


def test_checkpoint_of_another_format(small_run: Path, refuse: Refuse) -> None:
    (state,) = small_run.glob("checkpoints/*/state.json")
    state.write_text('{"format": 99, "step": 1}')
    refuse("export", "--checkpoint", small_run, "--output", "out", "--format", "onnx", message="another version")


def test_deviations_are_refused() -> None:
    rows = [{"step": 1, "max_difference": 0.0, "psnr_torch": 30.0, "psnr_exported": 29.5}]
    with pytest.raises(
        UserError, match=r"int8 cost 0\.50 dB of PSNR at step 1, more than 0\.3; use --precision float16"
    ):
        parity.check({"rows": rows}, "int8")
    with pytest.raises(UserError, match=r"float16 cost nan dB"):
        parity.check({"rows": [{**rows[0], "psnr_exported": float("nan")}]}, "float16")
    parity.check({"rows": rows}, "float32")
    with pytest.raises(UserError, match=r"is not the same: after 1 steps its images .* differ by 0.1"):
        parity.check({"rows": [{"step": 1, "max_difference": 0.1}]}, "float32")


def test_nothing_is_written_after_a_deviation(
    small_run: Path, small_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parity, "TOLERANCE", -1.0)
    with pytest.raises(UserError, match="is not the same: after 50 steps"):
        command(small_run, small_store, tmp_path / "new/out", "--format", "torch")
    assert not (tmp_path / "new").exists()
