"""`daydrive visualize KIND …`: images and videos of what a model does."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from daydrive.cli.options import Checkpoint, Device, app
from daydrive.errors import UserError

kinds = typer.Typer(
    no_args_is_help=True, help="Images and videos of what a model does: .png, .mp4 or .gif, as the file is named."
)
app.add_typer(kinds, name="visualize")

Output = Annotated[Path, typer.Option(help="the file: .png, .mp4 or .gif")]
Page = Annotated[Path, typer.Option(help="the file, .png")]
Data = Annotated[Path, typer.Option("--data-root", help="the store")]
Adapter = Annotated[str | None, typer.Option(help="FILE.py:NAME, for a --checkpoint that isn't daydrive's")]
Split = Annotated[str, typer.Option(help="val, test or train")]
Drives = Annotated[list[str] | None, typer.Option("--drive", help="this one instead; repeatable")]
Drive = Annotated[str | None, typer.Option(help="of the store; default: the first of the split")]
At = Annotated[float | None, typer.Option(help="second of the drive at which the dream begins; default: the earliest")]
Horizon = Annotated[int, typer.Option(min=1, help="steps to predict, fewer where the drive ends before")]
Clips = Annotated[int, typer.Option(min=1, help="how many, spread evenly over the split")]
Unfit = Annotated[str | None, typer.Option("--adapter", hidden=True)]


@kinds.command()
def rollout(
    checkpoint: Checkpoint,
    data_root: Data,
    output: Output,
    split: Split = "test",
    clips: Clips = 4,
    drive: Drives = None,
    at: At = None,
    horizon: Horizon = 30,
    adapter: Adapter = None,
    device: Device = "auto",
) -> None:
    """Several clips at once: real frames, predicted ones, and where they differ."""
    from daydrive.devices import find_device
    from daydrive.viz.views import rollouts as kind
    from daydrive.viz.views.clips import ClipQuery, view_rollouts
    from daydrive.viz.views.files import MOVING, check_output, save

    check_output(output, "rollout", MOVING)
    query = ClipQuery(split, horizon, clips, drive or (), at)
    found, hz, aspect = view_rollouts(checkpoint, adapter, data_root, query, find_device(device))
    shown = list(found)
    save(output, lambda: kind.strip(shown, hz, aspect), lambda: kind.video(shown, hz, aspect), hz)
    print(f"{output}: clips {len(shown)}, steps {len(shown[0].real)}")


@kinds.command()
def steering_sweep(
    checkpoint: Checkpoint,
    output: Output,
    data_root: Annotated[Path | None, typer.Option(help="the store; without it the road world")] = None,
    split: Split = "test",
    drive: Drive = None,
    at: At = None,
    world: Annotated[int, typer.Option(min=0, help="which road of the road world")] = 0,
    horizon: Horizon = 20,
    adapter: Adapter = None,
    device: Device = "auto",
) -> None:
    """One moment, five steerings side by side, in the road world above what really would have come."""
    from daydrive.devices import find_device
    from daydrive.viz.views import steering_sweep as kind
    from daydrive.viz.views.clips import ClipQuery
    from daydrive.viz.views.files import MOVING, check_output, save

    check_output(output, "steering-sweep", MOVING)
    where = find_device(device)
    if data_root is None:
        if drive is not None or at is not None or adapter is not None:
            raise UserError("--drive, --at and --adapter go with a store: name it with --data-root")
        shown, hz, aspect = kind.of_world(checkpoint, world, horizon, where)
    else:
        query = ClipQuery(split, horizon, 1, [drive] if drive else (), at)
        shown, hz, aspect = kind.of_drive(checkpoint, adapter, data_root, query, where)
    save(output, lambda: kind.sheet(shown, hz, aspect), lambda: kind.video(shown, hz, aspect), hz)
    print(f"{output}: {shown.moment}, steps {shown.steps}")


@kinds.command()
def motion(
    checkpoint: Checkpoint,
    data_root: Data,
    output: Output,
    split: Split = "test",
    drive: Drive = None,
    at: At = None,
    horizon: Horizon = 20,
    adapter: Unfit = None,
    device: Device = "auto",
) -> None:
    """How the model paints: the flow, what it takes for new, what is left of the last real image."""
    from daydrive.devices import find_device
    from daydrive.viz.views import motion as kind
    from daydrive.viz.views.clips import ClipQuery, view_inside
    from daydrive.viz.views.files import MOVING, check_output, save

    _refuse(adapter, "motion")
    check_output(output, "motion", MOVING)
    inside = view_inside(
        checkpoint, data_root, ClipQuery(split, horizon, 1, [drive] if drive else (), at), find_device(device)
    )
    shown, name, hz, aspect = kind.paint_rollout(inside), inside.name, inside.hz, inside.pixel_aspect
    save(output, lambda: kind.sheet(shown, name, hz, aspect), lambda: kind.video(shown, name, hz, aspect), hz)
    print(f"{output}: {name}, steps {len(shown.real)}")


@kinds.command()
def latent(
    checkpoint: Checkpoint,
    data_root: Data,
    output: Output,
    split: Split = "test",
    drive: Drive = None,
    at: At = None,
    horizon: Horizon = 20,
    adapter: Unfit = None,
    device: Device = "auto",
) -> None:
    """What the encoder makes of real and of predicted frames, and what the dynamics remember."""
    from daydrive.devices import find_device
    from daydrive.viz.views import latents as kind
    from daydrive.viz.views.clips import ClipQuery, view_inside
    from daydrive.viz.views.files import MOVING, check_output, save

    _refuse(adapter, "latent")
    check_output(output, "latent", MOVING)
    inside = view_inside(
        checkpoint, data_root, ClipQuery(split, horizon, 1, [drive] if drive else (), at), find_device(device)
    )
    shown, name, hz, aspect = kind.latents(inside), inside.name, inside.hz, inside.pixel_aspect
    save(output, lambda: kind.sheet(shown, name, hz, aspect), lambda: kind.video(shown, name, hz, aspect), hz)
    print(f"{output}: {name}, steps {len(shown.real)}")


@kinds.command()
def error(
    checkpoint: Checkpoint,
    data_root: Data,
    output: Output,
    split: Split = "test",
    clips: Clips = 32,
    drive: Drives = None,
    at: At = None,
    horizon: Horizon = 30,
    adapter: Adapter = None,
    device: Device = "auto",
) -> None:
    """Where dreams are wrong and how that grows, beside copying: means over the clips, and the first of them."""
    from daydrive.devices import find_device
    from daydrive.viz.views import errors as kind
    from daydrive.viz.views.clips import ClipQuery, view_rollouts
    from daydrive.viz.views.files import MOVING, check_output, save

    check_output(output, "error", MOVING)
    query = ClipQuery(split, horizon, clips, drive or (), at)
    found, hz, aspect = view_rollouts(checkpoint, adapter, data_root, query, find_device(device))
    shown = kind.errors(found)
    save(output, lambda: kind.sheet(shown, hz, aspect), lambda: kind.video(shown, hz, aspect), hz)
    print(f"{output}: clips {shown.clips}, steps {len(shown.dream)}")


@kinds.command()
def sheet(
    checkpoint: Checkpoint,
    data_root: Data,
    output: Page,
    split: Split = "test",
    clips: Clips = 12,
    drive: Drives = None,
    at: At = None,
    horizon: Horizon = 30,
    adapter: Adapter = None,
    device: Device = "auto",
) -> None:
    """Many dreams on one page, real above predicted, the best on top. Drives alone: `daydrive data show`."""
    from daydrive.devices import find_device
    from daydrive.viz.images import write_png
    from daydrive.viz.views.clips import ClipQuery, view_rollouts
    from daydrive.viz.views.files import STILL, check_output
    from daydrive.viz.views.rollouts import ranked_sheet

    check_output(output, "sheet", STILL)
    query = ClipQuery(split, horizon, clips, drive or (), at)
    found, hz, aspect = view_rollouts(checkpoint, adapter, data_root, query, find_device(device))
    shown = list(found)
    write_png(output, ranked_sheet(shown, hz, aspect))
    print(f"{output}: clips {len(shown)}, steps {len(shown[0].real)}")


@kinds.command()
def curves(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="run folders")],
    output: Page,
    smooth: Annotated[float, typer.Option(min=0.0, max=0.999, help="of the loss: the past's weight, 0 for none")] = 0.9,
) -> None:
    """Training loss, validation PSNR and margin of one run or several, from what they logged."""
    from daydrive.viz.images import write_png
    from daydrive.viz.views import training_curves as kind
    from daydrive.viz.views.files import STILL, check_output

    check_output(output, "curves", STILL)
    read = kind.read_runs(runs)
    write_png(output, kind.chart(read, smooth))
    print(f"{output}: {', '.join(run.name for run in read)}")


def _refuse(adapter: str | None, kind: str) -> None:
    if adapter is not None:
        raise UserError(
            f"--adapter {adapter}: {kind} shows what daydrive's own models hold, and an adapter gives images alone; "
            "rollout, steering-sweep, error and sheet take one"
        )
