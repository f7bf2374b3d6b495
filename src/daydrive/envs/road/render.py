"""Rendering of one frame: sky, ground, then objects from far to near."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from daydrive.envs.road import cars
from daydrive.envs.road.camera import Lens, Pose
from daydrive.envs.road.ground import GroundView
from daydrive.envs.road.noise import fractal, smooth_noise
from daydrive.envs.road.quads import (
    CENTRE,
    CORNER,
    DOWN,
    FADE,
    KIND,
    ORDER,
    QUAD,
    RIGHT,
    SOLID,
    SPRITE,
    billboard,
    draw,
    visible,
)
from daydrive.envs.road.road import Road, build_road
from daydrive.envs.road.scenery import scenery
from daydrive.envs.road.sprites import SpriteCatalogue, catalogue
from daydrive.envs.road.strip import build_texture
from daydrive.envs.road.traffic import TrafficVehicle
from daydrive.envs.road.weather import WEATHERS, Weather

DENSITY = 180
"""Resolution of the generated panorama in pixels per radian."""
MIN_ELEVATION, MAX_ELEVATION = math.radians(-14), math.radians(52)
WIDTH = round(2 * math.pi * DENSITY)
HEIGHT = round((MAX_ELEVATION - MIN_ELEVATION) * DENSITY)


@dataclass(frozen=True, eq=False)
class Panorama:
    """image: float32 (HEIGHT, WIDTH, 3), highest elevation first; haze: float32 (WIDTH, 3), haze colour by azimuth."""

    image: np.ndarray
    haze: np.ndarray


def paint_panorama(seed: int, weather: Weather) -> Panorama:
    """Generate the panorama of a seed in a weather."""
    rng = np.random.default_rng([seed, 2])
    elevation = MAX_ELEVATION - (np.arange(HEIGHT, dtype=np.float32) + 0.5) / DENSITY
    azimuth = (np.arange(WIDTH, dtype=np.float32) + 0.5) / DENSITY
    zenith, haze = np.array(weather.zenith, np.float32), np.array(weather.haze, np.float32)
    sun_azimuth = rng.uniform(-1.2, 1.2)
    sun_height = math.radians(rng.uniform(2, 6) if weather.lamps > 0.9 else rng.uniform(18, 38))

    around = np.cos(azimuth - sun_azimuth)
    warmth = weather.sun * weather.lamps
    haze_row = haze * (1 - 0.45 * warmth * (0.5 - 0.5 * around)[:, None])
    haze_row[:, 2] += 40 * warmth * (0.5 - 0.5 * around)
    falloff = np.exp(-np.maximum(elevation, 0) / (0.20 if warmth else 0.26))[:, None, None]
    sky = zenith + (haze_row[None] - zenith) * falloff

    up = np.maximum(np.sin(elevation), 0.05)[:, None]
    cells = 26
    flat = fractal(rng, 512, 2048, 8, cells, 5)
    x = np.broadcast_to(azimuth[None] / (2 * math.pi) * 2048, (HEIGHT, WIDTH)).astype(np.float32)
    y = np.broadcast_to((256 - 210 * np.log(up + 0.07)) % 512, (HEIGHT, WIDTH)).astype(np.float32)
    clouds = cv2.remap(flat, x, np.ascontiguousarray(y), cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    density = np.clip((clouds - (0.68 - 0.42 * weather.cover)) * 5.5, 0, 1) * np.clip(up * 5 - 0.30, 0, 1)
    shade = 1 - 0.20 * np.clip((clouds - 0.5) * 3, 0, 1)
    sky += (np.array(weather.cloud, np.float32) * shade[:, :, None] - sky) * (0.85 * density)[:, :, None]

    if weather.sun:
        cosine = np.cos(elevation - sun_height)[:, None] + np.cos(elevation)[:, None] * (around[None] - 1) * 0.9
        angle = np.arccos(np.clip(cosine, -1, 1))
        glow = weather.sun * (0.6 * np.exp(-angle / 0.16) + 1.2 * np.exp(-((angle / 0.045) ** 2)))
        sky += (
            (np.array((255, 238, 205), np.float32) - sky)
            * np.clip(glow, 0, 1)[:, :, None]
            * (1 - 0.6 * density[:, :, None])
        )

    clearness = min(weather.sight / 300, 1.0) ** 2
    light = np.array(weather.light, np.float32)
    layers = (
        (7, 5, rng.uniform(2.5, 11), 0.45, (96, 112, 138), 0.55),
        (13, 4, rng.uniform(1.8, 4.5), 0.4, (84, 108, 92), 0.70),
        (40, 4, 1.5, 0.5, (58, 84, 50), 0.85),
    )
    below = (elevation < math.radians(0.2))[:, None]
    for cells, octaves, top, base, colour, strength in layers:
        ridge = fractal(rng, 1, WIDTH, 1, cells, octaves)[0]
        height = np.radians(top) * np.clip((ridge - 0.5) * 2.2 + base, 0.12, 1.2)
        cover = np.clip((height[None] - elevation[:, None]) * DENSITY + 0.5, 0, 1)
        depth = np.clip((height[None] - elevation[:, None]) / np.radians(top), 0, 1)
        tone = strength * clearness * (1 - 0.45 * depth)
        texture = 0.9 + 0.2 * smooth_noise(rng, HEIGHT, WIDTH, 90, 320)
        target = np.array(colour, np.float32) * light * texture[:, :, None]
        sky += (haze_row[None] + (target - haze_row[None]) * tone[:, :, None] - sky) * cover[:, :, None]
    sky = np.where(below[:, :, None], haze_row[None], sky)
    return Panorama(np.clip(sky, 0, 255).astype(np.float32), np.clip(haze_row, 0, 255).astype(np.float32))


TILT = 0.16
"""Maximum camera slope (rise per metre) supported."""


@lru_cache(maxsize=8)
def _panorama(seed: int, weather: str, focal: float) -> Panorama:
    """The panorama of a seed at the resolution of the image, with a fourth scratch channel as in all canvases."""
    full = paint_panorama(seed, WEATHERS[weather])
    height, width = full.image.shape[:2]
    size = (round(2 * math.pi * focal), round(height * focal / DENSITY))
    if size[0] < width:
        image = cv2.resize(full.image, size, interpolation=cv2.INTER_AREA)
        haze = cv2.resize(full.haze[None], (size[0], 1), interpolation=cv2.INTER_AREA)
        full = Panorama(image, haze[0])
    rgba = cv2.COLOR_RGB2RGBA
    return Panorama(cv2.cvtColor(full.image, rgba), cv2.cvtColor(full.haze[None], rgba)[0])


class SkyView:
    """Renders the panorama for one lens."""

    def __init__(self, lens: Lens) -> None:
        self.lens = lens
        u = (np.arange(lens.width) - lens.cx) / lens.focal
        self.azimuth = np.arctan(u)
        self.pad = math.ceil(TILT * lens.focal) + 2
        rows = np.arange(-self.pad, lens.height + self.pad)
        self.elevation = np.arctan((lens.cy - rows)[:, None] / lens.focal * np.cos(self.azimuth)[None]).astype(
            np.float32
        )

    def haze(self, panorama: Panorama, yaw: float) -> np.ndarray:
        """Haze colour per image column, float32 (W, 4)."""
        width = len(panorama.haze)
        column = (self.azimuth + yaw) * (width / (2 * math.pi))
        return panorama.haze[np.floor(column).astype(np.intp) % width]

    def draw(self, canvas: np.ndarray, panorama: Panorama, pose: Pose, bottom: int) -> None:
        """Fill rows [0, bottom) of the canvas."""
        height, width = panorama.image.shape[:2]
        shift = min(max(self.lens.focal * pose.slope, -self.pad + 1.0), self.pad - 1.0)
        first = self.pad - shift
        i, fraction = int(first), np.float32(first - int(first))
        low, high = self.elevation[i : i + bottom], self.elevation[i + 1 : i + 1 + bottom]
        scale = np.float32(height / (MAX_ELEVATION - MIN_ELEVATION))
        y = (np.float32(MAX_ELEVATION) - (low + (high - low) * fraction)) * scale - np.float32(0.5)
        column = ((self.azimuth + pose.yaw) * (width / (2 * math.pi))) % width - 0.5
        x = np.repeat(column.astype(np.float32)[None], bottom, axis=0)
        np.clip(y, 0, height - 1, out=y)
        canvas[:bottom] = cv2.remap(panorama.image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)


@lru_cache(maxsize=64)
def _vehicle_template(
    sprites: SpriteCatalogue, kind: str, colour_index: int, braking: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Faces of a vehicle at the origin and the glow of its lamps, each as quads (QUAD, N)."""
    faces = np.zeros((QUAD, len(cars.faces(kind))))
    for order, (face, corner, right, down) in enumerate(cars.faces(kind)):
        face_name = {"boot": "bonnet", "rear": "braking" if braking else "rear"}.get(face, face)
        faces[CORNER, order], faces[RIGHT, order], faces[DOWN, order] = corner, right, down
        faces[SPRITE, order], faces[ORDER, order] = sprites.find("vehicle", kind, colour_index, face_name), order
    faces[FADE], faces[KIND] = 0.5, SOLID
    body, lights = cars.BODIES[kind], []
    for end, glow, lit in ((1, 1, sprites.lit), (-1, 2, sprites.lit or braking)):
        for side in (-0.35, 0.35) if lit else ():
            position = (end * (body.length / 2 + 0.1), side * body.width, 0.2)
            lights.append(billboard(*position, 0.9, 0.9, sprites.find("glow", glow), 0.8))
    return faces, np.array(lights).reshape(-1, QUAD).T


