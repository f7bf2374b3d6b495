"""The ground texture, painted in road coordinates, and its prefiltered levels.

The texture repeats every PERIOD metres along the road. Across, its resolution is high on the road and
decreases with distance from it, out to the fields. The levels form a rip map (Akenine-Möller et al.,
Real-Time Rendering, "Ripmapping"), downsampled separately along and across the road, because the road
ahead is seen at a grazing angle: a pixel there covers much more road along than across.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from daydrive.envs.road.noise import fractal, smooth_noise
from daydrive.envs.road.road import ASPHALT_EDGE, LANE_CENTRE, LANE_WIDTH

PERIOD = 72.0
TEXELS_ALONG = 12
TEXELS_ACROSS = 20
FINE_EDGE = 6.5
SPREAD = 25.0
GAIN = 250.0
ROWS = 760
COLUMNS = int(PERIOD * TEXELS_ALONG)
LEVELS_ALONG = 15
"""Number of levels along the road, each smaller by sqrt(2). Across the road, each is smaller by 2."""
LEVELS_ACROSS = 8

# grass: light and dark; fields: four colours; dash: length and period of the centre line (m).
STYLES: tuple[dict, ...] = (
    {"grass": ((104, 134, 58), (62, 98, 40)), "verge": (146, 136, 118), "asphalt": 92, "yellow": False, "dash": (6, 12),
     "fields": ((112, 142, 60), (188, 172, 96), (84, 122, 52), (128, 104, 76))},
    {"grass": ((142, 140, 76), (104, 112, 54)), "verge": (168, 148, 116), "asphalt": 112, "yellow": True,
     "dash": (4, 12), "fields": ((196, 180, 108), (172, 152, 92), (142, 146, 74), (206, 190, 120))},
    {"grass": ((84, 122, 52), (52, 84, 38)), "verge": (122, 116, 106), "asphalt": 76, "yellow": False, "dash": (4, 8),
     "fields": ((78, 116, 50), (96, 134, 56), (70, 104, 48), (108, 138, 70))},
    {"grass": ((134, 122, 62), (100, 92, 48)), "verge": (138, 120, 98), "asphalt": 100, "yellow": False, "dash": (3, 9),
     "fields": ((150, 118, 66), (128, 122, 64), (164, 138, 76), (110, 90, 64))},
)  # fmt: skip


def row_of(d: np.ndarray) -> np.ndarray:
    """Texture row (ROWS of them, 0 at the left end) of lateral offset d (m); float32 in, float32 out."""
    a = np.abs(d)
    near = np.minimum(a, FINE_EDGE)
    a -= near
    near *= TEXELS_ACROSS
    near += GAIN * a / (a + SPREAD)
    return np.copysign(near, d, out=near) + ROWS / 2


def rows_per_metre(d: np.ndarray) -> np.ndarray:
    """Derivative of `row_of`."""
    beyond = np.maximum(np.abs(d) - FINE_EDGE, 0)
    return np.where(beyond > 0, GAIN * SPREAD / (beyond + SPREAD) ** 2, TEXELS_ACROSS)


def _offsets() -> np.ndarray:
    """Lateral offset (m) of each texture row, (ROWS, 1)."""
    row = np.arange(ROWS) + 0.5 - ROWS / 2
    beyond = np.maximum(np.abs(row) - FINE_EDGE * TEXELS_ACROSS, 0)
    far = FINE_EDGE + SPREAD * beyond / (GAIN - np.minimum(beyond, GAIN - 1))
    return np.copysign(np.where(beyond > 0, far, np.abs(row) / TEXELS_ACROSS), row)[:, None]


def _stripe(d: np.ndarray, centre: float, width: float) -> np.ndarray:
    return np.clip((width / 2 - np.abs(d - centre)) * TEXELS_ACROSS + 0.5, 0, 1)


def _paint_asphalt(rng: np.random.Generator, d: np.ndarray, grey: float) -> np.ndarray:
    shape = (ROWS, COLUMNS)
    tone = grey * (0.90 + 0.20 * fractal(rng, *shape, 24, 9, 3))
    for lane in (-LANE_CENTRE, LANE_CENTRE):
        for track in (-0.78, 0.78):
            tone *= 1 - 0.13 * np.exp(-(((d - lane - track) / 0.30) ** 2))
        tone *= 1 - 0.07 * np.exp(-(((d - lane) / 0.35) ** 2))
    tone = np.where(d < 0, tone * 0.97, tone)
    cracks = np.zeros(shape, np.float32)
    for _ in range(12):
        x, y = rng.uniform(0, COLUMNS), ROWS / 2 + rng.uniform(-72, 72)
        points = [(x, y)]
        along = rng.random() < 0.5
        for _ in range(int(rng.integers(6, 16))):
            step = rng.normal(0, 3, 2) + ((7, 0) if along else (0.5, 7))
            points.append((points[-1][0] + step[0], points[-1][1] + step[1]))
        cv2.polylines(cracks, [np.round(points).astype(np.int32)], False, 1.0, 1, cv2.LINE_AA)
    for _ in range(9):
        length, width = int(rng.uniform(10, 90)), int(rng.uniform(14, 66))
        x, y = int(rng.uniform(0, COLUMNS - length)), int(ROWS / 2 + rng.uniform(-76, 76 - width))
        tone[y : y + width, x : x + length] *= rng.uniform(0.72, 1.06)
        cv2.rectangle(cracks, (x, y), (x + length, y + width), 0.7, 1)
    tone *= 1 - 0.4 * cracks
    tone += rng.normal(0, 4, shape) + 3 * (rng.random(shape) > 0.97) * grey / 20
    return tone[:, :, None] * np.array([1.0, 1.0, 1.03])


def _paint_land(rng: np.random.Generator, d: np.ndarray, style: dict) -> np.ndarray:
    shape = (ROWS, COLUMNS)
    light, dark = (np.array(c, np.float32) for c in style["grass"])
    mix = np.clip(fractal(rng, *shape, 40, 36, 4) * 1.9 - 0.45, 0, 1)[:, :, None]
    land = dark + (light - dark) * mix
    tufts = smooth_noise(rng, *shape, 200, 420)
    land *= (0.80 + 0.40 * tufts)[:, :, None]
    a = np.abs(d)
    land *= (1 - 0.22 * np.exp(-(((a - 7.3) / 0.6) ** 2)))[:, :, None]
    s = (np.arange(COLUMNS) + 0.5) / TEXELS_ALONG
    for side in (-1, 1):
        cuts = np.sort(rng.uniform(4, PERIOD - 4, 2))
        permutation = rng.permutation(len(style["fields"]))[:3]
        block = permutation[np.searchsorted(cuts, s) % 3]
        block = np.where(s > cuts[1], permutation[0], block)
        colour = np.array(style["fields"], np.float32)[block][None] * np.ones((ROWS, 1, 1), np.float32)
        rows = 0.90 + 0.12 * np.sin(2 * np.pi * np.log1p(np.maximum(a - 9, 0) / 12) * 9)
        colour *= (rows * (0.84 + 0.32 * mix[:, :, 0]) * (0.88 + 0.24 * tufts))[:, :, None]
        ragged = 13.5 + 1.2 * smooth_noise(rng, 1, COLUMNS, 1, 30)
        inside = np.clip((a - ragged) * 1.5 + 0.5, 0, 1) * (np.sign(d) == side)
        land += (colour - land) * inside[:, :, None]
        hedge = np.exp(-(((a - ragged) / 0.35) ** 2)) * (np.sign(d) == side) * 0.3
        land *= 1 - hedge[:, :, None]
    return land


def paint_texture(index: int) -> np.ndarray:
    """Generate the texture of a style, uint8 (ROWS, COLUMNS, 4): daylight colour, and reflectivity when wet."""
    style = STYLES[index]
    rng = np.random.default_rng([index, 11])
    d, shape = _offsets(), (ROWS, COLUMNS)
    a = np.abs(d)
    ground = _paint_land(rng, d, style)
    stones = 0.78 + 0.30 * fractal(rng, *shape, 60, 60, 2) + rng.normal(0, 0.09, shape)
    verge = np.array(style["verge"], np.float32) * stones[:, :, None]
    edge = 5.0 + 0.9 * (fractal(rng, *shape, 6, 30, 4) - 0.5)
    ground += (verge - ground) * np.clip((edge - a) * 5 + 0.5, 0, 1)[:, :, None]
    paved = np.clip((ASPHALT_EDGE + 0.28 * (fractal(rng, *shape, 4, 48, 3) - 0.5) - a) * TEXELS_ACROSS / 2 + 0.5, 0, 1)
    asphalt = _paint_asphalt(rng, d, style["asphalt"])
    ground += (asphalt - ground) * paved[:, :, None]
    s = (np.arange(COLUMNS) + 0.5) / TEXELS_ALONG
    length, period = style["dash"]
    dashes = np.clip((length / 2 - np.abs(s % period - period / 2)) * TEXELS_ALONG + 0.5, 0, 1)
    wear = np.clip(1.25 - 0.75 * fractal(rng, *shape, 200, 200, 3), 0.45, 1)
    white, yellow = np.array([232, 232, 226], np.float32), np.array([228, 178, 44], np.float32)
    edges = _stripe(d, LANE_WIDTH, 0.17) + _stripe(d, -LANE_WIDTH, 0.17)
    ground += (white - ground) * (edges * wear)[:, :, None]
    centre = _stripe(d, 0, 0.17) * dashes
    ground += ((yellow if style["yellow"] else white) - ground) * (centre * wear)[:, :, None]
    puddles = np.clip(fractal(rng, *shape, 14, 10, 3) * 3.2 - 1.3, 0.25, 1)
    mirror = paved * puddles * 255
    return np.clip(np.rint(np.concatenate([ground, mirror[:, :, None]], axis=2)), 0, 255).astype(np.uint8)


@dataclass(frozen=True, eq=False)
class GroundTexture:
    """The rip map in one atlas.

    atlas: uint8 (h, w, 4). levels: float32 (LEVELS_ALONG * LEVELS_ACROSS, 4), for each level the offset and scale
    of x and y: atlas x = offset + scale * metres along, atlas y = offset + scale * `row_of(d)`.
    """

    atlas: np.ndarray
    levels: np.ndarray


@lru_cache(maxsize=len(STYLES))
def build_texture(index: int) -> GroundTexture:
    """Generate the texture of a style and its rip map."""
    base = paint_texture(index)
    widths = [max(round(COLUMNS / math.sqrt(2) ** i), 2) for i in range(LEVELS_ALONG)]
    heights = [max(round(ROWS / 2**j), 2) for j in range(LEVELS_ACROSS)]
    lefts = np.cumsum([0] + [w + 2 for w in widths])
    tops = np.cumsum([0] + [h + 2 for h in heights])
    atlas = np.zeros((tops[-1], lefts[-1], 4), np.uint8)
    for i, width in enumerate(widths):
        narrow = cv2.resize(base, (width, ROWS), interpolation=cv2.INTER_AREA) if i else base
        for j, height in enumerate(heights):
            small = cv2.resize(narrow, (width, height), interpolation=cv2.INTER_AREA) if j else narrow
            small = np.pad(small, ((0, 0), (1, 1), (0, 0)), mode="wrap")
            small = np.pad(small, ((1, 1), (0, 0), (0, 0)), mode="edge")
            atlas[tops[j] : tops[j + 1], lefts[i] : lefts[i + 1]] = small
    levels = [
        (left + 0.5, width / PERIOD, top + 0.5, height / ROWS)
        for left, width in zip(lefts, widths, strict=False)
        for top, height in zip(tops, heights, strict=False)
    ]
    return GroundTexture(atlas, np.array(levels, np.float32))
