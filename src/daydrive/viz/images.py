"""Labelled sheets of frames, the driver's action as a steering wheel and pedals, and writing PNG, MP4 and GIF.

An image is uint8 (H, W, 3) RGB. Colours also differ in lightness, so that sheets stay readable in greyscale.
"""

from __future__ import annotations

import functools
import io
import os
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont
from torch import Tensor

from daydrive.errors import UserError
from daydrive.files import atomic_replace
from daydrive.types import Image, to_uint8

Colour = tuple[int, int, int]
Images = npt.NDArray[np.uint8]

INK, PAPER, FAINT = (24, 26, 30), (255, 255, 255), (110, 114, 122)
_DARK, _RIM, _SLOT = (22, 24, 28), (236, 238, 242), (70, 74, 82)
_THROTTLE, _BRAKE = (86, 190, 160), (222, 94, 30)
_LOCK = 120.0
"""Degrees by which the drawn wheel turns at full steering."""
_TILE = 128
"""Height of a frame on the sheet of a batch, in pixels."""
_FASTEST_GIF = 0.02
"""Shortest duration of a frame in seconds; browsers slow down faster GIFs."""


def to_images(frames: Tensor) -> Images:
    """uint8 (..., 3, H, W) → uint8 (..., H, W, 3), contiguous, on the CPU."""
    return np.ascontiguousarray(frames.movedim(-3, -1).cpu().numpy())


def enlarge(image: Image, height: int) -> Image:
    """Resize to `height`, preserving the aspect ratio: cubic interpolation when enlarging, area when shrinking."""
    h, w = image.shape[:2]
    size = (max(1, round(w * height / h)), height)
    return np.asarray(
        cv2.resize(image, size, interpolation=cv2.INTER_CUBIC if height > h else cv2.INTER_AREA), dtype=np.uint8
    )


def widen(images: Images, pixel_aspect: float) -> list[Image]:
    """(T, H, W, 3) with pixels of width / height `pixel_aspect` → T images with square pixels."""
    if pixel_aspect == 1:
        return list(images)
    h, w = images.shape[1:3]
    size = (max(1, round(w * pixel_aspect)), h)
    return [np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_CUBIC), dtype=np.uint8) for image in images]


