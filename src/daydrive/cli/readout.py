"""`daydrive train-readout`: the readout that the rewards of the world model environment use."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from daydrive.cli.options import Device, StoreFolder, app


@app.command()
def train_readout(
    data_root: StoreFolder,
    output: Annotated[Path, typer.Option(help="file, such as runs/readout.safetensors")],
    columns: Annotated[
        list[str] | None,
        typer.Option(help="column to read; repeatable; default: lane_offset, heading_error and speed if available"),
    ] = None,
    frame_skip: Annotated[int, typer.Option(min=1, help="frames of the store per frame, data.frame_skip")] = 1,
    horizon: Annotated[
        float, typer.Option(min=0, max=1, help="its row in image heights from the top, to read the speed")
    ] = 0.44,
    steps: Annotated[int, typer.Option(min=1, help="training steps")] = 1500,
    seed: Annotated[int, typer.Option(min=0, help="of initial weights and batches")] = 0,
    device: Device = "auto",
) -> None:
    """Train a network that reads lane offset, heading and speed from images.

    Rewards of daydrive/Dream-v0 use it. Prints its errors on drives that it was not trained on.
    """
    from daydrive.data.store.store import Store
    from daydrive.devices import find_device
    from daydrive.envs.world_model.readout_training import check_output, errors_table, train_readout
    from daydrive.files import created_parents
    from daydrive.progress import CountProgress

    check_output(output)
    console = Console()
    with created_parents(output):
        with CountProgress(console, "steps") as progress:
            readout = train_readout(
                Store.open(data_root), columns or (), frame_skip, horizon, steps, seed, find_device(device), progress,
            )  # fmt: skip
        readout.save(output)
    console.print(errors_table(readout.info))
    console.print(f"{output}", soft_wrap=True)
