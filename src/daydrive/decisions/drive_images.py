"""One road, as several drivers drove it: from above, and through the windscreen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from daydrive.decisions.closed_loop import RoadResult
from daydrive.envs.road import RoadEnv
from daydrive.envs.road.road import ASPHALT_EDGE, LANE_CENTRE, MARGIN, build_road
from daydrive.types import Image
from daydrive.viz.charts import FAINT, line_styles, new_figure, render_figure, style_axis
from daydrive.viz.images import contact_sheet, side_by_side, to_images, write_png, write_video

COLUMNS = 6
"""Moments on the sheet."""

Drives = Mapping[str, RoadResult]
"""The drives of one road, with frames, by driver."""


def plot_tracks(path: Path, drives: Drives) -> None:
    """Write a map of the road with the tracks of the drivers."""
    env = RoadEnv()
    env.reset(seed=next(iter(drives.values())).road)
    road = build_road(env.info["world"])
    length = max(int(np.hypot(*np.ptp(np.stack([each.x, each.y]), axis=1))) for each in drives.values())
    s = np.arange(MARGIN - 10, MARGIN + length + 20)
    figure = new_figure(12, 4)
    axis = figure.subplots()
    for d, dash in ((-ASPHALT_EDGE, "-"), (ASPHALT_EDGE, "-"), (0.0, "--"), (LANE_CENTRE, ":")):
        x, y = np.array([road.world(float(each), d) for each in s]).T
        axis.plot(x, -y, color=FAINT, linewidth=1, linestyle=dash)
    for (name, drive), style in zip(drives.items(), line_styles(len(drives)), strict=True):
        axis.plot(drive.x, -drive.y, color=style.colour, linestyle=style.dash, linewidth=2, label=name)
    style_axis(axis, "the road from above, m", grid="both")
    axis.set_aspect("equal")
    axis.legend(frameon=False, fontsize=9)
    write_png(path, render_figure(figure))


def sheet_of_drives(path: Path, drives: Drives, hz: float) -> None:
    """Write the views of each driver at `COLUMNS` moments."""
    longest = max(len(_views(drive)) for drive in drives.values())
    moments = np.unique(np.linspace(0, longest - 1, COLUMNS).round().astype(int))
    rows = [[views[min(k, len(views) - 1)] for k in moments] for views in map(_views, drives.values())]
    write_png(path, contact_sheet(rows, list(drives), [f"{(k + 1) / hz:.1f} s" for k in moments]))


def video_of_drives(path: Path, drives: Drives, hz: float) -> None:
    """Write the views of all drivers side by side as a video; those whose drive ends early stop."""
    views = [_views(drive) for drive in drives.values()]

    def frames() -> Iterator[Image]:
        for k in range(max(map(len, views))):
            yield side_by_side([each[min(k, len(each) - 1)] for each in views], list(drives), height=192)

    write_video(path, frames(), hz)


def _views(drive: RoadResult) -> list[Image]:
    assert drive.frames is not None, "the drive was not recorded"
    return list(to_images(drive.frames))
