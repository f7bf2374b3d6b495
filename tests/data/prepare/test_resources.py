"""Resources of a preparation: disk space, JPEG quality, reduced decoding, huge images."""

from __future__ import annotations

import errno
import shutil
import struct
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest
import simplejpeg

from daydrive.data import images, sources
from daydrive.data.images import ReducedImage, fitted, read_image, recorded_size
from daydrive.data.prepare import disk_space, shards
from daydrive.data.prepare import prepare as module
from daydrive.data.prepare.prepare import prepare
from daydrive.data.store.store import Store
from daydrive.errors import UserError
from daydrive.types import Image
from helpers.drives import CountedSource, numbered_image, write_drive
from helpers.refusals import refuses


class Usage(NamedTuple):
    total: int
    used: int
    free: int


@pytest.fixture(autouse=True)
def counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sources.SOURCES, "counted", CountedSource())


def test_insufficient_disk_space_is_reported_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "store"
    whole = Store.open(prepare("counted", None, tmp_path / "whole", (24, 32), workers=1))
    size = sum(file.stat().st_size for file in whole.path.rglob("*.lance"))
    asked: list[float] = []
    for free, enough in ((1.5 * size, False), (3.0 * size, True)):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: Usage(0, 0, int(free)))
        if enough:
            assert Store.open(prepare("counted", None, target, (24, 32), workers=1)).fingerprint == whole.fingerprint
            continue
        message = refuses(lambda: prepare("counted", None, target, (24, 32), workers=1), tmp_path)
        assert "store.partial has" in message and "MB of free space, and 108 frames need about" in message
        assert ", for the shards and the table; free some space, or choose a smaller --image-size" in message
        monkeypatch.setattr(disk_space, "SAMPLE", 3)
        asked.append(float(message.split("need about ")[1].split(" MB")[0]))
    assert 1.5 * size < asked[0] * 1e6 + 1e5


def test_full_disk_retains_finished_drives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = shards.write_shard

    def full(job: shards.Job, *rest: Any) -> None:
        if job.drive.name == "c2":
            raise OSError(errno.ENOSPC, "No space left on device")
        write(job, *rest)

    message = r"No space left on device\); the next run resumes"
    with monkeypatch.context() as patch, pytest.raises(UserError, match=message):
        patch.setattr(shards, "write_shard", full)
        prepare("counted", None, tmp_path / "store", (24, 32), workers=1, drives=4)
    assert len(list((tmp_path / "store.partial").glob("*.arrow"))) == 2
    again: list[str] = []
    monkeypatch.setattr(shards, "write_shard", lambda job, *rest: (again.append(job.drive.name), write(job, *rest)))
    prepare("counted", None, tmp_path / "store", (24, 32), workers=1, drives=4)
    assert again == ["c2", "c3"] and not (tmp_path / "store.partial").exists()


