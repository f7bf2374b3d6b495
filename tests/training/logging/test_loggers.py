"""Every logged step occurs once in every log, however the run ended, and can be read back."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from daydrive.training.logging import RunLogger
from daydrive.training.logging.histograms import SAMPLES, histogram, parameter_histograms
from daydrive.training.logging.jsonl import read_rows
from daydrive.viz.images import encode_gif
from helpers.logs import (
    PLAIN,
    check_video,
    events_of,
    in_another_process,
    lines,
    log_steps,
    moving_square,
    steps_in_jsonl,
    steps_in_tensorboard,
)


def test_reopening_drops_later_steps(tmp_path: Path) -> None:
    log_steps(tmp_path, 0, range(1, 7))
    log_steps(tmp_path, 4, range(5, 9))
    assert steps_in_jsonl(tmp_path) == [*range(1, 9)]
    assert steps_in_tensorboard(tmp_path) == [*range(1, 9)]


def test_alarms_of_dropped_steps_are_dropped(tmp_path: Path) -> None:
    logger = RunLogger(tmp_path, 0, PLAIN)
    logger.note(3, "the loss is not finite")
    logger.note(6, "the driver is ignored")
    logger.close()
    RunLogger(tmp_path, 4, PLAIN).close()
    assert lines(tmp_path / "alarms.jsonl") == [{"step": 3, "alarm": "the loss is not finite"}]


def test_kill_loses_no_steps_before_a_checkpoint(tmp_path: Path) -> None:
    killed = in_another_process(
        """
        logger = RunLogger(run, 0, parse_config({}))
        for step in range(1, 5):
            logger.scalars(step, {"train/loss": 1 / step})
        assert logger.state()["step"] == 4
        logger.scalars(5, {"train/loss": 0.2})
        os.kill(os.getpid(), signal.SIGKILL)
        """,
        tmp_path,
    )
    assert killed.returncode == -9, killed.stderr
    with (tmp_path / "metrics.jsonl").open("ab") as file:
        file.write(b'{"step": 6, "train/l\xff')
    RunLogger(tmp_path, 4, PLAIN).close()
    assert steps_in_jsonl(tmp_path) == [1, 2, 3, 4]
    assert steps_in_tensorboard(tmp_path) == [1, 2, 3, 4]


def test_non_finite_loss_gives_valid_json(tmp_path: Path) -> None:
    logger = RunLogger(tmp_path, 0, PLAIN)
    logger.scalars(1, {"train/loss": math.nan, "train/psnr": math.inf, "lr": 1e-4})
    logger.close()
    assert lines(tmp_path / "metrics.jsonl") == [{"step": 1, "train/loss": None, "train/psnr": None, "lr": 1e-4}]
    assert math.isnan(read_rows(tmp_path, 1)[0].values["train/loss"])
    assert math.isnan(events_of(tmp_path).Scalars("train/loss")[0].value)


def test_tensorboard_shows_images_and_videos(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    logger = RunLogger(tmp_path, 0, PLAIN)
    logger.image(1, "val/samples", image)
    logger.video(1, "val/rollout", moving_square(), 10)
    logger.close()
    events = events_of(tmp_path)
    shown = events.Images("val/samples")[0]
    assert (shown.step, shown.height, shown.width) == (1, 20, 30)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(shown.encoded_image_string))), image)
    played = events.Images("val/rollout")[0]
    assert (played.height, played.width) == (24, 32)
    check_video(played.encoded_image_string)


@pytest.mark.parametrize(("hz", "milliseconds"), [(2, 500), (14, 70), (100, 20)])
def test_gif_rate_is_rounded_to_one_that_browsers_support(hz: float, milliseconds: int) -> None:
    assert Image.open(io.BytesIO(encode_gif(moving_square(), hz))).info["duration"] == milliseconds


def test_tensorboard_shows_both_alarms_of_a_step(tmp_path: Path) -> None:
    logger = RunLogger(tmp_path, 0, PLAIN)
    logger.note(5, "PSNR is low")
    logger.note(5, "the gap is wide")
    logger.close()
    texts = events_of(tmp_path).Tensors("alarms/text_summary")
    assert texts[-1].tensor_proto.string_val[0].decode() == "PSNR is low\n\nthe gap is wide"


def test_tensorboard_shows_weights_and_gradients(tmp_path: Path) -> None:
    model = nn.ModuleDict({"encoder": nn.Linear(3, 4), "decoder": nn.Linear(4, 2)})
    model["encoder"](torch.ones(1, 3)).sum().backward()
    logger = RunLogger(tmp_path, 0, PLAIN)
    logger.histograms(7, model)
    logger.close()
    events = events_of(tmp_path)
    assert set(events.Tags()["histograms"]) == {
        "weights/encoder/weight", "weights/encoder/bias", "weights/decoder/weight", "weights/decoder/bias",
        "gradients/encoder/weight", "gradients/encoder/bias",
    }  # fmt: skip
    shown = events.Histograms("weights/encoder/weight")[0]
    weights = model["encoder"].weight.detach()
    assert shown.step == 7 and shown.histogram_value.num == sum(shown.histogram_value.bucket) == 12
    assert shown.histogram_value.min == pytest.approx(float(weights.min()))
    assert shown.histogram_value.max == pytest.approx(float(weights.max()))
    assert shown.histogram_value.sum == pytest.approx(float(weights.sum()))


def test_histogram_names_exclude_wrappers() -> None:
    wrapped = nn.ModuleDict({"_orig_mod": nn.ModuleDict({"module": nn.ModuleDict({"encoder": nn.Linear(2, 2)})})})
    assert set(parameter_histograms(wrapped)) == {"weights/encoder/weight", "weights/encoder/bias"}


def test_large_tensors_are_subsampled_deterministically() -> None:
    """Each slice along any dimension has a different level, so that a sample aligned with one dimension would miss the
    others."""
    levels = torch.arange(64.0)
    for view in ((64, 1, 1), (1, 64, 1), (1, 1, 64)):
        model = nn.Module()
        model.weight = nn.Parameter(levels.view(view).expand(64, 64, 64).contiguous())
        before = torch.get_rng_state()
        drawn = parameter_histograms(model)["weights/weight"]
        assert torch.equal(torch.get_rng_state(), before)
        assert drawn.counts.sum() == SAMPLES
        assert drawn.counts.min() > 0.8 * SAMPLES / 64 and drawn.counts.max() < 1.2 * SAMPLES / 64
        assert np.array_equal(drawn.counts, parameter_histograms(model)["weights/weight"].counts)


def test_histograms_ignore_non_finite_values() -> None:
    layer = nn.Linear(4, 1)
    layer.weight.grad = torch.tensor([[1.0, math.nan, math.inf, 3.0]])
    layer.bias.grad = torch.tensor([math.nan])
    found = parameter_histograms(layer)
    assert found["gradients/weight"].counts.sum() == 2 and found["gradients/weight"].total == 4
    assert "gradients/bias" not in found
    assert histogram(np.zeros(5, np.float32)).counts.sum() == 5


def test_histograms_of_a_sharded_model() -> None:
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard, distribute_tensor

    layer = nn.Linear(4, 6).bfloat16()
    plain = parameter_histograms(layer)
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        mesh = init_device_mesh("cpu", (1,))
        for name, parameter in list(layer.named_parameters()):
            setattr(layer, name, nn.Parameter(distribute_tensor(parameter.detach(), mesh, [Shard(0)])))
        layer.weight.grad = distribute_tensor(torch.ones(6, 4).bfloat16(), mesh, [Shard(0)])
        sharded = parameter_histograms(layer)
    finally:
        dist.destroy_process_group()
    assert np.array_equal(sharded["weights/weight"].counts, plain["weights/weight"].counts)
    assert sharded["gradients/weight"].total == 24
