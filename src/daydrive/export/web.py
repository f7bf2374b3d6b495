"""The page that drives an exported model in a browser, from any static host and without a network."""

from __future__ import annotations

import io
from importlib.resources import files
from pathlib import Path
from typing import Any

from PIL import Image as Pillow

from daydrive.errors import UserError
from daydrive.export.clips import ExportClips
from daydrive.viz.images import to_images

STATIC = Path(str(files("daydrive"))) / "export" / "static"
WINDOW = Path(str(files("daydrive"))) / "drive" / "static"
WINDOW_FILES = (
    "controls.js", "dashboard.js", "display.js", "easing.js", "moments.js", "statistics.js", "style.css", "views.js",
)  # fmt: skip
"""Parts of the window of `daydrive drive` that the page consists of, too."""
MAX_BYTES = 40_000_000
STARTS = 6


def write_page(folder: Path, runtime: dict[str, bytes], clips: ExportClips, context: int) -> list[dict[str, Any]]:
    """Write page, runtime and start moments; their entries in `model.json`: the context frames as one PNG, side by
    side, and the actions between them."""
    for file in [*sorted(STATIC.iterdir()), *(WINDOW / name for name in WINDOW_FILES)]:
        (folder / file.name).write_bytes(file.read_bytes())
    for name, data in runtime.items():
        (folder / name).write_bytes(data)
    starts = []
    for number, (images, actions) in enumerate(zip(clips.images[:STARTS], clips.actions, strict=False)):
        name = f"start-{number}.png"
        seen = to_images(images[:context])
        side_by_side = seen.transpose(1, 0, 2, 3).reshape(seen.shape[1], -1, 3)
        (folder / name).write_bytes(_png(side_by_side))
        starts.append({"image": name, "actions": actions[: context - 1].tolist()})
    return starts


def check_size(folder: Path, precision: str) -> None:
    """Raise UserError if the page is larger than `MAX_BYTES`."""
    size = sum(file.stat().st_size for file in folder.iterdir())
    if size > MAX_BYTES:
        smaller = {"float32": "; use --precision float16", "float16": "; use --precision int8"}.get(precision, "")
        raise UserError(
            f"the page would have {size / 1e6:.0f} MB, more than the {MAX_BYTES / 1e6:.0f} MB that a phone should "
            f"load{smaller}"
        )


def _png(image: Any) -> bytes:
    buffer = io.BytesIO()
    Pillow.fromarray(image).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