def test_jpeg_quality_and_unchanged_images(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    write_drive(tmp_path / "raw" / "d", 30, size=(24, 32))
    noisy = rng.integers(0, 255, (24, 32, 3), dtype=np.uint8)
    original = simplejpeg.encode_jpeg(noisy, 30, "RGB", "420")
    (tmp_path / "raw" / "d" / "images" / "f0.jpg").write_bytes(original)
    cv2.imwrite(str(tmp_path / "raw" / "d" / "images" / "f1.png"), noisy)
    sizes = []
    for quality in (40, 95):
        target = prepare("folder", tmp_path / "raw", tmp_path / str(quality), (24, 32), jpeg_quality=quality, workers=1)
        store = Store.open(target)
        (first, second), _ = store.read([0, 1])
        assert first == original and store.metadata["jpeg_quality"] == quality
        sizes.append(len(second))
    assert sizes[0] < 0.6 * sizes[1]
    message = refuses(
        lambda: prepare("folder", tmp_path / "raw", target, (24, 32), workers=1, jpeg_quality=40), tmp_path
    )
    assert "its jpeg quality is 95, not 40" in message
    for quality in (0, 101):
        message = refuses(lambda q=quality: prepare("folder", tmp_path, tmp_path / "x", jpeg_quality=q), tmp_path)  # type: ignore[misc]
        assert f"--jpeg-quality {quality} is out of range; it must be from 1 to 100" in message


def natural(size: tuple[int, int]) -> Image:
    """Smooth shapes with edges and grain."""
    rng = np.random.default_rng(1)
    coarse = cv2.resize(rng.integers(0, 255, (12, 20, 3), dtype=np.uint8), size[::-1], interpolation=cv2.INTER_NEAREST)
    fine = cv2.resize(rng.integers(0, 255, (90, 160, 3), dtype=np.uint8), size[::-1], interpolation=cv2.INTER_CUBIC)
    return np.asarray(cv2.addWeighted(coarse, 0.6, fine, 0.4, 0), dtype=np.uint8)


@pytest.mark.parametrize("fit", ["stretch", "crop", "letterbox"])
def test_reduced_decoding(tmp_path: Path, fit: Any) -> None:
    file, size = tmp_path / "p.jpg", (64, 64)
    file.write_bytes(simplejpeg.encode_jpeg(natural((450, 800)), 92, "RGB", "420"))
    whole, less = (read_image(file, "row 1", size, shrink=shrink) for shrink in (False, True))
    assert isinstance(less, ReducedImage) and recorded_size(less) == (450, 800) == recorded_size(whole)  # type: ignore[arg-type]
    assert images.MIN_OVERSAMPLING * 64 <= less.shape[0] <= 225
    error = fitted(whole, size, fit).astype(float) - fitted(less, size, fit)  # type: ignore[arg-type]
    assert 10 * np.log10(255**2 / np.mean(error**2)) > 44
    for other in ((200, 200), (64, 140), (450, 800)):
        assert not isinstance(read_image(file, "row 1", other, shrink=True), ReducedImage)


def test_store_records_the_original_size(tmp_path: Path) -> None:
    write_drive(tmp_path / "raw" / "d", 20, size=(200, 320))
    store = Store.open(prepare("folder", tmp_path / "raw", tmp_path / "s", (16, 16), fit="crop", workers=1))
    assert store.metadata["recorded_image_size"] == [200, 320]
    assert store.metadata["geometry"]["shown"] == [0, 60, 200, 200]


def huge_png(width: int, height: int) -> bytes:
    data = cv2.imencode(".png", numbered_image(1, (4, 4)))[1].tobytes()
    return data[:16] + struct.pack(">II", width, height) + data[24:]


def huge_jpeg(width: int, height: int) -> bytes:
    data = bytearray(simplejpeg.encode_jpeg(numbered_image(1, (16, 16)), 95))
    offset = data.index(b"\xff\xc0")
    data[offset + 5 : offset + 9] = struct.pack(">HH", height, width)
    return bytes(data)


@pytest.mark.parametrize("data", [huge_png(30000, 30000), huge_jpeg(30000, 30000)])
def test_images_with_huge_dimensions(data: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def decoded(*_: Any, **__: Any) -> None:
        raise AssertionError("it was decoded")

    monkeypatch.setattr(cv2, "imdecode", decoded)
    monkeypatch.setattr(simplejpeg, "decode_jpeg", decoded)
    (tmp_path / "p").write_bytes(data)
    message = refuses(lambda: read_image(tmp_path / "p", "log.csv, row 3", (64, 64)), tmp_path)
    assert message.startswith("log.csv, row 3: the image")
    assert "is 30000x30000, more than the maximum of 100 million pixels" in message


def test_damaged_png(tmp_path: Path) -> None:
    data = bytearray(cv2.imencode(".png", natural((20, 20)))[1].tobytes())
    data[60:90] = bytes(30)
    (tmp_path / "p").write_bytes(bytes(data))
    try:
        found = read_image(tmp_path / "p", "row 1", (64, 64))
        assert not isinstance(found, bytes)
    except UserError as error:
        assert "is a damaged PNG" in str(error)


def test_unknown_lengths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "check_disk_space", disk_space.check_disk_space)
    job = shards.Job(CountedSource().drives(Path(), {"drives": 1}, (8, 8))[0], (8, 8), ("number",), tmp_path / "0")
    unknown = shards.Job(type(job.drive)("x", 10.0, job.drive.frames), (8, 8), ("number",), tmp_path / "1")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, 0))
    disk_space.check_disk_space([unknown], [unknown], tmp_path, True)
    with pytest.raises(UserError, match=r"0\.0 MB of free space, and 20 frames"):
        disk_space.check_disk_space([job, unknown], [unknown], tmp_path, True)