def difference(a: Image, b: Image, gain: float = 2.0) -> Image:
    """Mean absolute difference over the channels times `gain` as a heat map, dark where the images are equal."""
    gap = np.abs(a.astype(np.float32) - b.astype(np.float32)).mean(-1) * gain
    heat = cv2.applyColorMap(gap.clip(0, 255).astype(np.uint8), cv2.COLORMAP_INFERNO)
    return np.asarray(cv2.cvtColor(heat, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def write_on(
    image: Image,
    texts: Iterable[tuple[str, tuple[float, float], str]],
    *,
    size: int,
    colour: Colour = INK,
    bold: bool = False,
) -> Image:
    """A copy with texts (text, (x, y), anchor) drawn on it; anchors as in Pillow: 'lm' left middle, 'mm' centre."""
    canvas = Pillow.fromarray(image)
    pen = ImageDraw.Draw(canvas)
    for text, xy, anchor in texts:
        pen.text(xy, text, fill=colour, font=_font(size, bold), anchor=anchor)
    return np.array(canvas)


def text_width(text: str, size: int) -> int:
    """Width of a line of text in pixels."""
    return int(np.ceil(_font(size, False).getlength(text)))


def contact_sheet(
    rows: Sequence[Sequence[Image]],
    row_labels: Sequence[str],
    column_labels: Sequence[str] = (),
    *,
    title: str = "",
    height: int = 112,
    group: int = 0,
) -> Image:
    """Rows of images on a white background, labelled on the left and at the top.

    height: of every tile in pixels; images in a column have the same aspect ratio.
    group: adds a gap after every `group` rows; 0 for none.
    """
    assert rows and len(rows) == len(row_labels)
    tiles = [[enlarge(image, height) for image in row] for row in rows]
    width, columns = tiles[0][0].shape[1], max(map(len, tiles))
    gap, size = 3, max(11, height // 8)
    margin = size
    left = margin + max(text_width(label, size) for label in row_labels) + size
    top = margin + (2 * size if title else 0) + (round(1.6 * size) if column_labels else 0)
    ys, y = [], top
    for i in range(len(tiles)):
        y += 4 * gap if group and i and i % group == 0 else 0
        ys.append(y)
        y += height + gap
    needed = max(left + columns * (width + gap), text_width(title, size) + 2 * margin)
    sheet: Image = np.full((y + margin - gap, needed + margin - gap, 3), 255, np.uint8)
    for y, row in zip(ys, tiles, strict=True):
        for j, tile in enumerate(row):
            x = left + j * (width + gap)
            sheet[y : y + height, x : x + width] = tile
    labels = [(label, (left - size, y + height / 2), "rm") for label, y in zip(row_labels, ys, strict=True)]
    heads = [
        (label, (left + j * (width + gap) + width / 2, top - 0.8 * size), "mm") for j, label in enumerate(column_labels)
    ]
    sheet = write_on(sheet, [*labels, *heads], size=size)
    return write_on(sheet, [(title, (margin, margin + size / 2), "lm")], size=size, colour=FAINT) if title else sheet


def side_by_side(images: Sequence[Image], labels: Sequence[str], *, height: int = 256, footer: int = 0) -> Image:
    """Images in one row on a dark background, each below its label; `footer` pixels are left free at the bottom."""
    tiles = [enlarge(image, height) for image in images]
    gap, size = max(4, height // 48), max(11, height // 16)
    head = 2 * size
    width = sum(tile.shape[1] for tile in tiles) + gap * (len(tiles) + 1)
    canvas: Image = np.full((head + height + gap + footer, width, 3), _DARK, np.uint8)
    texts, x = [], gap
    for tile, label in zip(tiles, labels, strict=True):
        canvas[head : head + height, x : x + tile.shape[1]] = tile
        texts.append((label, (x, head / 2), "lm"))
        x += tile.shape[1] + gap
    return write_on(canvas, texts, size=size, colour=_RIM)


def action_panel(action: npt.ArrayLike, height: int) -> Image:
    """Image (height, 2 * height, 3) of an action: steering wheel as the driver sees it, throttle (T), brake (B), gear.

    action: steering, throttle, brake, gear, as in `daydrive.types`; values are clipped to their range.
    """
    steering, throttle, brake, gear = np.clip(np.asarray(action, dtype=np.float64), [-1, 0, 0, -1], 1)
    scale = max(1, 256 // height)  # draw large, then shrink, for smooth edges at any size
    s = height * scale
    panel = np.full((s, 2 * s, 3), _DARK, np.uint8)
    centre, radius, thick = (s // 2, s // 2), int(0.38 * s), max(1, int(0.07 * s))
    cv2.circle(panel, centre, radius, _RIM, thick, cv2.LINE_AA)
    for spoke in (0.0, 180.0, 90.0):
        angle = np.deg2rad(spoke + _LOCK * steering)
        end = (int(centre[0] + radius * np.cos(angle)), int(centre[1] + radius * np.sin(angle)))
        cv2.line(panel, centre, end, _RIM, thick, cv2.LINE_AA)
    cv2.ellipse(panel, centre, (radius, radius), _LOCK * steering - 90, -9, 9, _BRAKE, 2 * thick, cv2.LINE_AA)
    cv2.circle(panel, centre, int(0.1 * s), _RIM, -1, cv2.LINE_AA)
    top, bottom, wide = int(0.12 * s), int(0.72 * s), int(0.16 * s)
    for x, value, colour in ((1.12, throttle, _THROTTLE), (1.42, brake, _BRAKE)):
        x0 = int(x * s)
        cv2.rectangle(panel, (x0, top), (x0 + wide, bottom), _SLOT, -1)
        if value > 0:
            cv2.rectangle(panel, (x0, bottom - round((bottom - top) * float(value))), (x0 + wide, bottom), colour, -1)
    letters = [("T", (1.2 * s, 0.86 * s), "mm"), ("B", (1.5 * s, 0.86 * s), "mm")]
    panel = write_on(panel, letters, size=int(0.17 * s), colour=_RIM)
    gears = "RND"[int(np.rint(gear)) + 1]
    panel = write_on(panel, [(gears, (1.8 * s, 0.42 * s), "mm")], size=int(0.26 * s), colour=_RIM, bold=True)
    return np.asarray(cv2.resize(panel, (2 * height, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)


def overlay_action(image: Image, action: npt.ArrayLike, height: int | None = None) -> Image:
    """A copy with the action panel in the lower left corner; height: in pixels, by default a quarter of the image."""
    h, w = image.shape[:2]
    tall = min(height or max(16, h // 4), h, w // 2)
    out = image.copy()
    out[h - tall :, : 2 * tall] = action_panel(action, tall)
    return out


def show_batch(
    images: Tensor,
    actions: Tensor | None = None,
    path: Path | str | None = None,
    *,
    labels: Sequence[str] = (),
    title: str = "",
    pixel_aspect: float = 1.0,
) -> Image:
    """A sheet of a batch, one row per clip and one column per frame; written as a PNG to `path` if given.

    images: (B, T, 3, H, W) or (B, 3, H, W), uint8 [0, 255] or floating point [-1, 1]. actions: (B, T-1, 4), each drawn
    on the frame at which it starts. labels: of the clips; default: their indices. pixel_aspect: width / height.
    Raises UserError for another shape or dtype, and for values that are NaN or out of range.
    """
    if images.ndim == 4:
        images = images[:, None]
    if images.ndim != 5 or images.shape[2] != 3 or 0 in images.shape:
        raise UserError(f"a batch of images has the shape (B, T, 3, H, W) or (B, 3, H, W), not {tuple(images.shape)}")
    clips, length = images.shape[:2]
    if actions is not None and actions.shape != (clips, length - 1, 4):
        raise UserError(
            f"the actions of {clips} clips of {length} frames have the shape ({clips}, {length - 1}, 4), not "
            f"{tuple(actions.shape)}"
        )
    rows = [[enlarge(frame, _TILE) for frame in widen(clip, pixel_aspect)] for clip in to_images(_as_uint8(images))]
    if actions is not None:
        _check_no_nan(actions, "actions")
        for row, commands in zip(rows, actions.float().cpu().numpy(), strict=True):
            row[:-1] = [overlay_action(tile, command) for tile, command in zip(row, commands, strict=False)]
    numbers = [str(i) for i in range(max(clips, length))]
    sheet = contact_sheet(rows, labels or numbers[:clips], numbers[:length], title=title, height=_TILE)
    if path is not None:
        write_png(Path(path), sheet)
    return sheet


def _check_no_nan(values: Tensor, what: str) -> None:
    found = values.isnan().flatten(2).any(-1).nonzero()
    if len(found):
        raise UserError(f"the {what} contain NaN, first in clip {found[0, 0]}, frame {found[0, 1]}")


def _as_uint8(images: Tensor) -> Tensor:
    """uint8 unchanged, floating point in [-1, 1] converted to uint8; raises UserError for anything else."""
    if images.dtype == torch.uint8:
        return images
    if not images.is_floating_point():
        raise UserError(f"images have to be uint8 [0, 255] or floating point [-1, 1], not {images.dtype}")
    _check_no_nan(images, "images")
    low, high = images.min().item(), images.max().item()
    if low < -1 or high > 1:
        raise UserError(
            f"floating-point images have to be in [-1, 1], these range from {low:g} to {high:g}; use uint8 for 0 to 255"
        )
    return to_uint8(images)


def write_png(path: Path, image: Image) -> None:
    """Write a PNG atomically; its folder is created if needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_replace(path) as temporary:
        Pillow.fromarray(image).save(temporary, format="PNG")


def write_video(path: Path, images: Iterable[Image], hz: float) -> int:
    """Write an MP4 (H.264, yuv420p, plays in any browser) atomically; returns its number of frames.

    images: of one size, read one at a time; an odd side is made even by repeating its last line.
    """
    import av

    count = 0
    path.parent.mkdir(parents=True, exist_ok=True)
    index_first = {"movflags": "+faststart"}
    with (
        atomic_replace(path) as temporary,
        av.open(str(temporary), "w", format="mp4", options=index_first) as container,
    ):
        stream = container.add_stream(
            "libx264", rate=Fraction(hz).limit_denominator(1000), options={"crf": "18", "preset": "medium"}
        )
        stream.pix_fmt = "yuv420p"
        for image in images:
            h, w = image.shape[:2]
            even = np.pad(image, ((0, h % 2), (0, w % 2), (0, 0)), mode="edge")
            if count == 0:
                stream.height, stream.width = even.shape[:2]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(even, format="rgb24")))
            count += 1
        if count == 0:
            raise ValueError(f"no images for {path}")
        container.mux(stream.encode())
    return count


def encode_gif(frames: npt.NDArray[np.uint8], hz: float) -> bytes:
    """frames (T, H, W, 3), T > 0 → a looping GIF with one palette for all frames, so that colours do not flicker.

    GIF durations are hundredths of a second: 14 Hz plays at 14.3 Hz.
    """
    assert frames.ndim == 4 and frames.shape[-1] == 3 and len(frames)
    palette = Pillow.fromarray(np.concatenate(list(frames))).quantize(256, Pillow.Quantize.FASTOCTREE)
    plain = Pillow.Dither.NONE  # dithering that changes between frames is worse than banding
    first, *rest = (Pillow.fromarray(frame).quantize(palette=palette, dither=plain) for frame in frames)
    file = io.BytesIO()
    milliseconds = 10 * round(100 * max(_FASTEST_GIF, 1 / hz))
    first.save(file, "GIF", save_all=True, append_images=rest, duration=milliseconds, loop=0)
    return file.getvalue()


@functools.lru_cache(maxsize=32)
def _font(size: int, bold: bool) -> ImageFont.FreeTypeFont:
    import matplotlib  # ships the font, so that images are the same on every machine

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(os.path.join(matplotlib.get_data_path(), "fonts", "ttf", name), size)