def vehicle_quads(other: TrafficVehicle, road: Road, sprites: SpriteCatalogue) -> np.ndarray:
    """Quads (QUAD, N) of a vehicle at its position on the road."""
    x, y = road.world(other.s, other.d)
    z = road.ground(other.s, other.d)
    drift_angle = math.atan2(other.drift, max(other.speed, 3.0))
    heading = road.heading_at(other.s) + (drift_angle if other.direction > 0 else math.pi - drift_angle)
    slope = (road.ground(other.s + 1.5, other.d) - road.ground(other.s - 1.5, other.d)) / 3 * other.direction
    c, s = math.cos(heading), math.sin(heading)
    turn = np.array([[c, -s, 0], [s, c, 0], [slope, 0, 1]])
    position = np.array([[x], [y], [z]])
    faces, lights = (
        block.copy() for block in _vehicle_template(sprites, other.kind, other.colour_index, other.acceleration < -0.7)
    )
    for block in (CORNER, RIGHT, DOWN):
        faces[block] = turn @ faces[block]
    faces[CORNER] += position
    faces[CENTRE] = position
    lights[CENTRE] = turn @ lights[CENTRE] + position
    lights[CORNER] = lights[CENTRE] - lights[DOWN]
    return np.concatenate([faces, lights], axis=1)


