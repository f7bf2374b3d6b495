"""The 360-degree panorama: sky, clouds, sun, mountains and the tree line on the horizon."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from daydrive.envs.road.noise import fractal, smooth_noise
from daydrive.envs.road.weather import Weather

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
