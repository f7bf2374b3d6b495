"""Textured rectangles in the world, projected, sorted and drawn far to near.

All objects in the world are quads, an array (QUAD, N) whose rows are named below. A billboard always
faces the camera, so only its width and height matter. The quad axis is last because NumPy is faster
on that layout.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import cv2
import numpy as np

from daydrive.envs.road.arrays import clamp, cross
from daydrive.envs.road.camera import FAR, NEAR, Lens, Pose
from daydrive.envs.road.ground import GroundView, Terrain, visibility
from daydrive.envs.road.sprites import Sprite
from daydrive.envs.road.weather import Weather

CORNER, RIGHT, DOWN, CENTRE = slice(0, 3), slice(3, 6), slice(6, 9), slice(9, 12)
SPRITE, ORDER, FADE, KIND, QUAD = 12, 13, 14, 15, 16
"""ORDER: within a solid, higher faces are drawn over lower ones. FADE: size (px) below which a quad is not drawn."""
BILLBOARD, WALL, SOLID = 0, 1, 2
"""Walls are sorted by their far end. Faces of a solid are sorted by its centre; back faces are culled."""
SOLID_REACH = 9.0
"""Upper bound (m) of the distance from a solid's centre to any of its faces' points."""
TRANSMITTANCE = np.array([[0, 0, 0, -1, 1]] * 4, np.float32)
"""Maps a premultiplied pixel to 1 - alpha in all channels."""


def quad(
    corner: tuple[float, float, float],
    right: tuple[float, float, float],
    down: tuple[float, float, float],
    image: int,
    fade: float,
    kind: int,
    centre: tuple[float, float, float] | None = None,
    order: float = 0.0,
) -> list[float]:
    """One quad: upper left corner, right edge and downward edge in world metres."""
    if centre is None:
        centre = tuple(c + (r + d) / 2 for c, r, d in zip(corner, right, down, strict=True))  # type: ignore[assignment]
    assert centre is not None
    return [*corner, *right, *down, *centre, image, order, fade, kind]


def billboard(x: float, y: float, z: float, width: float, height: float, image: int, fade: float) -> list[float]:
    """One quad: a sprite that stands on (x, y, z) and faces the camera."""
    return quad((x, y, z + height), (width, 0, 0), (0, 0, -height), image, fade, BILLBOARD, (x, y, z))


def _bounds(corners: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Minimum and maximum image position, each (2, N), of homogeneous corners (4, 3, N), clipped at NEAR.

    Quads that extend behind the camera and lie outside the image get empty bounds.
    """
    depth = corners[:, 2]
    flat = corners[:, :2] / np.maximum(depth, NEAR)[:, None]
    low, high = flat.min(axis=0), flat.max(axis=0)
    cut = np.flatnonzero((depth.min(axis=0) < NEAR) & (depth.max(axis=0) > NEAR))
    if len(cut):
        x, z = corners[:, 0, cut], depth[:, cut]
        outside = (x < 0).all(axis=0) | (x > width * z).all(axis=0)
        high[:, cut[outside]] = -1
        cut = cut[~outside]
    if len(cut):
        corners, depth = corners[:, :, cut], depth[:, cut]
        after = np.roll(corners, -1, axis=0)
        crosses = (depth < NEAR) != (after[:, 2] < NEAR)
        fraction = np.where(crosses, (NEAR - depth) / np.where(crosses, after[:, 2] - depth, 1), 0)[:, None]
        points = np.concatenate([corners, corners + (after - corners) * fraction])
        valid = np.concatenate([depth >= NEAR, crosses])[:, None]
        inside = points[:, :2] / np.maximum(points[:, 2:], NEAR * 0.999)
        low[:, cut] = np.where(valid, inside, np.inf).min(axis=0)
        high[:, cut] = np.where(valid, inside, -np.inf).max(axis=0)
    return low, high


def _project(quads: np.ndarray, pose: Pose, lens: Lens) -> np.ndarray:
    """Homogeneous image coordinates (3, 3, N). First axis: corner, right edge, downward edge of each quad."""
    vectors = quads[:9].reshape(3, 3, -1).copy()
    vectors[0] -= np.array([[pose.x], [pose.y], [pose.z]])
    c, s = math.cos(pose.yaw), math.sin(pose.yaw)
    forward = vectors[:, 0] * c + vectors[:, 1] * s
    right = vectors[:, 1] * c - vectors[:, 0] * s
    billboards = np.flatnonzero(quads[KIND] == BILLBOARD)
    width = quads[3, billboards]
    forward[1, billboards] = 0
    right[1, billboards] = width
    right[0, billboards] -= width / 2
    down = forward * pose.slope - vectors[:, 2]
    vectors[:, 0] = lens.focal * right + lens.cx * forward
    vectors[:, 1] = lens.focal * down + lens.cy * forward
    vectors[:, 2] = forward
    return vectors


def _in_view(quads: np.ndarray, pose: Pose, lens: Lens, limit: float) -> np.ndarray:
    """Coarse culling: quads nearer than `limit` (m) that may be visible, judged by centre and size."""
    c, s = math.cos(pose.yaw), math.sin(pose.yaw)
    forward = quads[9] * c + quads[10] * s - (pose.x * c + pose.y * s)
    right = quads[10] * c - quads[9] * s - (pose.y * c - pose.x * s)
    width_xy = np.abs(quads[3]) + np.abs(quads[4])
    size = width_xy + np.abs(quads[8])
    reach = np.where(quads[KIND] == SOLID, SOLID_REACH, width_xy / 2)
    ahead = (forward > -reach) & (forward < limit) & (np.abs(right) < lens.half_width * forward + 1.3 * reach)
    return quads[:, ahead & (lens.focal * size > quads[FADE] * (forward - reach))]


