"""Videos that begin without a key frame, or cannot be searched."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from daydrive.data import video
from daydrive.data.prepare.prepare import prepare
from daydrive.data.store.store import Store
from daydrive.errors import UserError
from helpers.open_formats import SIZE, seen, shade

GROUP = 10
"""Frames from a key frame to the next."""


def encoded(file: Path, frames: int, options: dict[str, str], codec: str = "libx264") -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    quality = {"preset": "ultrafast", "crf": "4"} if codec == "libx264" else {"qmin": "1", "qmax": "1"}
    with av.open(str(file), "w") as container:
        stream = container.add_stream(codec, rate=10, options={**quality, **options})
        stream.height, stream.width, stream.pix_fmt = *SIZE, "yuv420p"
        for k in range(frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(shade(k), format="rgb24")))
        container.mux(stream.encode(None))
    return file


def cut(source: Path, target: Path, first_packet: int) -> Path:
    """Copies the packets from number `first_packet` on, as tools do that cut without decoding."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(source)) as read, av.open(str(target), "w") as written:
        stream = written.add_stream_from_template(read.streams.video[0])
        packets = [packet for packet in read.demux(read.streams.video[0]) if packet.size]
        for packet in packets[first_packet:]:
            packet.stream = stream
            written.mux(packet)
    return target


OPTIONS = {
    "closed groups": {"g": str(GROUP), "bf": "0", "sc_threshold": "0"},
    "bidirectional": {"g": str(GROUP), "bf": "2", "sc_threshold": "0"},
    "open groups": {"g": str(GROUP), "bf": "2", "sc_threshold": "0", "x264-params": "open-gop=1"},
}


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
@pytest.mark.parametrize("groups", OPTIONS)
@pytest.mark.parametrize("first", [0, 4, GROUP])
def test_frames_before_the_first_key_frame_are_left_out(first: int, groups: str, suffix: str, tmp_path: Path) -> None:
    whole = encoded(tmp_path / "whole.mkv", 40, OPTIONS[groups])
    cut(whole, tmp_path / "raw" / f"a{suffix}", first)
    store = Store.open(prepare("video", tmp_path / "raw", tmp_path / "store", SIZE, workers=1))
    numbers, counts = seen(store), store.metadata["frame_counts"][0]
    between = [entry["frames"] for entry in counts["left_out"] if entry["reason"] == "between the splits"]
    decodable = list(range(GROUP if first else 0, 40))
    assert [numbers[0], numbers[-1]] == [decodable[0], 39] and len(set(numbers)) == len(numbers)
    assert len(numbers) == len(decodable) - sum(between), "all that can be decoded, each frame once"
    before = [entry for entry in counts["left_out"] if entry["reason"] == "before the first key frame"]
    assert len(before) == (first == 4) and all(entry["first"].endswith(f"a{suffix}") for entry in before)
    assert counts["recorded"] == store.rows + sum(entry["frames"] for entry in counts["left_out"])


def test_an_avi_without_times_that_begins_between_key_frames(tmp_path: Path) -> None:
    whole = encoded(tmp_path / "whole.avi", 40, {"g": str(GROUP), "sc_threshold": "1000000000"}, codec="mpeg4")
    cut(whole, tmp_path / "raw" / "a.avi", 4)
    store = Store.open(prepare("video", tmp_path / "raw", tmp_path / "store", SIZE, workers=1))
    left_out = {entry["reason"]: entry["frames"] for entry in store.metadata["frame_counts"][0]["left_out"]}
    assert seen(store)[0] == GROUP and seen(store)[-1] == 39 and left_out["before the first key frame"] == GROUP - 4


@pytest.mark.parametrize(
    ("keys", "shown", "decodable"),
    [
        ("000100", [0, 1, 2, 3, 4, 5], [3, 4, 5]),
        ("100100", [0, 1, 2, 5, 3, 4], [0, 1, 2, 5, 3, 4]),
        ("0010010", [0, 1, 4, 2, 3, 6, 5], [4, 6, 5]),
        ("000", [0, 1, 2], [0, 1, 2]),
        ("1", [None], [None]),
        ("01000", [None] * 5, [None] * 4),
        ("", [], []),
        ("0" * 1000 + "10", list(range(1002)), list(range(1002))),
    ],
    ids=["cut", "from the start", "open", "no key frame", "raw", "raw and cut", "empty", "refreshed in parts"],
)
def test_which_packets_can_be_decoded(keys: str, shown: list[int | None], decodable: list[int | None]) -> None:
    packets = [video._Timing(pts, key == "1", False, 1) for key, pts in zip(keys, shown, strict=True)]
    assert [packet.pts for packet in video._decodable(iter(packets))] == decodable


def fails(file: Path, start: float | None, device: str | None) -> Iterator[Any]:
    raise av.error.PermissionError(1, "Operation not permitted")
    yield


@pytest.mark.parametrize("problem", ["raises", "ends", "lands too late"])
def test_a_video_that_cannot_be_searched_is_decoded_from_its_beginning(
    problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = encoded(tmp_path / "a.mp4", 40, OPTIONS["closed groups"])
    decode = video._decode_from

    def searching(file: Path, start: float | None, device: str | None) -> Iterator[Any]:
        if start is None:
            yield from decode(file, None, device)
        elif problem == "raises":
            yield from fails(file, start, device)
        elif problem == "lands too late":
            yield from decode(file, start + 1.0, device)

    monkeypatch.setattr(video, "_decode_from", searching)
    times = video.frame_times(file).seconds
    images = list(video.frames_at(file, times[15:20], 0.04))
    assert [round(float(np.median(image)) / 5) for image in images] == [15, 16, 17, 18, 19]


def test_an_error_while_decoding_is_still_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = encoded(tmp_path / "a.mp4", 40, OPTIONS["closed groups"])
    times = video.frame_times(file).seconds
    monkeypatch.setattr(video, "_decode_from", fails)
    with pytest.raises(UserError, match="cannot be read at frame 0"):
        list(video.frames_at(file, times[15:20], 0.04))
