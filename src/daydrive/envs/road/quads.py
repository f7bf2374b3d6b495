"""Flat pictures in space: rectangles of the world, projected, sorted and drawn far to near.

Everything that stands in the world is a list of quads, an array (QUAD, N) whose rows are named
below. A billboard always faces the camera: only its width and height count. Arrays here have the
quads last, which is what NumPy is fast at.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import cv2
import numpy as np

from daydrive.envs.road.arrays import clamp, cross
from daydrive.envs.road.camera import FAR, NEAR, Lens, Pose
from daydrive.envs.road.ground import GroundView, Land, visibility
from daydrive.envs.road.sprites import Image
from daydrive.envs.road.weather import Weather

CORNER, RIGHT, DOWN, CENTRE = slice(0, 3), slice(3, 6), slice(6, 9), slice(9, 12)
PICTURE, ORDER, FADE, KIND, QUAD = 12, 13, 14, 15, 16
"""ORDER: within a solid, later faces are drawn over earlier ones. FADE: size (px) below which it is not drawn."""
BILLBOARD, WALL, SOLID = 0, 1, 2
"""A wall is sorted by its far end; faces of a solid by its centre, and only those turned to the camera are drawn."""
SOLID_REACH = 9.0
"""No face of a solid extends farther (m) than this from the solid's centre."""
THROUGH = np.array([[0, 0, 0, -1, 1]] * 4, np.float32)
"""From a premultiplied pixel to the share of what lies behind it, in all channels."""


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
    """One quad: a picture that stands on (x, y, z) and faces the camera."""
    return quad((x, y, z + height), (width, 0, 0), (0, 0, -height), image, fade, BILLBOARD, (x, y, z))


def _bounds(corners: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Smallest and largest picture position, each (2, N), of homogeneous corners (4, 3, N), cut at NEAR.

    Those that reach behind the camera but leave the picture at its sides get empty bounds.
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
        share = np.where(crosses, (NEAR - depth) / np.where(crosses, after[:, 2] - depth, 1), 0)[:, None]
        points = np.concatenate([corners, corners + (after - corners) * share])
        valid = np.concatenate([depth >= NEAR, crosses])[:, None]
        inside = points[:, :2] / np.maximum(points[:, 2:], NEAR * 0.999)
        low[:, cut] = np.where(valid, inside, np.inf).min(axis=0)
        high[:, cut] = np.where(valid, inside, -np.inf).max(axis=0)
    return low, high


def _place(quads: np.ndarray, pose: Pose, lens: Lens) -> np.ndarray:
    """Homogeneous picture coordinates (3, 3, N): first index corner, right edge, downward edge of each quad."""
    vectors = quads[:9].reshape(3, 3, -1).copy()
    vectors[0] -= np.array([[pose.x], [pose.y], [pose.z]])
    c, s = math.cos(pose.yaw), math.sin(pose.yaw)
    forward = vectors[:, 0] * c + vectors[:, 1] * s
    right = vectors[:, 1] * c - vectors[:, 0] * s
    turned = np.flatnonzero(quads[KIND] == BILLBOARD)
    width = quads[3, turned]
    forward[1, turned] = 0
    right[1, turned] = width
    right[0, turned] -= width / 2
    down = forward * pose.slope - vectors[:, 2]
    vectors[:, 0] = lens.focal * right + lens.cx * forward
    vectors[:, 1] = lens.focal * down + lens.cy * forward
    vectors[:, 2] = forward
    return vectors


def _in_view(quads: np.ndarray, pose: Pose, lens: Lens, limit: float) -> np.ndarray:
    """Quads nearer than `limit` (m) that may be seen, judged by their centre and size alone."""
    c, s = math.cos(pose.yaw), math.sin(pose.yaw)
    forward = quads[9] * c + quads[10] * s - (pose.x * c + pose.y * s)
    right = quads[10] * c - quads[9] * s - (pose.y * c - pose.x * s)
    wide = np.abs(quads[3]) + np.abs(quads[4])
    size = wide + np.abs(quads[8])
    reach = np.where(quads[KIND] == SOLID, SOLID_REACH, wide / 2)
    ahead = (forward > -reach) & (forward < limit) & (np.abs(right) < lens.spread * forward + 1.3 * reach)
    return quads[:, ahead & (lens.focal * size > quads[FADE] * (forward - reach))]


def visible(
    quads: np.ndarray,
    images: list[Image],
    sizes: np.ndarray,
    lens: Lens,
    pose: Pose,
    view: GroundView,
    land: Land,
    weather: Weather,
    haze: np.ndarray,
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, tuple[int, int, int, int], float]]:
    """What of the quads (QUAD, N) is to be drawn, far to near. sizes: (2, P), width and height of each picture.

    Yields a picture, the matrix from pixels of its box to the picture's texels, the mixing of its colours with
    haze (4, 4), its box (left, top, right, bottom) and the row below which nearer land hides it.
    """
    limit = min(FAR, 2.4 * weather.sight)
    quads = _in_view(quads, pose, lens, limit)
    solid, upright = quads[KIND] == SOLID, quads[KIND] == BILLBOARD
    o, u, v = _place(quads, pose, lens)
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
    skyline = view.skyline_at(land, nearest * 0.9, (x0 + x1) / 2)
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
    index = quads[PICTURE, keep].astype(np.intp)
    full = sizes[:, index]
    smaller = clamp(np.rint(np.log2(full / np.maximum(extent[:, keep], 0.5)) - 0.2), 0, np.floor(np.log2(full / 2)))
    scaled = np.maximum(np.floor(full / 2**smaller), 1)

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
    copies = smaller.T.astype(int).tolist()
    for n, (i, (a, b), box, cut) in enumerate(zip(index.tolist(), copies, boxes, skyline[keep].tolist(), strict=True)):
        yield images[i].copy(a, b), to_texel[n], mix[n], box, cut


def draw(
    canvas: np.ndarray, parts: Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, tuple[int, int, int, int], float]]
) -> None:
    """Draw what `visible` gives on the canvas, float32 (H, W, 4) whose fourth channel is scratch."""
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    warp, transform, multiply, add = cv2.warpPerspective, cv2.transform, cv2.multiply, cv2.add
    for image, to_texel, mix, (left, top, right, bottom), cut in parts:
        last = bottom if cut >= bottom else int(cut) + 1
        patch = transform(warp(image, to_texel, (right - left, last - top), flags=flags), mix)
        if last < bottom or cut < bottom:
            patch[-1] *= cut - int(cut)
        below = canvas[top:last, left:right]
        multiply(below, transform(patch, THROUGH), below)
        add(below, patch, below)
