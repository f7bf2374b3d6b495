"""The base settings: a model of the documented size, and a small model of the same shape that overfits two clips."""

from pathlib import Path

import pytest
import torch

from daydrive import metrics
from daydrive.config import load_config
from daydrive.data.sampling.clips import fixed_clips, read_clips
from daydrive.data.store.store import Store
from daydrive.models import build_world_model
from daydrive.training.distributed import DistributedContext
from daydrive.training.engine import Engine
from helpers.paths import REPO
from helpers.runs import CPU

BASE = REPO / "configs/training/base.yaml"
PARAMETERS = 45_149_860
OVERFIT_STEPS = 300


def test_base_model_has_the_documented_size_and_shapes() -> None:
    model = build_world_model(load_config(BASE)).eval()
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS
    with torch.no_grad():
        output = model(torch.zeros(1, 5, 3, 256, 256), torch.zeros(1, 4, 4), [4])
    assert output["predicted"].shape == output["reconstructed"].shape == (1, 1, 3, 256, 256)
    assert output["latents"].shape == (1, 1, 256, 16, 16)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_base_model_overfits_two_clips(road_store: Path) -> None:
    """With a quarter of the widths, at 64 px: above 25 dB for reconstructions and for predictions."""
    config = load_config(
        BASE,
        [
            "model.latent_dim=64", "model.hidden_dim=128", "model.encoder.stages=[16, 32, 64, 128]",
            "model.decoder.stages=[128, 64, 32, 16]", "model.decoder.init_size=8", "model.image_size=[64, 64]",
            "model.dynamics.dropout=0.0", "optimizer.lr=2e-3", "optimizer.encoder_lr=2e-3",
            "optimizer.dynamics_lr=2e-3", "optimizer.decoder_lr=2e-3", "data.sequence_length=7",
        ],
    )  # fmt: skip
    store = Store.open(road_store)
    batch = read_clips(store, fixed_clips(store, "train", config.data.sequence_length, 2))
    engine = Engine(config, DistributedContext.single(CPU))
    engine.model.train()
    for _ in range(OVERFIT_STEPS):
        engine.backward(batch)
        engine.clip_gradients()
        engine.update()
    engine.model.eval()
    with torch.no_grad():
        frames = engine.frames_of(engine.evaluate(batch))
    reconstructed = metrics.psnr(frames.reconstructed, frames.images, 2.0).mean()
    predicted = metrics.psnr(frames.predicted, frames.real, 2.0).mean()
    assert reconstructed > 25 and predicted > 25, f"{reconstructed:.1f} dB, {predicted:.1f} dB"
