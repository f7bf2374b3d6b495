"""The base settings: one whole step as they are, and a model of their shape that learns two clips by heart."""

import json
from pathlib import Path

import pytest
import torch

from daydrive import metrics
from daydrive.config import load_config
from daydrive.data.clips import read_clips
from daydrive.data.loader import fixed_clips
from daydrive.data.prepare import prepare
from daydrive.data.store import Store
from daydrive.models import build_world_model
from daydrive.perceptual import build_perceptual
from daydrive.training.optim import build_optimizers
from daydrive.training.step import evaluate_batch
from daydrive.training.trainer import train

BASE = Path(__file__).parent.parent / "configs/training/base.yaml"
CPU = torch.device("cpu")
PARAMETERS = 45_149_860
OVERFIT_STEPS = 400


def test_the_base_model_has_the_documented_size_and_shapes() -> None:
    model = build_world_model(load_config(BASE)).eval()
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS
    with torch.no_grad():
        output = model(torch.zeros(1, 5, 3, 256, 256), torch.zeros(1, 4, 4), 4, [4])
    assert output["predicted"].shape == output["reconstructed"].shape == (1, 1, 3, 256, 256)
    assert output["latents"].shape == (1, 1, 256, 16, 16)


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_the_base_config_steps_on_a_processor(tmp_path: Path) -> None:
    """Sixteen clips of ten frames of 256x256 pixels, four times, as the file says; only the number of steps is cut."""
    store = prepare("road", None, tmp_path / "road", (256, 256), drives=8, frames=24, seed=0)
    config = load_config(BASE, ["training.max_steps=1"])
    assert train(config, store, tmp_path / "run", False, CPU) == 0
    logged = json.loads((tmp_path / "run/metrics.jsonl").read_text().splitlines()[-1])
    assert logged["step"] == 1 and 0 < logged["train/loss"] < 5


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_base_shaped_model_learns_two_clips_by_heart(road_store: Path) -> None:
    """A quarter of the base's widths at 64 px; above 25 dB on what it reconstructs and on what it dreams."""
    config = load_config(
        BASE,
        [
            "model.latent_dim=64", "model.hidden_dim=128", "model.encoder.stages=[16, 32, 64, 128]",
            "model.decoder.stages=[128, 64, 32, 16]", "model.decoder.init_size=8", "model.image_size=[64, 64]",
            "model.dynamics.dropout=0.0", "optimizer.lr=2e-3", "optimizer.encoder_lr=2e-3",
            "optimizer.dynamics_lr=2e-3", "optimizer.decoder_lr=2e-3",
        ],
    )  # fmt: skip
    store = Store.open(road_store)
    batch = read_clips(store, fixed_clips(store, "train", config.data.sequence_length, 2))
    torch.manual_seed(0)
    model = build_world_model(config)
    optimizers = build_optimizers(model, config.optimizer)
    perceptual = build_perceptual("structure", None, CPU)
    for _ in range(OVERFIT_STEPS):
        result = evaluate_batch(model, batch, config.loss, 4, perceptual, amp=True)
        result.loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
    model.eval()
    with torch.no_grad():
        result = evaluate_batch(model, batch, config.loss, 4, perceptual, amp=False)
    painted = metrics.psnr(result.output["reconstructed"], result.images, 2.0).mean()
    dreamed = metrics.psnr(result.output["predicted"], result.images[:, 4:], 2.0).mean()
    assert painted > 25 and dreamed > 25, f"reconstruction {painted:.1f} dB, prediction {dreamed:.1f} dB"
