"""`daydrive learn-policy`: a policy learned inside a world model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from daydrive.cli.options import Checkpoint, StoreFolder, app


@app.command()
def learn_policy(
    checkpoint: Checkpoint,
    data_root: StoreFolder,
    output: Annotated[Path, typer.Option(help="folder")],
    readout: Annotated[
        Path | None, typer.Option(help="file of `daydrive train-readout`; default: trained first, into --output")
    ] = None,
    compare: Annotated[
        bool, typer.Option(help="learn three other ways and drive them all in the road simulator")
    ] = True,
    seeds: Annotated[int, typer.Option(min=1, max=20, help="policies learned in each way")] = 3,
    seed: Annotated[int, typer.Option(min=0, help="the first one")] = 0,
    roads: Annotated[int, typer.Option(min=2, max=1000, help="unseen roads to drive on")] = 20,
    cloning_steps: Annotated[int, typer.Option(min=1, help="of cloning before learning in the model")] = 600,
    updates: Annotated[int, typer.Option(min=0, help="of the policy in the model")] = 60,
) -> None:
    """Learn a policy inside a world model, and drive it in the road simulator.

    It clones the drivers of the store and then learns in the model to return to the lane. An interrupted command
    continues when it is run again.
    """
    from daydrive.decisions.policy.learners import LearnConfig
    from daydrive.decisions.policy.pipeline import LearnOptions, learn, policies_table

    config = LearnConfig(cloning_steps=cloning_steps)
    config = replace(config, imagination=replace(config.imagination, updates=updates))
    options = LearnOptions(checkpoint, data_root, readout, compare, seeds, seed, roads, config)
    console = Console()
    result = learn(options, output, console)
    if result is not None:
        console.print(policies_table(result))
    console.print(f"{output}", soft_wrap=True)
