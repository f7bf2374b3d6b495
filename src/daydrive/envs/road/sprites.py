"""The sprites of all objects in the world, by name, with mipmaps."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import cv2
import numpy as np

from daydrive.envs.road import cars, plants, props

GREENS: tuple[tuple[tuple[int, int, int], ...], ...] = (
    ((92, 128, 52), (78, 116, 50), (112, 138, 56), (124, 142, 62)),
    ((116, 124, 56), (102, 116, 54), (136, 132, 62), (128, 130, 60)),
    ((66, 104, 46), (74, 112, 48), (58, 96, 46), (98, 124, 54)),
    ((184, 112, 38), (168, 84, 36), (196, 150, 50), (142, 126, 54)),
)
"""Leaf colours of the four landscape styles in `strip.STYLES`."""
NEEDLES = ((52, 86, 48), (62, 84, 52), (44, 76, 46), (54, 82, 46))
PLASTER = ((226, 212, 182), (214, 216, 214), (204, 168, 130), (178, 92, 72), (236, 230, 210), (160, 150, 140))
TILES = ((150, 72, 52), (92, 84, 84), (126, 60, 46), (78, 70, 66))
TREES = 7


class Sprite:
    """A premultiplied float32 (h, w, 4) image and its anisotropic mipmaps, computed on demand."""

    def __init__(self, base: np.ndarray) -> None:
        self.base = np.ascontiguousarray(base, np.float32)
        self.height, self.width = base.shape[:2]
        self._mipmaps: dict[tuple[int, int], np.ndarray] = {(0, 0): self.base}

    def scaled(self, across: int, down: int) -> np.ndarray:
        """The image with its width divided by 2**across and its height by 2**down."""
        mipmap = self._mipmaps.get((across, down))
        if mipmap is None:
            size = (max(self.width >> across, 1), max(self.height >> down, 1))
            mipmap = self._mipmaps[across, down] = cv2.resize(self.base, size, interpolation=cv2.INTER_AREA)
        return mipmap


class SpriteCatalogue:
    """Sprites of one landscape style, in daylight or with lamps lit; generated on first use."""

    def __init__(self, style: int, lit: bool) -> None:
        self.style, self.lit = style, lit
        self.sprites: list[Sprite] = []
        self.index: dict[tuple, int] = {}
        self._sizes = np.zeros((2, 0))

    def find(self, name: str, *keys: int | str | bool) -> int:
        """Index into `sprites` of a sprite, for example find('tree', 3) or find('vehicle', 'car', 2, 'rear')."""
        key = (name, *keys)
        if key not in self.index:
            painter: Callable[..., np.ndarray] = getattr(self, f"_{name}")
            sprite = Sprite(painter(*keys))
            self.index[key] = len(self.sprites)
            self.sprites.append(sprite)
        return self.index[key]

    def sizes(self) -> np.ndarray:
        """Width and height (2, P) of the sprites generated so far."""
        if self._sizes.shape[1] != len(self.sprites):
            self._sizes = np.array([(p.width, p.height) for p in self.sprites], np.float64).T
        return self._sizes

    def _tree(self, kind: int) -> np.ndarray:
        greens = GREENS[self.style]
        if kind < 3:
            return plants.broadleaf(kind, greens[kind])
        if kind < 5:
            return plants.conifer(kind, NEEDLES[self.style])
        return plants.birch(kind, greens[3]) if kind == 5 else plants.broadleaf(kind, greens[1], 0.36)

    def _bush(self, kind: int) -> np.ndarray:
        return plants.bush(kind, GREENS[self.style][kind % 4])

    def _tuft(self, kind: int) -> np.ndarray:
        return plants.grass_tuft(kind, ((128, 136, 66), (168, 156, 88))[kind % 2])

    def _forest(self, kind: int, conifers: bool) -> np.ndarray:
        kinds = (3, 4, 3, 4, 5) if conifers else (0, 1, 2, 5, 3)
        return plants.forest_edge(kind, [self.sprites[self.find("tree", k)].base for k in kinds])

    def _limit(self, text: str) -> np.ndarray:
        return props.round_sign(text)

    def _warning(self) -> np.ndarray:
        return props.warning_sign()

    def _board(self, kind: int) -> np.ndarray:
        return props.board_sign(*(((236, 196, 44), (20, 20, 20)), ((34, 84, 156), (236, 238, 240)))[kind])

    def _chevron(self, right: bool) -> np.ndarray:
        return props.chevron(right)

    def _delineator(self) -> np.ndarray:
        return props.delineator()

    def _lamp(self, mirrored: bool) -> np.ndarray:
        lamp = props.street_lamp(self.lit)
        return lamp[:, ::-1] if mirrored else lamp

    def _glow(self, kind: int) -> np.ndarray:
        return props.glow(((520, 430, 260), (420, 400, 340), (380, 30, 20))[kind])

    def _pole(self) -> np.ndarray:
        return props.power_pole()

    def _rail(self) -> np.ndarray:
        return props.guard_rail()

    def _fence(self) -> np.ndarray:
        return props.fence()

    def _wall(self, seed: int, storeys: int) -> np.ndarray:
        return props.house_wall(seed, PLASTER[seed % len(PLASTER)], storeys, self.lit)

    def _gable(self, seed: int, storeys: int) -> np.ndarray:
        return props.house_gable(seed, PLASTER[seed % len(PLASTER)], storeys, self.lit)

    def _roof(self, seed: int) -> np.ndarray:
        return props.roof(seed, TILES[seed % len(TILES)])

    def _vehicle(self, kind: str, colour_index: int, face: str) -> np.ndarray:
        body, colour = cars.BODIES[kind], cars.BODY_COLOURS[colour_index]
        if face == "shadow":
            return cars.shadow_face()
        if face in ("right", "left"):
            side = cars.side_face(body, colour, kind)
            return side if face == "right" else side[:, ::-1]
        if face in ("rear", "braking", "front"):
            return cars.end_face(body, colour, face == "front", face == "braking", self.lit)
        if face in ("windscreen", "rear_window"):
            return cars.window_face(body, colour)
        return cars.flat_face(colour, 1.12 if face == "roof" else 1.04)


@cache  # at most eight; cached scenery holds indices into them
def catalogue(style: int, lit: bool) -> SpriteCatalogue:
    """The sprites of a landscape style, shared by all worlds that use it."""
    return SpriteCatalogue(style, lit)
