"""`daydrive data actions`: what was done, for videos that nobody recorded it with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from daydrive.cli.stores import stores


@stores.command()
def actions(
    folder: Annotated[Path, typer.Argument(help="a drive's folder with its video, or a folder of such")],
    fov: Annotated[float, typer.Option(min=20, max=170, help="degrees that the camera sees across")] = 70.0,
    offset: Annotated[
        float | None, typer.Option(help="s on the track's clock at the first frame; default: when the video was made")
    ] = None,
) -> None:
    """Videos without an actions.csv → one beside each: the wheel from how the picture turns, pedals from a *.gpx."""
    from daydrive.data.kinematics.dashcam import videos_without_actions, write_actions

    for file in videos_without_actions(folder):
        print(write_actions(file, fov, offset))
