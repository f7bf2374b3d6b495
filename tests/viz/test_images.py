"""Size and content of sheets, panels, images and videos; writing is atomic."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from daydrive.types import Image
from daydrive.viz.images import (
    action_panel,
    contact_sheet,
    difference,
    enlarge,
    overlay_action,
    side_by_side,
    to_images,
    widen,
    write_png,
    write_video,
)


def plain(level: int, h: int = 16, w: int = 24) -> Image:
    return np.full((h, w, 3), level, np.uint8)


def decode(path: Path) -> list[Image]:
    with av.open(str(path)) as container:
        return [np.asarray(frame.to_ndarray(format="rgb24"), np.uint8) for frame in container.decode(video=0)]


def test_to_images_moves_the_channels() -> None:
    frames = torch.randint(0, 256, (2, 5, 3, 4, 6), dtype=torch.uint8)
    images = to_images(frames)
    assert images.shape == (2, 5, 4, 6, 3)
    assert (images[1, 2, 3, 4] == frames[1, 2, :, 3, 4].numpy()).all()


def test_enlarge_keeps_proportions() -> None:
    assert enlarge(plain(9, 16, 24), 64).shape == (64, 96, 3)
    assert enlarge(plain(9, 160, 240), 64).shape == (64, 96, 3)
    assert (enlarge(plain(9), 64) == 9).all()


def test_difference_image() -> None:
    same, far = difference(plain(50), plain(50)), difference(plain(0), plain(255))
    assert same.max() < 20 and far.mean() > 180


def test_contact_sheet_places_every_tile_and_label() -> None:
    sheet = contact_sheet([[plain(10), plain(60)], [plain(110), plain(160)]], ["a", "b"], ["1", "2"], height=40)
    for level in (10, 60, 110, 160):
        ys, xs = np.where((sheet == level).all(-1))
        assert (ys.max() - ys.min() + 1, xs.max() - xs.min() + 1) == (40, 60)
    grouped = contact_sheet([[plain(10)]] * 4, ["a"] * 4, height=40, group=2)
    assert grouped.shape[0] > contact_sheet([[plain(10)]] * 4, ["a"] * 4, height=40).shape[0]
    assert contact_sheet([[plain(10)]], ["a"], title="a long title " * 20, height=40).shape[1] > 500


def test_side_by_side_leaves_space_for_the_footer() -> None:
    tall, with_footer = (side_by_side([plain(99)] * 3, ["a", "b", "c"], height=64, footer=f) for f in (0, 30))
    assert with_footer.shape[0] == tall.shape[0] + 30
    assert (tall == 99).all(-1).sum() == 3 * 64 * 96


@pytest.mark.parametrize("height", [16, 24, 64, 300])
def test_action_panel_shows_the_action(height: int) -> None:
    idle, full, brakes = (action_panel(a, height) for a in ((0, 0, 0, 1), (0, 1, 0, 1), (0, 0, 1, 1)))
    assert idle.shape == (height, 2 * height, 3)
    assert (full != idle).any() and (brakes != idle).any() and (full != brakes).any()
    left, right = action_panel((-1, 0, 0, 1), height), action_panel((1, 0, 0, 1), height)
    wheel = height
    # orange mark of the wheel: high red, low blue; to the left of the centre for a left turn
    for panel, side in ((left, -1), (right, 1)):
        marked = (panel[:, :wheel, 0].astype(int) - panel[:, :wheel, 2]) > 80
        assert np.sign(np.where(marked)[1].mean() - wheel / 2) == side
    assert (action_panel((-7, 0, 0, 1), height) == left).all()


def test_overlay_is_a_copy_and_touches_one_corner() -> None:
    image = plain(128, 120, 160)
    drawn = overlay_action(image, (0.2, 0.5, 0.0, 1.0))
    assert (image == 128).all() and (drawn[:90] == 128).all() and (drawn[:, 60:] == 128).all()
    assert (drawn[90:, :60] != 128).any()
    assert overlay_action(plain(128, 8, 8), (0, 0, 0, 0)).shape == (8, 8, 3)


def test_png_is_exact(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (9, 13, 3), dtype=np.uint8)
    write_png(tmp_path / "new" / "a.png", image)
    assert (np.asarray(Pillow.open(tmp_path / "new" / "a.png")) == image).all()


@pytest.mark.parametrize(("size", "hz"), [((64, 96), 10.0), ((65, 97), 14.0), ((64, 64), 10 / 3)])
def test_video_round_trip(tmp_path: Path, size: tuple[int, int], hz: float) -> None:
    levels = [20, 80, 140, 200, 250]
    path = tmp_path / "a.mp4"
    assert write_video(path, (plain(level, *size) for level in levels), hz) == len(levels)
    frames = decode(path)
    assert len(frames) == len(levels)
    assert frames[0].shape == (size[0] + size[0] % 2, size[1] + size[1] % 2, 3)
    assert [frame.mean() for frame in frames] == pytest.approx(levels, abs=3)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.average_rate is not None and float(stream.average_rate) == pytest.approx(hz, rel=1e-3)
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")


def test_failed_video_leaves_the_previous_file(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    write_video(path, [plain(20, 64, 64)], 10.0)
    before = path.read_bytes()

    def broken() -> Iterator[Image]:
        yield plain(20, 64, 64)
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        write_video(path, broken(), 10.0)
    with pytest.raises(ValueError, match="no images"):
        write_video(path, [], 10.0)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


def test_widen_applies_the_pixel_aspect() -> None:
    image = np.zeros((2, 16, 16, 3), np.uint8)
    image[:, :, 8:] = 255
    (wide, _) = widen(image, 2.0)
    assert wide.shape == (16, 32, 3)
    assert wide[0, 4, 0] == 0 and wide[0, 28, 0] == 255
    assert np.array_equal(widen(image, 1.0), image)
