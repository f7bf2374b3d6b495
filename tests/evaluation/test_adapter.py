"""Adapters make any model usable for reports, and invalid adapters give a one-line error."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from daydrive.cli import app
from daydrive.errors import UserError
from daydrive.evaluation.adapter import AdaptedModel, Context, load_adapter
from daydrive.evaluation.model_loading import make_rollout_fn
from daydrive.files import read_json
from helpers.paths import REPO
from helpers.planted_predictions import CONTEXT, HORIZON, SIZE, evaluated, metric_values, scene_store, steerer
from helpers.refusals import Refuse
from helpers.runs import CPU

COPY_LAST = f"{REPO / 'examples/adapters/copy_last.py'}:load"


class Steered:
    """`steerer`, step by step."""

    context = CONTEXT

    def reset(self, context: Context) -> None:
        self.seen, self.driven = context.images, context.actions

    def step(self, action: Tensor) -> Tensor:
        self.driven = torch.cat((self.driven, action[:, None]), dim=1)
        return steerer(self.seen, self.driven)[:, -1]


def test_rollout_of_a_stepwise_adapter() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2, CONTEXT, 3, *SIZE), dtype=torch.uint8, generator=generator)
    actions = torch.rand((2, CONTEXT - 1 + HORIZON, 4), generator=generator)
    rollout_fn = make_rollout_fn(AdaptedModel("", "", Steered()))
    assert torch.equal(rollout_fn(images, actions), steerer(images, actions))
    assert torch.equal(rollout_fn(images, actions), steerer(images, actions)), "the second rollout starts anew"


def test_report_of_an_external_model(tmp_path: Path) -> None:
    """An adapter that copies the last frame has the metrics of the copying baseline, under its own name."""
    store = scene_store(tmp_path)
    output = tmp_path / "copied"
    arguments = ["evaluate", "--adapter", COPY_LAST, "--checkpoint", str(store.path / "store.json")]
    arguments += ["--data-root", str(store.path), "--split", "val", "--output", str(output), "--clips", "4"]
    app([*arguments, "--horizon", "3", "--device", "cpu"], standalone_mode=False)
    result = read_json(output / "evaluation.json", "evaluation")
    assert result["name"] == "copy_last" and result["adapter"] == COPY_LAST and result["context"] == 1
    assert metric_values(result, "psnr") == metric_values(result, "copy_last_psnr")
    assert result["manifest"]["checkpoint"].startswith("sha256 ")
    assert (output / "report.html").read_text().count("copy_last")
    steered = evaluated(make_rollout_fn(AdaptedModel("", "", Steered())), store, tmp_path / "steered", clips=4)
    assert metric_values(steered, "psnr") == metric_values(
        evaluated(steerer, store, tmp_path / "whole", clips=4), "psnr"
    )


GOOD = """
from neighbour import Still
def load(checkpoint, device): return Still(checkpoint, device)
"""
NEIGHBOUR = """
class Still:
    context = 2
    def __init__(self, *given): self.given = given
    def reset(self, context): self.last = context.images[:, -1]
    def step(self, action): return self.last
"""


def test_adapter_can_import_neighbouring_files(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(GOOD)
    (tmp_path / "neighbour.py").write_text(NEIGHBOUR)
    paths = list(sys.path)
    adapter = load_adapter(f"{tmp_path / 'mine.py'}:load", tmp_path / "weights", CPU)
    assert (adapter.name, adapter.context_frames, adapter.adapter.given) == ("load", 2, (tmp_path / "weights", CPU))
    assert sys.path == paths


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("mine.py", "the adapter 'mine.py' must be FILE.py:NAME"),
        ("mine.txt:load", "must be FILE.py:NAME"),
        ("nowhere.py:load", "the adapter 'nowhere.py:load': there is no file nowhere.py"),
        ("mine.py:lod", "the file has no function 'lod'; did you mean 'load'?"),
        ("mine.py:broken", r"failed \(RuntimeError: no weights here\); --debug shows the traceback"),
        ("mine.py:told", "weights of another size"),
        ("mine.py:stepless", "returns a Stepless without 'step'; it needs context, reset, step"),
        ("mine.py:blind", "has context 0; it must be an integer of at least 1 frame"),
        ("garbled.py:load", r"'garbled.py:load' failed \(SyntaxError: "),
    ],
)
def test_invalid_adapters(spec: str, message: str, refuse: Refuse, here: Path, road_store: Path) -> None:
    (here / "garbled.py").write_text("def load(:\n")
    (here / "mine.py").write_text(
        "from types import SimpleNamespace\n"
        "from daydrive.errors import UserError\n"
        "class Stepless:\n    context, reset = 1, print\n"
        "def load(checkpoint, device): ...\n"
        "def stepless(checkpoint, device): return Stepless()\n"
        "def blind(checkpoint, device): return SimpleNamespace(context=0, reset=print, step=print)\n"
        "def broken(checkpoint, device): raise RuntimeError('no weights here.\\nSee above')\n"
        "def told(checkpoint, device): raise UserError('weights of another size')\n"
    )
    options = ["--checkpoint", "weights", "--data-root", road_store, "--output", "report"]
    refuse("evaluate", "--adapter", spec, *options, message=message)


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (torch.zeros(1, 3, 8, 8), r"returns frames of torch.float32 \(1, 3, 8, 8\), not of torch.uint8 \(1, 3, 8, 8\)"),
        (torch.zeros(3, 8, 8, dtype=torch.uint8), r"returns frames of torch.uint8 \(3, 8, 8\)"),
        (None, "returns frames of NoneType"),
    ],
)
def test_invalid_frames(frame: object, message: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(NEIGHBOUR + "def load(checkpoint, device): return Still()\n")
    loaded = load_adapter(f"{tmp_path / 'mine.py'}:load", tmp_path, CPU)
    loaded.adapter.step = lambda action: frame  # type: ignore[method-assign,assignment,return-value]
    with pytest.raises(UserError, match=message):
        make_rollout_fn(loaded)(torch.zeros(1, 2, 3, 8, 8, dtype=torch.uint8), torch.zeros(1, 2, 4))
