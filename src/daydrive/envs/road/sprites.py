"""The pictures that stand in the world, by name, each with smaller copies for the distance."""

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
"""Leaf colours of the four styles of land in `strip.STYLES`."""
NEEDLES = ((52, 86, 48), (62, 84, 52), (44, 76, 46), (54, 82, 46))
PLASTER = ((226, 212, 182), (214, 216, 214), (204, 168, 130), (178, 92, 72), (236, 230, 210), (160, 150, 140))
TILES = ((150, 72, 52), (92, 84, 84), (126, 60, 46), (78, 70, 66))
TREES = 7


class Image:
    """A premultiplied float32 (h, w, 4) picture and its copies, halved across and down separately as needed."""

    def __init__(self, base: np.ndarray) -> None:
        self.base = np.ascontiguousarray(base, np.float32)
        self.height, self.width = base.shape[:2]
        self._copies: dict[tuple[int, int], np.ndarray] = {(0, 0): self.base}

    def copy(self, across: int, down: int) -> np.ndarray:
        """The picture made 2**across narrower and 2**down lower."""
        found = self._copies.get((across, down))
        if found is None:
            size = (max(self.width >> across, 1), max(self.height >> down, 1))
            found = self._copies[across, down] = cv2.resize(self.base, size, interpolation=cv2.INTER_AREA)
        return found


class Catalogue:
    """Pictures of one style of land, by day or with lamps lit; painted when first asked for."""

    def __init__(self, style: int, lit: bool) -> None:
        self.style, self.lit = style, lit
        self.images: list[Image] = []
        self.index: dict[tuple, int] = {}
        self._sizes = np.zeros((2, 0))

    def find(self, name: str, *keys: int | str | bool) -> int:
        """Index in `pictures` of a picture, for example find('tree', 3) or find('vehicle', 'car', 2, 'rear')."""
        key = (name, *keys)
        if key not in self.index:
            painter: Callable[..., np.ndarray] = getattr(self, f"_{name}")
            image = Image(painter(*keys))
            self.index[key] = len(self.images)
            self.images.append(image)
        return self.index[key]

    def sizes(self) -> np.ndarray:
        """Width and height (2, P) of the pictures so far."""
        if self._sizes.shape[1] != len(self.images):
            self._sizes = np.array([(p.width, p.height) for p in self.images], np.float64).T
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

    def _forest(self, kind: int, needles: bool) -> np.ndarray:
        kinds = (3, 4, 3, 4, 5) if needles else (0, 1, 2, 5, 3)
        return plants.forest_edge(kind, [self.images[self.find("tree", k)].base for k in kinds])

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

    def _wall(self, seed: int, baselines: int) -> np.ndarray:
        return props.house_wall(seed, PLASTER[seed % len(PLASTER)], baselines, self.lit)

    def _gable(self, seed: int, baselines: int) -> np.ndarray:
        return props.house_gable(seed, PLASTER[seed % len(PLASTER)], baselines, self.lit)

    def _roof(self, seed: int) -> np.ndarray:
        return props.roof(seed, TILES[seed % len(TILES)])

    def _vehicle(self, kind: str, paint: int, face: str) -> np.ndarray:
        body, colour = cars.BODIES[kind], cars.PAINTS[paint]
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


@cache  # eight at most; placed scenery keeps indices into them
def catalogue(style: int, lit: bool) -> Catalogue:
    """The pictures of a style of land, shared by every world that uses it."""
    return Catalogue(style, lit)
