"""One road driven by each policy, from a displaced start, and a figure of it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from daydrive.decisions.closed_loop import Displacement, RoadResult, drive_closed_loop
from daydrive.decisions.drive_images import Drives
from daydrive.decisions.policy.driver import PolicyDriver
from daydrive.decisions.policy.evaluation import LANE_SECONDS, START_SPEED
from daydrive.decisions.policy.network import Policy
from daydrive.envs.road.env import HZ
from daydrive.envs.world_model.rewards import HALF_LANE
from daydrive.types import Image
from daydrive.viz.charts import FAINT, line_styles, new_figure, render_figure, style_axis

START = Displacement(lateral=1.5)
SHOWN_FRAMES = 4


def drive_road(policies: Mapping[str, Policy], road: int) -> dict[str, RoadResult]:
    """The drive of each policy on one road, from a displaced start, with its frames."""
    drives = {}
    for name, policy in policies.items():
        (drives[name],) = drive_closed_loop(
            PolicyDriver(policy), [road], LANE_SECONDS, START_SPEED, displacement=START,
            image_size=policy.info.image_size, record=True,
        )  # fmt: skip
    return drives


def draw_roads(drives: Drives) -> Image:
    """Above, the distance from the middle of the lane over time; below, frames that each policy saw."""
    figure = new_figure(9, 3.2 + 1.5 * len(drives))
    grid = figure.add_gridspec(1 + len(drives), SHOWN_FRAMES, height_ratios=[2.2, *[1] * len(drives)])
    axis = figure.add_subplot(grid[0, :])
    styles = line_styles(len(drives))
    for row, ((name, drive), style) in enumerate(zip(drives.items(), styles, strict=True), start=1):
        seconds = np.arange(1, len(drive.lane_offset) + 1) / HZ
        axis.plot(seconds, drive.lane_offset, color=style.colour, linestyle=style.dash, label=name)
        assert drive.frames is not None
        shown = torch.linspace(0, len(drive.frames) - 1, SHOWN_FRAMES).round().int().tolist()
        for k, frame in enumerate(shown):
            each = figure.add_subplot(grid[row, k])
            each.imshow(drive.frames[frame].permute(1, 2, 0).numpy())
            each.set_axis_off()
            each.set_title(f"{name}, {seconds[frame]:.0f} s" if k == 0 else f"{seconds[frame]:.0f} s", fontsize=8)
    for edge in (-HALF_LANE, HALF_LANE):
        axis.axhline(edge, color=FAINT, linewidth=0.8)
    axis.set_ylim(-6, 6)
    axis.set_xlabel("s")
    axis.legend(frameon=False, fontsize=8, ncol=4)
    style_axis(axis, "m from the middle of the lane, positive to the right; its edges in grey")
    return render_figure(figure)
