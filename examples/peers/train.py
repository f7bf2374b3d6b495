"""Trains a peer on a store for so many minutes of the clock:

    python examples/peers/train.py --peer rssm --data-root data/processed/road --minutes 5 --output runs/rssm

The output holds `model.safetensors`, the averaged weights, and `model.json`: settings, steps, seconds, losses.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from diffusion import Denoiser
from rssm import RSSM
from safetensors.torch import save_file
from torch import Tensor, nn

from daydrive.data.sampling.clips import ClipIndex
from daydrive.data.sampling.loader import ClipLoader
from daydrive.data.store.store import Store
from daydrive.errors import UserError
from daydrive.files import write_json
from daydrive.types import Batch

PEERS: dict[str, type[RSSM | Denoiser]] = {"rssm": RSSM, "diffusion": Denoiser}
CLOCKS = {"wall": time.monotonic, "processor": time.process_time}
WARM_UP = 0.03
"""Share of the time in which the rate rises; after it a cosine to zero."""
DECAY = 0.99
"""Of the averaged weights, at most; early ones forget faster."""
CLIP = 1.0
"""Largest norm of a step's gradient, of the whole model."""


def fit(
    model: RSSM | Denoiser,
    batches: Iterable[Batch],
    seconds: float,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[dict[str, Tensor], list[float]]:
    """Trains until the clock, which is looked at before each step, has gone on by `seconds`; one step at least.

    Returns the averaged weights and the loss of every step.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=model.lr, betas=(0.9, 0.99), weight_decay=1e-2)
    average = {name: value.clone() for name, value in model.state_dict().items()}
    losses: list[float] = []
    began = clock()
    for batch in batches:
        share = (clock() - began) / seconds
        if share >= 1 and losses:
            break
        for group in optimizer.param_groups:
            group["lr"] = model.lr * min(share / WARM_UP + 0.01, 0.5 + 0.5 * math.cos(math.pi * share))
        optimizer.zero_grad()
        loss = model.loss(batch.images, batch.actions)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        losses.append(loss.item())
        decay = min(DECAY, len(losses) / (len(losses) + 10))
        for name, value in model.state_dict().items():
            average[name].lerp_(value, 1 - decay)
        if len(losses) % 50 == 0:
            print(f"step {len(losses)}, {share:.0%} of the time, loss {sum(losses[-50:]) / 50:.4f}", flush=True)
    return average, losses


def train(
    peer: str, data_root: Path, minutes: float, output: Path, clock: str = "wall", seed: int = 0
) -> dict[str, Any]:
    """Fills the folder `output`; returns what `model.json` holds. clock: whose minutes, of `CLOCKS`."""
    torch.manual_seed(seed)
    store = Store.open(data_root)
    model = PEERS[peer](image_size=store.image_size)
    loader = ClipLoader(ClipIndex(store, "train", model.clip_length), batch_size=model.batch_size, seed=seed)
    began, busy = time.monotonic(), time.process_time()
    average, losses = fit(model, loader, 60 * minutes, CLOCKS[clock])
    about = {
        "peer": peer,
        "settings": model.settings,
        "parameters": sum(value.numel() for value in model.parameters()),
        "data": store.fingerprint,
        "seed": seed,
        "steps": len(losses),
        "clips": len(losses) * model.batch_size,
        "wall_seconds": round(time.monotonic() - began, 1),
        "cpu_seconds": round(time.process_time() - busy, 1),
        "threads": torch.get_num_threads(),
        "loss": {"first": losses[0], "last": sum(losses[-50:]) / len(losses[-50:])},
    }
    save(output, average, about)
    return about


def save(folder: Path, weights: dict[str, Tensor], about: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in weights.items()}, folder / "model.safetensors")
    write_json(folder / "model.json", about)


def main() -> None:
    parser = argparse.ArgumentParser(description="Trains a peer of daydrive's model.")
    parser.add_argument("--peer", choices=sorted(PEERS), required=True)
    parser.add_argument("--data-root", type=Path, required=True, help="a prepared store")
    parser.add_argument("--minutes", type=float, default=5.0, help="for training alone")
    parser.add_argument(
        "--clock",
        choices=CLOCKS,
        default="wall",
        help="processor: of all threads together, for a machine that is shared",
    )
    parser.add_argument("--output", type=Path, required=True, help="folder for the weights and what they are")
    parser.add_argument("--seed", type=int, default=0)
    try:
        about = train(**vars(parser.parse_args()))
    except UserError as error:
        parser.error(str(error))
    print(f"{about['steps']} steps, {about['wall_seconds']} s, of a processor {about['cpu_seconds']} s")


if __name__ == "__main__":
    main()
