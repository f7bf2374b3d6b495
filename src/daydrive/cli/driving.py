"""`daydrive drive`: drive in a model by hand, in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from daydrive.cli.options import Device, app
from daydrive.errors import UserError


@app.command()
def drive(
    checkpoint: Annotated[
        Path | None, typer.Option(help="run folder, checkpoint folder or model.safetensors; default: packaged weights")
    ] = None,
    data_root: Annotated[
        Path | None, typer.Option(help="store with the start moments; default: that of the model, or the road world")
    ] = None,
    compare: Annotated[Path | None, typer.Option(help="second checkpoint, driven beside the first")] = None,
    blind: Annotated[bool, typer.Option("--blind", help="with --compare: hide which is which, count choices")] = False,
    env: Annotated[str | None, typer.Option(help="road: drive the road simulator instead of a model")] = None,
    policy: Annotated[
        Path | None, typer.Option(help="policy.safetensors of `daydrive learn-policy`, which can drive instead of you")
    ] = None,
    image_size: Annotated[tuple[int, int] | None, typer.Option(metavar="H W", help="with --env; default: 128")] = None,
    output: Annotated[Path, typer.Option(help="folder of recordings and results")] = Path("data/recorded/drive"),
    seed: Annotated[int, typer.Option(min=0, help="for models that sample")] = 0,
    host: Annotated[str, typer.Option(help="address to listen on; any other than the default needs a token")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one")] = 8000,
    token: Annotated[str | None, typer.Option(help="required of every page; default: random with --host")] = None,
    sessions: Annotated[int, typer.Option(min=1, max=64, help="number of sessions at the same time")] = 4,
    browser: Annotated[bool, typer.Option(help="open the page when run in a terminal")] = True,
    replay: Annotated[Path | None, typer.Option(help="action log (.ndjson) to repeat and compare, no page")] = None,
    device: Device = "auto",
) -> None:
    """Drive in a model by hand, in a browser.

    Keys, a gamepad or touch steer; drives can be recorded. Only this machine can connect unless --host says otherwise.
    """
    from daydrive.devices import find_device
    from daydrive.drive.launch import replay_file, serve
    from daydrive.drive.scenario import load_scenario, with_policy
    from daydrive.files import check_folder

    if env not in (None, "road"):
        raise UserError(f"--env {env}: only road can be driven by hand; `daydrive record` takes other environments")
    if compare is not None and checkpoint is None:
        raise UserError("--compare needs the first model: name it with --checkpoint")
    if blind and compare is None:
        raise UserError("--blind compares two models: name the second one with --compare")
    check_folder(output, "folder of --output")
    checkpoints = [path for path in (checkpoint, compare) if path is not None]
    scenario = load_scenario(
        checkpoints, data_root, output,
        env="road" if env else None, image_size=image_size, seed=seed, blind=blind, device=find_device(device),
    )  # fmt: skip
    if policy is not None:
        scenario = with_policy(scenario, policy)
    if replay is None:
        serve(scenario, host, port, token, sessions, browser)
        return
    result = replay_file(scenario, replay)
    if result.first_difference is None:
        print(f"{replay}: {result.steps} frames are equal to the recorded ones")
        return
    print(f"{replay}: frame {result.first_difference} differs from the recorded one")
    raise typer.Exit(1)
