"""`daydrive visualize KIND …`: images and videos of a model's rollouts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from daydrive.cli.options import Checkpoint, Device, Split, StoreFolder, app
from daydrive.errors import UserError

kinds = typer.Typer(
    no_args_is_help=True, help="Draw images and videos of rollouts. The suffix selects .png, .mp4 or .gif."
)
app.add_typer(kinds, name="visualize")

Output = Annotated[Path, typer.Option(help="file to write: .png, .mp4 or .gif")]
StillOutput = Annotated[Path, typer.Option(help="file to write: .png")]
Adapter = Annotated[str | None, typer.Option(help="FILE.py:NAME, a function that loads --checkpoint as another model")]
Drives = Annotated[list[str] | None, typer.Option("--drive", help="name of a drive, instead of a split; repeatable")]
Drive = Annotated[str | None, typer.Option(help="name of a drive; default: the first of the split")]
At = Annotated[float | None, typer.Option(help="start of the prediction within the drive, s; default: earliest")]
Steps = Annotated[int, typer.Option("--horizon", min=1, help="steps to predict; fewer if the drive ends earlier")]
Clips = Annotated[int, typer.Option(min=1, help="number of clips, spread evenly over the split")]
UnsupportedAdapter = Annotated[str | None, typer.Option("--adapter", hidden=True)]


@kinds.command()
def rollout(
    checkpoint: Checkpoint,
    data_root: StoreFolder,
    output: Output,
    split: Split = "test",
    clips: Clips = 4,
    drive: Drives = None,
    at: At = None,
    steps: Steps = 30,
    adapter: Adapter = None,
    device: Device = "auto",
) -> None:
    """Real frames, predicted frames and their difference.

    For several clips at once.
    """
    from daydrive.devices import find_device
    from daydrive.viz.views import rollouts as kind
    from daydrive.viz.views.clips import ClipQuery, view_rollouts
    from daydrive.viz.views.files import MOVING, check_output, save

    check_output(output, "rollout", MOVING)
    query = ClipQuery(split, steps, clips, drive or (), at)
    found, hz, aspect = view_rollouts(checkpoint, adapter, data_root, query, find_device(device))
    shown = list(found)
    save(output, lambda: kind.strip(shown, hz, aspect), lambda: kind.video(shown, hz, aspect), hz)
    print(f"{output}: clips {len(shown)}, steps {len(shown[0].real)}")


@kinds.command()
def steering_sweep(
    checkpoint: Checkpoint,
    output: Output,
    data_root: Annotated[Path | None, typer.Option(help="store; default: use the road world")] = None,
    split: Split = "test",
    drive: Drive = None,
    at: At = None,
    world: Annotated[int, typer.Option(min=0, help="number of the road in the road world")] = 0,
    steps: Steps = 20,
    adapter: Adapter = None,
    device: Device = "auto",
) -> None:
    """One moment predicted with five steering commands.

    In the road world beside the simulated futures.
    """
    from daydrive.devices import find_device
    from daydrive.viz.views import steering_sweep as kind
    from daydrive.viz.views.clips import ClipQuery
    from daydrive.viz.views.files import MOVING, check_output, save

    check_output(output, "steering-sweep", MOVING)
    where = find_device(device)
    if data_root is None:
        if drive is not None or at is not None or adapter is not None:
            raise UserError("--drive, --at and --adapter require a store: name it with --data-root")
        shown, hz, aspect = kind.of_world(checkpoint, world, steps, where)
    else:
        query = ClipQuery(split, steps, 1, [drive] if drive else (), at)
        shown, hz, aspect = kind.of_drive(checkpoint, adapter, data_root, query, where)
    save(output, lambda: kind.sheet(shown, hz, aspect), lambda: kind.video(shown, hz, aspect), hz)
    print(f"{output}: {shown.moment}, steps {shown.steps}")


@kinds.command()
def motion(
    checkpoint: Checkpoint,
    data_root: StoreFolder,
    output: Output,
    split: Split = "test",
    drive: Drive = None,
    at: At = None,
    steps: Steps = 20,
    adapter: UnsupportedAdapter = None,
    device: Device = "auto",
) -> None:
    """Optical flow, new content and retained content.

    Requires a model with motion fields, such as the default architecture.
    """
    from daydrive.devices import find_device
    from daydrive.viz.views import motion as kind
    from daydrive.viz.views.clips import ClipQuery, load_model_clip
    from daydrive.viz.views.files import MOVING, check_output, save

    _refuse_adapter(adapter, "motion")
    check_output(output, "motion", MOVING)
    model_clip = load_model_clip(
        checkpoint, data_root, ClipQuery(split, steps, 1, [drive] if drive else (), at), find_device(device)
    )
    shown, name, hz, aspect = kind.view_motion(model_clip), model_clip.name, model_clip.hz, model_clip.pixel_aspect
    save(output, lambda: kind.sheet(shown, name, hz, aspect), lambda: kind.video(shown, name, hz, aspect), hz)
    print(f"{output}: {name}, steps {len(shown.real)}")


@kinds.command()
def latent(
    checkpoint: Checkpoint,
    data_root: StoreFolder,
    output: Output,
    split: Split = "test",
    drive: Drive = None,
    at: At = None,
    steps: Steps = 20,
    adapter: UnsupportedAdapter = None,
    device: Device = "auto",
) -> None:
    """Latents of real and of predicted frames.

    Also the recurrent state of the dynamics. Requires a model with a grid of latents.
    """
    from daydrive.devices import find_device
    from daydrive.viz.views import latents as kind
    from daydrive.viz.views.clips import ClipQuery, load_model_clip
    from daydrive.viz.views.files import MOVING, check_output, save

    _refuse_adapter(adapter, "latent")
    check_output(output, "latent", MOVING)
    model_clip = load_model_clip(
        checkpoint, data_root, ClipQuery(split, steps, 1, [drive] if drive else (), at), find_device(device)
    )
    shown, name, hz, aspect = kind.latents(model_clip), model_clip.name, model_clip.hz, model_clip.pixel_aspect
    save(output, lambda: kind.sheet(shown, name, hz, aspect), lambda: kind.video(shown, name, hz, aspect), hz)
    print(f"{output}: {name}, steps {len(shown.real)}")


@kinds.command()
def error(
    checkpoint: Checkpoint,
    data_root: StoreFolder,
    output: Output,
    split: Split = "test",
    clips: Clips = 32,
    drive: Drives = None,
    at: At = None,
    steps: Steps = 30,
    adapter: Adapter = None,
    device: Device = "auto",
) -> None:
    """Error maps by steps ahead.

    Mean over the clips, and the first clip, beside the maps of copying the last frame.
    """
    from daydrive.devices import find_device
    from daydrive.viz.views import errors as kind
    from daydrive.viz.views.clips import ClipQuery, view_rollouts
    from daydrive.viz.views.files import MOVING, check_output, save

    check_output(output, "error", MOVING)
    query = ClipQuery(split, steps, clips, drive or (), at)
    found, hz, aspect = view_rollouts(checkpoint, adapter, data_root, query, find_device(device))
    shown = kind.errors(found)
    save(output, lambda: kind.sheet(shown, hz, aspect), lambda: kind.video(shown, hz, aspect), hz)
    print(f"{output}: clips {shown.clips}, steps {len(shown.predicted)}")


@kinds.command()
def sheet(
    checkpoint: Checkpoint,
    data_root: StoreFolder,
    output: StillOutput,
    split: Split = "test",
    clips: Clips = 12,
    drive: Drives = None,
    at: At = None,
    steps: Steps = 30,
    adapter: Adapter = None,
    device: Device = "auto",
) -> None:
    """Many rollouts on one page, best first.

    Real frames above predicted ones. For drives alone use `daydrive data show`.
    """
    from daydrive.devices import find_device
    from daydrive.viz.images import write_png
    from daydrive.viz.views.clips import ClipQuery, view_rollouts
    from daydrive.viz.views.files import STILL, check_output
    from daydrive.viz.views.rollouts import ranked_sheet

    check_output(output, "sheet", STILL)
    query = ClipQuery(split, steps, clips, drive or (), at)
    found, hz, aspect = view_rollouts(checkpoint, adapter, data_root, query, find_device(device))
    shown = list(found)
    write_png(output, ranked_sheet(shown, hz, aspect))
    print(f"{output}: clips {len(shown)}, steps {len(shown[0].real)}")


@kinds.command()
def curves(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="run folders")],
    output: StillOutput,
    smooth: Annotated[
        float, typer.Option(min=0.0, max=0.999, help="smoothing of the loss: weight of the past, 0 for none")
    ] = 0.9,
) -> None:
    """Training curves of one or several runs.

    Training loss, validation PSNR and margin, from their logs.
    """
    from daydrive.viz.images import write_png
    from daydrive.viz.views import training_curves as kind
    from daydrive.viz.views.files import STILL, check_output

    check_output(output, "curves", STILL)
    read = kind.read_runs(runs)
    write_png(output, kind.chart(read, smooth))
    print(f"{output}: {', '.join(run.name for run in read)}")


def _refuse_adapter(adapter: str | None, kind: str) -> None:
    if adapter is not None:
        raise UserError(
            f"--adapter {adapter}: {kind} shows the internal state of daydrive's own models, and an adapter provides "
            "images only; rollout, steering-sweep, error and sheet support it"
        )
