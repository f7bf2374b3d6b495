"""Objects beside the road, generated in chunks: a pure function of the seed, the landscape style and the position."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from daydrive.envs.road.camera import FAR
from daydrive.envs.road.noise import hash_uniform
from daydrive.envs.road.quads import QUAD, SOLID, WALL, billboard, quad
from daydrive.envs.road.road import CURVATURE, LENGTH, Road, build_road
from daydrive.envs.road.sprites import TREES, SpriteCatalogue, catalogue

CHUNK = 24
ZONE = 12
"""Length of a zone (forest, farmland, village or open country) in chunks."""
ZONES = (("forest", 0.34), ("farm", 0.30), ("village", 0.18), ("open", 0.18))


def zone_at(seed: int, chunk: int) -> str:
    """The zone of a chunk: a name of `ZONES`."""
    u = hash_uniform(seed, 41, chunk // ZONE)
    for name, probability in ZONES:
        if u < probability:
            return name
        u -= probability
    return ZONES[-1][0]


class _ChunkBuilder:
    """Collects the quads of one chunk; offsets from the centreline are positive to the right."""

    def __init__(self, road: Road, sprites: SpriteCatalogue, chunk: int) -> None:
        self.road, self.sprites, self.chunk = road, sprites, chunk
        self.start = chunk * CHUNK
        self.rng = np.random.default_rng([road.seed, 43, chunk])
        self.rows: list[list[float]] = []

    def world_position(self, s: float, d: float) -> tuple[float, float, float]:
        x, y = self.road.world(s, d)
        return x, y, self.road.ground(s, d)

    def add_billboard(self, s: float, d: float, height: float, sprite: int, fade: float = 2.0) -> None:
        image = self.sprites.sprites[sprite]
        x, y, z = self.world_position(s, d)
        width = height * image.width / image.height
        self.rows.append(billboard(x, y, z - 0.02 * height, width, height * 1.02, sprite, fade))

    def add_tree(self, s: float, d: float, kinds: tuple[int, ...], scale: float = 1.0) -> None:
        kind = int(self.rng.choice(kinds))
        height = (7.5, 8.5, 7.0, 11.0, 9.0, 8.5, 11.0)[kind] * self.rng.uniform(0.75, 1.2) * scale
        self.add_billboard(s, d, height, self.sprites.find("tree", kind), 3.0)

    def add_bush(self, s: float, d: float) -> None:
        self.add_billboard(s, d, self.rng.uniform(1.1, 2.2), self.sprites.find("bush", int(self.rng.integers(4))), 2.0)

    def add_wall(self, s0: float, s1: float, d: float, height: float, sprite: int, fade: float) -> None:
        """Add a wall, fence or rail along the road."""
        if d > 0:
            s0, s1 = s1, s0
        a, b = self.world_position(s0, d), self.world_position(s1, d)
        right = (b[0] - a[0], b[1] - a[1], b[2] - a[2])
        self.rows.append(quad((a[0], a[1], a[2] + height), right, (0, 0, -height), sprite, fade, WALL))

    def add_house(self, s: float, d: float, turned: bool) -> None:
        seed, storeys = int(self.rng.integers(12)), 1 + int(self.rng.random() < 0.45)
        length, depth, rise = 10.5 * self.rng.uniform(0.9, 1.25), 8.0, 3.0
        high, eaves = 2.9 * storeys, 0.45
        heading = self.road.heading_at(s) + (math.pi / 2 if turned else 0.0)
        x, y, z = self.world_position(s, d)
        z -= 0.15
        c, sn = math.cos(heading), math.sin(heading)

        def turn(v: tuple[float, float, float]) -> tuple[float, float, float]:
            return (v[0] * c - v[1] * sn, v[0] * sn + v[1] * c, v[2])

        wall, gable = self.sprites.find("wall", seed, storeys), self.sprites.find("gable", seed, storeys)
        tiles = self.sprites.find("roof", seed)
        a, b, top, slope = length / 2, depth / 2, high + rise, (depth / 2 + eaves) / (depth / 2)
        faces = (
            ((-a, b, high), (length, 0, 0), (0, 0, -high), wall, 1),
            ((a, -b, high), (-length, 0, 0), (0, 0, -high), wall, 1),
            ((a, b, top), (0, -depth, 0), (0, 0, -top), gable, 1),
            ((-a, -b, top), (0, depth, 0), (0, 0, -top), gable, 1),
            ((-a - eaves, 0, top + 0.1), (length + 2 * eaves, 0, 0), (0, b * slope, -rise * slope), tiles, 2),
            ((a + eaves, 0, top + 0.1), (-length - 2 * eaves, 0, 0), (0, -b * slope, -rise * slope), tiles, 2),
        )
        for corner, right, down, sprite, order in faces:
            offset = turn(corner)
            corner = (offset[0] + x, offset[1] + y, offset[2] + z)
            self.rows.append(quad(corner, turn(right), turn(down), sprite, 1.5, SOLID, (x, y, z + high / 2), order))


def _add_forest(p: _ChunkBuilder) -> None:
    conifers = hash_uniform(p.road.seed, 47, p.chunk // ZONE) < 0.45
    kinds = (3, 4, 3, 4, 5) if conifers else (0, 1, 2, 5, 3)
    for side in (-1, 1):
        sprite = p.sprites.find("forest", int(p.rng.integers(3)), conifers)
        p.add_wall(p.start - 0.3, p.start + CHUNK + 0.3, side * 17.5, 9.5, sprite, 3.0)
        for k in range(2):
            if p.rng.random() < 0.75:
                p.add_tree(p.start + 12 * k + p.rng.uniform(0, 11), side * p.rng.uniform(9.5, 15.0), kinds)
        if p.rng.random() < 0.7:
            p.add_bush(p.start + p.rng.uniform(0, CHUNK), side * p.rng.uniform(7.6, 10))


def _add_farm(p: _ChunkBuilder) -> None:
    poles = 1 if hash_uniform(p.road.seed, 53, p.chunk // ZONE) < 0.5 else -1
    if p.chunk % 2 == 0:
        p.add_billboard(p.start + 3, poles * 10.5, 8.5, p.sprites.find("pole"), 3.0)
    for side in (-1, 1):
        if hash_uniform(p.road.seed, 59, side + 1, p.chunk // 4) < 0.45:
            for k in range(2):
                p.add_wall(p.start + 12 * k, p.start + 12 * k + 12, side * 8.3, 1.25, p.sprites.find("fence"), 2.0)
        if p.rng.random() < 0.6:
            p.add_tree(p.start + p.rng.uniform(0, CHUNK), side * p.rng.uniform(10, 16), (0, 1, 2, 6))
        if p.rng.random() < 0.35:
            p.add_bush(p.start + p.rng.uniform(0, CHUNK), side * p.rng.uniform(9, 13))
        if p.rng.random() < 0.7:
            p.add_tree(p.start + p.rng.uniform(0, CHUNK), side * p.rng.uniform(22, 75), (0, 1, 2, 3), 1.15)
        if p.rng.random() < 0.10:
            p.add_house(p.start + 12, side * p.rng.uniform(24, 45), bool(p.rng.random() < 0.5))


def _add_village(p: _ChunkBuilder) -> None:
    for side in (-1, 1):
        if p.rng.random() < 0.75:
            p.add_house(
                p.start + 12 + p.rng.uniform(-2, 2), side * p.rng.uniform(14.5, 19), bool(p.rng.random() < 0.35)
            )
        if p.rng.random() < 0.5:
            p.add_tree(p.start + p.rng.choice((0.5, 23.0)), side * p.rng.uniform(9.5, 13), (0, 1, 2, 5, 6), 0.8)
        for k in range(2):
            if p.rng.random() < 0.5:
                p.add_bush(p.start + 12 * k + p.rng.uniform(0, 10), side * p.rng.uniform(8, 9.5))
        if p.rng.random() < 0.6:
            p.add_tree(p.start + p.rng.uniform(0, CHUNK), side * p.rng.uniform(28, 60), (0, 1, 2, 3), 1.2)
    side = 1 if p.chunk % 2 else -1
    s, d = p.start + 6.0, side * 6.6
    p.add_billboard(s, d, 6.5, p.sprites.find("lamp", side < 0), 2.0)
    if p.sprites.lit:
        x, y, z = p.world_position(s, d - side * 1.0)
        p.rows.append(billboard(x, y, z + 4.9, 2.8, 2.8, p.sprites.find("glow", 0), 1.0))


def _add_open(p: _ChunkBuilder) -> None:
    for side in (-1, 1):
        for _ in range(2):
            p.add_tree(p.start + p.rng.uniform(0, CHUNK), side * (9 + 70 * p.rng.random() ** 1.5), tuple(range(TREES)))
        if p.rng.random() < 0.6:
            p.add_bush(p.start + p.rng.uniform(0, CHUNK), side * p.rng.uniform(8, 20))


def _add_roadside(p: _ChunkBuilder) -> None:
    """Add posts, signs, grass tufts, and rails and chevrons on the outside of bends."""
    zone = zone_at(p.road.seed, p.chunk)
    bend = float(p.road.samples[min(p.start + 12, LENGTH - 1), CURVATURE])
    outside = -1 if bend > 0 else 1
    railed = abs(bend) > 1 / 160
    if zone != "village":
        for side in (-1, 1):
            if not (railed and side == outside):
                p.add_billboard(p.start + 1.0, side * 4.75, 1.05, p.sprites.find("delineator"), 1.6)
    if railed:
        for k in range(3):
            p.add_wall(p.start + 8 * k, p.start + 8 * k + 8.02, outside * 4.9, 0.78, p.sprites.find("rail"), 1.2)
    if abs(bend) > 1 / 140:
        for k in range(2):
            p.add_billboard(p.start + 12 * k + 2, outside * 6.0, 1.7, p.sprites.find("chevron", outside < 0), 1.6)
    zone_start = p.chunk % ZONE == 0
    u = p.rng.random()
    if zone_start and zone == "village":
        p.add_billboard(p.start + 4, 6.2, 2.1, p.sprites.find("board", 0), 1.6)
        p.add_billboard(p.start + 14, 5.4, 2.5, p.sprites.find("limit", "50"), 1.6)
    elif u < 0.10 and not railed:
        p.add_billboard(p.start + 10, 5.4, 2.5, p.sprites.find("limit", ("70", "80", "100", "30")[int(u * 40)]), 1.6)
    elif u < 0.17 and not railed:
        p.add_billboard(p.start + 10, 5.4, 2.6, p.sprites.find("warning"), 1.6)
    elif u < 0.20:
        p.add_billboard(p.start + 10, 6.4, 2.3, p.sprites.find("board", 1), 1.6)
    for _ in range(4):
        side = 1 if p.rng.random() < 0.5 else -1
        s, d = p.start + p.rng.uniform(0, CHUNK), side * p.rng.uniform(5.6, 8.2)
        p.add_billboard(s, d, p.rng.uniform(0.35, 0.7), p.sprites.find("tuft", int(p.rng.integers(2))), 4.0)


ZONE_BUILDERS = {"forest": _add_forest, "farm": _add_farm, "village": _add_village, "open": _add_open}


@lru_cache(maxsize=512)
def _chunk(seed: int, style: int, lit: bool, chunk: int) -> np.ndarray:
    builder = _ChunkBuilder(build_road(seed), catalogue(style, lit), chunk)
    ZONE_BUILDERS[zone_at(seed, chunk)](builder)
    _add_roadside(builder)
    return np.array(builder.rows, np.float64).reshape(-1, QUAD).T


@lru_cache(maxsize=16)
def _chunks_around(seed: int, style: int, lit: bool, middle: int) -> np.ndarray:
    reach = math.ceil(FAR / CHUNK) + 1
    first, last = max(middle - reach, 0), min(middle + reach, LENGTH // CHUNK - 1)
    return np.concatenate([_chunk(seed, style, lit, chunk) for chunk in range(first, last + 1)], axis=1)


def scenery(seed: int, style: int, lit: bool, s: float) -> np.ndarray:
    """Quads (QUAD, N) of all objects within viewing distance of arc length s (m), in both directions."""
    return _chunks_around(seed, style, lit, int(s) // CHUNK)
