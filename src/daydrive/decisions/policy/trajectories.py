"""A figure of one road driven by each policy, from a displaced start."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from daydrive.decisions.closed_loop import Displacement, drive_closed_loop
from daydrive.decisions.policy.driver import PolicyDriver
from daydrive.decisions.policy.evaluation import LANE_SECONDS, START_SPEED
from daydrive.decisions.policy.network import Policy
from daydrive.envs.road.env import HZ
from daydrive.envs.world_model.rewards import HALF_LANE
from daydrive.types import Image
from daydrive.viz.charts import FAINT, line_styles, new_figure, render_figure, style_axis

START = Displacement(lateral=1.5)
SHOWN_FRAMES = 4


def draw_roads(policies: Mapping[str, Policy], road: int) -> Image:
    """Above, the distance from the middle of the lane over time; below, frames that each policy saw."""
    figure = new_figure(9, 3.2 + 1.5 * len(policies))
    grid = figure.add_gridspec(1 + len(policies), SHOWN_FRAMES, height_ratios=[2.2, *[1] * len(policies)])
    axis = figure.add_subplot(grid[0, :])
    styles = line_styles(len(policies))
    for row, ((name, policy), style) in enumerate(zip(policies.items(), styles, strict=True), start=1):
        (result,) = drive_closed_loop(
            PolicyDriver(policy), [road], LANE_SECONDS, START_SPEED, displacement=START,
            image_size=policy.info.image_size, record=True,
        )  # fmt: skip
        seconds = np.arange(1, len(result.lane_offset) + 1) / HZ
        axis.plot(seconds, result.lane_offset, color=style.colour, linestyle=style.dash, label=name)
        assert result.frames is not None
        shown = torch.linspace(0, len(result.frames) - 1, SHOWN_FRAMES).round().int().tolist()
        for k, frame in enumerate(shown):
            each = figure.add_subplot(grid[row, k])
            each.imshow(result.frames[frame].permute(1, 2, 0).numpy())
            each.set_axis_off()
            each.set_title(f"{name}, {seconds[frame]:.0f} s" if k == 0 else f"{seconds[frame]:.0f} s", fontsize=8)
    for edge in (-HALF_LANE, HALF_LANE):
        axis.axhline(edge, color=FAINT, linewidth=0.8)
    axis.set_ylim(-6, 6)
    axis.set_xlabel("s")
    axis.legend(frameon=False, fontsize=8, ncol=4)
    style_axis(axis, "m from the middle of the lane, positive to the right; its edges in grey")
    return render_figure(figure)
