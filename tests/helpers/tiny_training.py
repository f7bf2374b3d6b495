"""Settings that train in seconds."""

from __future__ import annotations

TINY_TRAINING = {
    "model": {
        "latent_dim": 8,
        "hidden_dim": 16,
        "encoder": {"stages": [8, 16], "num_heads": 2},
        "dynamics": {"num_layers": 1, "dropout": 0.1},
        "decoder": {"stages": [16, 8], "init_size": 16},
    },
    "training": {
        "batch_size": 2,
        "max_steps": 12,
        "gradient_accumulation": 2,
        "unroll": [{"start": 0.0, "steps": 1}, {"start": 0.5, "steps": 2}],
    },
    "optimizer": {"type": "muon", "lr": 3e-3},
    "scheduler": {"warmup_steps": 3},
    "loss": {"recon_frames": 2},
    "data": {"num_workers": 0, "pin_memory": False, "sequence_length": 6},
    "logging": {"log_interval": 3, "eval_interval": 4, "save_interval": 2, "num_samples": 2},
}