def visible(
    quads: np.ndarray,
    sprites: list[Sprite],
    sizes: np.ndarray,
    lens: Lens,
    pose: Pose,
    view: GroundView,
    terrain: Terrain,
    weather: Weather,
    haze: np.ndarray,
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, tuple[int, int, int, int], float]]:
    """Select the quads (QUAD, N) to draw, far to near. sizes: (2, P), width and height of each sprite.

    Yields the sprite's image, the matrix from pixels of its bounding box to texels, the colour matrix (4, 4) that
    applies light and haze, the box (left, top, right, bottom) and the row below which nearer terrain hides it.
    """
    limit = min(FAR, 2.4 * weather.sight)
    quads = _in_view(quads, pose, lens, limit)
    solid, upright = quads[KIND] == SOLID, quads[KIND] == BILLBOARD
    o, u, v = _project(quads, pose, lens)
    corners = np.empty((4, *o.shape))
    corners[0], corners[1], corners[3] = o, o + u, o + v
    corners[2] = corners[1] + v
    low, high = _bounds(corners, lens.width)
    extent = high - low
    depth = corners[:, 2]
    nearest, farthest = depth.min(axis=0), depth.max(axis=0)
    size = np.where(quads[KIND] == WALL, extent[1], np.maximum(extent[0], extent[1]))
    normal = cross(u, v)
    facing = (o * normal).sum(axis=0)
    edge = np.array([[lens.width], [lens.height]])
    (x0, y0), (x1, y1) = clamp(np.floor(low), 0, edge), clamp(np.ceil(high) + 1, 0, edge)
    skyline = view.skyline_at(terrain, nearest * 0.9, (x0 + x1) / 2)
    seen = (x1 > x0) & (y1 > y0) & (skyline > y0) & (size > quads[FADE]) & (np.minimum(extent[0], extent[1]) > 0.05)
    seen &= np.where(solid, facing > 1e-3, (np.abs(facing) > 1e-3) & (farthest > NEAR))
    seen &= ~upright | (nearest > NEAR)
    far = np.where(solid, np.hypot(quads[9] - pose.x, quads[10] - pose.y) - 0.01 * quads[ORDER], farthest)
    keep = np.flatnonzero(seen)
    keep = keep[np.argsort(-far[keep], kind="stable")]
    if not len(keep):
        return

    o, u, v, normal, facing = o[:, keep], u[:, keep], v[:, keep], normal[:, keep], facing[keep]
    x0, y0, x1, y1 = x0[keep], y0[keep], x1[keep], y1[keep]
    index = quads[SPRITE, keep].astype(np.intp)
    full_size = sizes[:, index]
    halvings = clamp(
        np.rint(np.log2(full_size / np.maximum(extent[:, keep], 0.5)) - 0.2), 0, np.floor(np.log2(full_size / 2))
    )
    scaled = np.maximum(np.floor(full_size / 2**halvings), 1)

    inverse = np.empty((3, *o.shape))
    inverse[0], inverse[1], inverse[2] = cross(v, o), cross(o, u), normal
    inverse /= facing
    inverse[:, 2] += inverse[:, 0] * x0 + inverse[:, 1] * y0
    inverse[:2] *= scaled[:, None]
    inverse[:2] -= 0.5 * inverse[2]
    to_texel = np.ascontiguousarray(inverse.transpose(2, 0, 1))

    middle = np.maximum((nearest + farthest)[keep] / 2, 1.0)
    strength = clamp((size[keep] / quads[FADE, keep] - 1) / 0.8, 0, 1) * clamp((limit - middle) / 60, 0, 1)
    strength *= clamp((nearest[keep] - NEAR) / 0.6, ~upright[keep], 1)
    clear = visibility(middle, weather.sight)
    light = strength * clear * (1 + 0.9 * weather.lamps * np.exp(-middle / 16))
    mix = np.zeros((len(keep), 4, 4), np.float32)
    mix[:, [0, 1, 2], [0, 1, 2]] = light[:, None] * np.array(weather.light)
    column = np.minimum((x0 + x1) / 2, lens.width - 1).astype(np.intp)
    mix[:, :3, 3] = haze[column, :3] * ((1 - clear) * strength)[:, None]
    mix[:, 3, 3] = strength

    boxes = np.stack([x0, y0, x1, y1]).T.astype(int).tolist()
    scales = halvings.T.astype(int).tolist()
    for n, (i, (a, b), box, cut) in enumerate(zip(index.tolist(), scales, boxes, skyline[keep].tolist(), strict=True)):
        yield sprites[i].scaled(a, b), to_texel[n], mix[n], box, cut


def draw(
    canvas: np.ndarray, drawables: Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, tuple[int, int, int, int], float]]
) -> None:
    """Draw the result of `visible` on the canvas, float32 (H, W, 4), whose fourth channel is scratch."""
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    warp, transform, multiply, add = cv2.warpPerspective, cv2.transform, cv2.multiply, cv2.add
    for image, to_texel, mix, (left, top, right, bottom), cut in drawables:
        last = bottom if cut >= bottom else int(cut) + 1
        patch = transform(warp(image, to_texel, (right - left, last - top), flags=flags), mix)
        if last < bottom or cut < bottom:
            patch[-1] *= cut - int(cut)
        below = canvas[top:last, left:right]
        multiply(below, transform(patch, TRANSMITTANCE), below)
        add(below, patch, below)