LENS_BLUR = 0.55
"""Standard deviation (px) of the point spread function of lens and sensor; it prevents aliased edges."""


class Renderer:
    """Renders frames for one lens. Stateless with respect to the output: the same arguments give the same bytes."""

    def __init__(self, lens: Lens) -> None:
        cv2.setNumThreads(1)
        self.lens = lens
        self.sky, self.ground = SkyView(lens), GroundView(lens)

    def render(
        self, seed: int, style: int, weather_name: str, pose: Pose, s: float, others: list[TrafficVehicle]
    ) -> np.ndarray:
        """Render a frame, uint8 (H, W, 3) RGB, from a pose near arc length s (m). style: index into `STYLES`."""
        weather = WEATHERS[weather_name]
        panorama = _panorama(seed, weather_name, self.lens.focal)
        haze = self.sky.haze(panorama, pose.yaw)
        road = build_road(seed)
        terrain = self.ground.trace(road, s, pose)
        canvas = np.empty((self.lens.height, self.lens.width, 4), np.float32)
        bottom = min(max(math.ceil(float(terrain.skyline[-1].max())) + 2, 1), self.lens.height)
        self.sky.draw(canvas, panorama, pose, bottom)
        self.ground.draw(canvas, terrain, build_texture(style), weather, haze, s)
        sprites = catalogue(style, weather.lamps > 0)
        quads = scenery(seed, style, weather.lamps > 0, s)
        facing = math.cos(pose.yaw - road.heading_at(s))
        limit = 2.4 * weather.sight
        ahead = [o for o in others if abs(o.s - s) < limit and ((o.s - s) * facing > -15 or abs(facing) < 0.3)]
        if ahead:
            quads = np.concatenate([quads, *(vehicle_quads(other, road, sprites) for other in ahead)], axis=1)
        draw(
            canvas,
            visible(quads, sprites.sprites, sprites.sizes(), self.lens, pose, self.ground, terrain, weather, haze),
        )
        image = cv2.cvtColor(cv2.convertScaleAbs(canvas), cv2.COLOR_RGBA2RGB)
        return cv2.GaussianBlur(image, (3, 3), LENS_BLUR).astype(np.uint8, copy=False)
