"""Images of a topic: raw, compressed, and video packets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from daydrive.data.images import MAX_PIXELS, image_in
from daydrive.data.sources.rosbag.bags import Bag
from daydrive.errors import UserError, did_you_mean
from daydrive.types import Image

if TYPE_CHECKING:
    import av

RAW = ("sensor_msgs/msg/Image",)
COMPRESSED = ("sensor_msgs/msg/CompressedImage", "foxglove_msgs/msg/CompressedImage")
VIDEO = ("foxglove_msgs/msg/CompressedVideo", "ffmpeg_image_transport_msgs/msg/FFMPEGPacket")

ENCODINGS: dict[str, tuple[int, int | None]] = {
    "rgb8": (3, None), "bgr8": (3, cv2.COLOR_BGR2RGB), "8uc3": (3, cv2.COLOR_BGR2RGB),
    "rgba8": (4, cv2.COLOR_RGBA2RGB), "bgra8": (4, cv2.COLOR_BGRA2RGB), "8uc4": (4, cv2.COLOR_BGRA2RGB),
    "mono8": (1, cv2.COLOR_GRAY2RGB), "8uc1": (1, cv2.COLOR_GRAY2RGB),
    "bayer_rggb8": (1, cv2.COLOR_BayerBG2RGB), "bayer_bggr8": (1, cv2.COLOR_BayerRG2RGB),
    "bayer_gbrg8": (1, cv2.COLOR_BayerGR2RGB), "bayer_grbg8": (1, cv2.COLOR_BayerGB2RGB),
    "yuv422": (2, cv2.COLOR_YUV2RGB_UYVY), "uyvy": (2, cv2.COLOR_YUV2RGB_UYVY),
    "yuv422_yuy2": (2, cv2.COLOR_YUV2RGB_YUY2), "yuyv": (2, cv2.COLOR_YUV2RGB_YUY2),
}  # fmt: skip
"""Bytes per pixel and OpenCV conversion to RGB by encoding, named as in ROS."""

CODECS = {"264": "h264", "265": "hevc", "hevc": "hevc", "av1": "av1", "vp9": "vp9"}
"""FFmpeg's decoder by a part of the format's name."""

KEY_UNITS = {"h264": (0x1F, 0, (5,)), "hevc": (0x3F, 1, (16, 17, 18, 19, 20, 21))}
"""Mask and shift of the type of a NAL unit, and the types of key frames."""


class Camera(NamedTuple):
    topic: str
    type: str

    @property
    def is_video(self) -> bool:
        return self.type in VIDEO


class FrameTimes(NamedTuple):
    """times (N,) s of the frames, increasing; numbers (N,) of their messages; keys (N,), whether decoding can begin
    there. delay: s, of the stamps to the clock of the bag, median. skipped: number of messages that are no frames."""

    times: npt.NDArray[np.float64]
    numbers: npt.NDArray[np.int64]
    keys: npt.NDArray[np.bool_]
    delay: float
    skipped: int


def cameras(bag: Bag) -> list[Camera]:
    """The topics with images, without depth maps."""
    found = [Camera(t, kind) for t, kind in sorted(bag.topics.items()) if kind in (*RAW, *COMPRESSED, *VIDEO)]
    return [camera for camera in found if "depth" not in camera.topic.lower()]


def choose_camera(bag: Bag, given: str | None) -> Camera:
    """The camera with this topic; by default the first one called front, otherwise the first one."""
    found = cameras(bag)
    if not found:
        raise UserError(
            f"{bag.path} has no topic with images; its topics: {', '.join(sorted(bag.topics)[:12]) or 'none'}"
        )
    if given is None:
        return next((camera for camera in found if "front" in camera.topic.lower()), found[0])
    for camera in found:
        if camera.topic.strip("/") == given.strip("/"):
            return camera
    known = [camera.topic for camera in found]
    raise UserError(f"--camera {given}: {bag.path} has no such topic with images{did_you_mean(given, known)}")


def frame_times(bag: Bag, camera: Camera) -> FrameTimes:
    """Times of a camera's frames by the stamps of their headers, or the clock of the bag if they have none.

    A message that is not later than the ones before it, and video before the first key frame, is no frame.
    """
    times: list[float] = []
    numbers, keys, delays, skipped = [], [], [], 0
    for number, message in enumerate(bag.messages({camera.topic})):
        time = message.time if message.stamp is None else message.stamp
        is_key = not camera.is_video or _is_key(message.content)
        if (times and time <= times[-1]) or not (times or is_key):
            skipped += 1
            continue
        times.append(time)
        numbers.append(number)
        keys.append(is_key)
        delays.append(time - message.time)
    delay = float(np.median(delays)) if delays else 0.0
    return FrameTimes(np.array(times), np.array(numbers, np.int64), np.array(keys, np.bool_), delay, skipped)


def read_images(
    bag: Bag, camera: Camera, numbers: Sequence[int], first: int, size: tuple[int, int]
) -> Iterator[Image | bytes]:
    """The images of the messages with these non-decreasing numbers.

    first: number of the message at which the decoding of a video begins.
    """
    read = _video_images(bag, camera, first) if camera.is_video else _still_images(bag, camera, size, set(numbers))
    current, image = next(read, (-1, None))
    for number in numbers:
        while current < number and image is not None:
            current, image = next(read, (current, None))
        if current != number or image is None:
            raise UserError(f"{bag.path}, {camera.topic}, message {number + 1}: the video packet has no image")
        yield image


def _still_images(
    bag: Bag, camera: Camera, size: tuple[int, int], wanted: set[int]
) -> Iterator[tuple[int, Image | bytes]]:
    for number, message in enumerate(bag.messages({camera.topic})):
        if number not in wanted:
            continue
        where = f"{bag.path}, {camera.topic}, message {number + 1}"
        if camera.type in RAW:
            yield number, _raw_image(message.content, where)
        else:
            yield number, image_in(bytes(message.content.data), message.content.format, where, size, shrink=True)


def _video_images(bag: Bag, camera: Camera, first: int) -> Iterator[tuple[int, Image]]:
    import av

    context: av.VideoCodecContext | None = None
    for number, message in enumerate(bag.messages({camera.topic})):
        if number < first:
            continue
        where = f"{bag.path}, {camera.topic}, message {number + 1}"
        if context is None:
            created = av.CodecContext.create(_codec(message.content, where), "r")
            assert isinstance(created, av.VideoCodecContext)
            context = created
            context.thread_type = "NONE"
        packet = av.Packet(bytes(message.content.data))
        packet.pts = packet.dts = number
        try:
            yield from _numbered(context.decode(packet))
        except av.FFmpegError as error:
            raise UserError(f"{where}: the video packet cannot be decoded ({error})") from error
    if context is not None:
        yield from _numbered(context.decode(None))


def _numbered(frames: Sequence[av.VideoFrame]) -> Iterator[tuple[int, Image]]:
    for frame in frames:
        if frame.pts is not None:
            yield frame.pts, np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)


def _codec(content: Any, where: str) -> str:
    name = _format(content)
    codec = next((codec for part, codec in CODECS.items() if part in name), None)
    if codec is None:
        raise UserError(f"{where}: the video format '{name[:40]}' is not supported, only h264, h265, av1 and vp9")
    return codec


def _format(content: Any) -> str:
    return str(getattr(content, "format", "") or getattr(content, "encoding", "")).lower()


def _is_key(content: Any) -> bool:
    """Whether decoding can begin at this packet; always True for codecs without NAL units."""
    codec = next((codec for part, codec in CODECS.items() if part in _format(content)), "")
    if codec not in KEY_UNITS:
        return True
    mask, shift, types = KEY_UNITS[codec]
    units = bytes(content.data).split(b"\x00\x00\x01")[1:]
    return any(unit and (unit[0] >> shift) & mask in types for unit in units)


def _raw_image(content: Any, where: str) -> Image:
    encoding = str(content.encoding).lower()
    if encoding not in ENCODINGS:
        raise UserError(f"{where}: the image encoding '{encoding[:40]}' is not supported, only {', '.join(ENCODINGS)}")
    size, conversion = ENCODINGS[encoding]
    height, width, step = int(content.height), int(content.width), int(content.step)
    if not 0 < height * width <= MAX_PIXELS or step < size * width or len(content.data) < step * height:
        raise UserError(
            f"{where}: the image has {len(content.data)} bytes, which do not fit its {height} rows of {width} pixels "
            f"in {encoding} and {step} bytes"
        )
    rows = np.frombuffer(bytes(content.data[: step * height]), np.uint8).reshape(height, step)[:, : size * width]
    pixels = np.ascontiguousarray(rows).reshape((height, width) if size == 1 else (height, width, size))
    return pixels if conversion is None else np.asarray(cv2.cvtColor(pixels, conversion), np.uint8)
