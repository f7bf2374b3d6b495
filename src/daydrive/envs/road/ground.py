"""Rendering of the ground: ray casting against the terrain, road coordinates per pixel, texture lookup."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from daydrive.envs.road.arrays import clamp
from daydrive.envs.road.camera import FAR, HEIGHT, Lens, Pose
from daydrive.envs.road.road import Road
from daydrive.envs.road.strip import (
    LEVELS_ACROSS,
    LEVELS_ALONG,
    PERIOD,
    TEXELS_ALONG,
    GroundTexture,
    row_of,
    rows_per_metre,
)
from daydrive.envs.road.weather import Weather

GRID_SMALL, GRID_LARGE = (40, 8), (56, 16)
"""Grid size (depths, columns) of the traced terrain for images narrower than 128 px and from 128 px on. Pixels in
between are interpolated; one more column lies outside the image on each side."""


def visibility(depth: np.ndarray, sight: float) -> np.ndarray:
    """Transmittance of the haze at a depth (m), 0 to 1. It reaches 0 at FAR, so that objects fade in."""
    clear = np.exp(-((depth / sight) ** 1.5))
    return clear * clamp((FAR - depth) / 110, 0, 1)


@dataclass(frozen=True, eq=False)
class Terrain:
    """The traced terrain of one frame.

    skyline: (depths, columns), the topmost image row covered by terrain up to each depth, per traced column.
    s, d: road coordinates (m) of the grid points, each (depths, columns).
    """

    skyline: np.ndarray
    s: np.ndarray
    d: np.ndarray


class GroundView:
    """Renders the ground for one lens."""

    def __init__(self, lens: Lens) -> None:
        self.lens = lens
        self.depths, self.cells = GRID_SMALL if lens.width < 128 else GRID_LARGE
        self.cell = lens.width // self.cells
        nearest = 0.75 * lens.focal * HEIGHT / (lens.height - lens.cy + 0.12 * lens.focal)
        self.nearest, self.ratio = nearest, (FAR / nearest) ** (1 / (self.depths - 1))
        self.z = nearest * self.ratio ** np.arange(self.depths)
        column = (np.arange(self.cells + 2) - 0.5) * self.cell - 0.5
        self.z32 = self.z.astype(np.float32)
        self.u = (column - lens.cx) / lens.focal
        self.forward = np.repeat(self.z[:, None], self.cells + 2, axis=1)
        self.right = self.z[:, None] * self.u[None]
        self.inverse = (lens.focal / self.z)[:, None]

    def trace(self, road: Road, s: float, pose: Pose) -> Terrain:
        """Intersect the terrain with the camera's rays; the camera is near arc length s (m)."""
        c, sn = math.cos(pose.yaw), math.sin(pose.yaw)
        x = (pose.x + c * self.forward - sn * self.right).ravel()
        y = (pose.y + sn * self.forward + c * self.right).ravel()
        s_at, d_at, height = road.project(x, y, s, FAR + 60)
        shape = self.forward.shape
        rows = (pose.z - height.reshape(shape)) * self.inverse + (self.lens.cy + self.lens.focal * pose.slope)
        return Terrain(np.minimum.accumulate(rows, axis=0), s_at.reshape(shape), d_at.reshape(shape))

    def skyline_at(self, terrain: Terrain, depth: np.ndarray, column: np.ndarray) -> np.ndarray:
        """Topmost row (N,) covered by terrain nearer than `depth` (m) at the given image columns (px)."""
        k = np.log(np.maximum(depth, self.nearest) / self.nearest) / math.log(self.ratio)
        j = clamp(np.rint(column / self.cell + 0.5), 0, self.cells + 1).astype(np.intp)
        return terrain.skyline[clamp(k.astype(np.intp), 0, self.depths - 1), j]

    def _enlarge(self, grid: np.ndarray, interpolation: int) -> np.ndarray:
        enlarged = cv2.resize(grid, ((self.cells + 2) * self.cell, len(grid)), interpolation=interpolation)
        return enlarged[:, self.cell : self.cell + self.lens.width]

    def _rows(self, terrain: Terrain, first: int) -> tuple[np.ndarray, np.ndarray]:
        """The two grid depths around each image row: index (R, columns) of the nearer, weight of the farther."""
        columns = terrain.skyline.shape[1]
        span = 4096.0
        offset = np.arange(columns) * span
        keys = (offset[:, None] - terrain.skyline.T).ravel()
        rows = np.arange(first, self.lens.height, dtype=np.float64)
        after = np.searchsorted(keys, (offset[None] - rows[:, None]).ravel()).reshape(len(rows), columns)
        k = clamp(after - np.arange(columns) * self.depths - 1, 0, self.depths - 2)
        j = np.arange(columns)[None]
        low, high = terrain.skyline[k, j], terrain.skyline[k + 1, j]
        return k, clamp((low - rows[:, None]) / np.maximum(low - high, 1e-6), 0, 1).astype(np.float32)

    def draw(
        self, canvas: np.ndarray, terrain: Terrain, texture: GroundTexture, weather: Weather, haze: np.ndarray, s: float
    ) -> None:
        """Draw the ground over the sky. canvas: float32 (H, W, 4); haze: float32 (W, 4), haze colour per column."""
        top = terrain.skyline[-1].astype(np.float32)[None]
        first = max(math.ceil(float(top.min()) - 0.5), 0)
        k, weight = self._rows(terrain, first)
        j = np.arange(k.shape[1])[None]
        origin = PERIOD * math.floor(s / PERIOD)

        def between(values: np.ndarray) -> np.ndarray:
            near = values[k, j]
            return near + (values[k + 1, j] - near) * weight

        s_at, d_at = between((terrain.s - origin).astype(np.float32)), between(terrain.d.astype(np.float32))
        depth = self.z32[k] * (1 + np.float32(self.ratio - 1) * weight)
        clear = visibility(depth, weather.sight)
        grid = np.stack([s_at, d_at, clear], axis=2)

        def footprint(values: np.ndarray) -> np.ndarray:
            change = np.empty_like(values)
            change[:-1] = np.abs(values[1:] - values[:-1])
            change[-1] = change[-2]
            across = np.abs(values[:, 1:] - values[:, :-1]) / self.cell
            np.maximum(change[:, 1:], across, out=change[:, 1:])
            return change

        along = np.log2(np.maximum(footprint(s_at) * TEXELS_ALONG, 1.0))
        across = np.log2(np.maximum(footprint(d_at) * rows_per_metre(d_at), 1.0))
        i = clamp(np.rint(2 * along - 0.3), 0, LEVELS_ALONG - 1).astype(np.intp)
        level = clamp(np.rint(across - 0.1), 0, LEVELS_ACROSS - 1).astype(np.intp)
        level_transforms = texture.levels[i * LEVELS_ACROSS + level]

        smooth = self._enlarge(grid, cv2.INTER_LINEAR)
        blocks = self._enlarge(level_transforms, cv2.INTER_NEAREST)
        along_m = smooth[:, :, 0]
        along_m = along_m - PERIOD * np.floor(along_m * (1 / PERIOD))
        x = blocks[:, :, 0] + blocks[:, :, 1] * along_m
        y = blocks[:, :, 2] + blocks[:, :, 3] * row_of(np.ascontiguousarray(smooth[:, :, 1]))
        texels = cv2.remap(texture.atlas, x, y, cv2.INTER_LINEAR)
        ground: np.ndarray = cv2.multiply(texels, np.array((*weather.light, 0.0)), dtype=cv2.CV_32F)
        if weather.lamps:
            ground *= self._headlamps(first, weather.lamps)
        if weather.wet:
            flat = clamp(depth * (1 / 26) + 0.08, 0, 0.85).astype(np.float32) * np.float32(weather.wet / 255)
            mirror = texels[:, :, 3] * self._enlarge(flat, cv2.INTER_LINEAR)
            ground += (haze[None] * np.float32(0.92) - ground) * mirror[:, :, None]
        ground -= haze
        cv2.multiply(ground, cv2.cvtColor(np.ascontiguousarray(smooth[:, :, 2]), cv2.COLOR_GRAY2RGBA), ground)
        ground += haze

        edge = self._enlarge(top, cv2.INTER_LINEAR)
        solid = min(max(int(float(edge.max())) + 1, first), self.lens.height)
        cover = clamp(np.arange(first, solid, dtype=np.float32)[:, None] - edge + 0.5, 0, 1)[:, :, None]
        sky = canvas[first:solid]
        sky += (ground[: solid - first] - sky) * cover
        canvas[solid:] = ground[solid - first :]

    def _headlamps(self, first: int, strength: float) -> np.ndarray:
        """Brightness factor (R, W, 1) of the car's own headlamps on the road."""
        rows = np.arange(first, self.lens.height, dtype=np.float32)[:, None]
        depth = self.lens.focal * HEIGHT / np.maximum(rows - self.lens.cy, 1.0)
        u = ((np.arange(self.lens.width, dtype=np.float32) - self.lens.cx) / self.lens.focal)[None]
        beam = np.exp(-(((depth - 9) / 14) ** 2)) * np.exp(-((u / 0.42) ** 2))
        return (1 + 1.1 * strength * beam)[:, :, None]
