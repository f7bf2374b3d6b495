"""Writer for bags of ROS 1 and ROS 2 with a camera and the commands of a car with known motion."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import simplejpeg
from rosbags.rosbag1 import Writer as Writer1
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin
from rosbags.rosbag2 import Writer as Writer2
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from helpers.recordings import Truth

SIZE = (24, 32)
IMAGES, COMMANDS = "/front/image", "/drive"
LATENCY = 0.02
"""Seconds from the stamp of an image to its time in the bag."""
COMMAND_HZ = 50.0

CUSTOM = "car_msgs/msg/Pedals"
TYPES = {
    CUSTOM: "std_msgs/Header header\nfloat32 wheel_degrees\nfloat32[2] pedals\nint8 gear\nfloat32 kmh",
    "ackermann_msgs/msg/AckermannDrive": "float32 steering_angle\nfloat32 steering_angle_velocity\nfloat32 speed\n"
    "float32 acceleration\nfloat32 jerk",
    "ackermann_msgs/msg/AckermannDriveStamped": "std_msgs/Header header\nackermann_msgs/AckermannDrive drive",
    "foxglove_msgs/msg/CompressedVideo": "builtin_interfaces/Time timestamp\nstring frame_id\nuint8[] data\n"
    "string format",
    "autoware_control_msgs/msg/Lateral": "builtin_interfaces/Time stamp\nbuiltin_interfaces/Time control_time\n"
    "float32 steering_tire_angle\nfloat32 steering_tire_rotation_rate\nbool is_defined_steering_tire_rotation_rate",
    "autoware_control_msgs/msg/Longitudinal": "builtin_interfaces/Time stamp\nbuiltin_interfaces/Time control_time\n"
    "float32 velocity\nfloat32 acceleration\nfloat32 jerk\nbool is_defined_acceleration\nbool is_defined_jerk",
    "autoware_control_msgs/msg/Control": "builtin_interfaces/Time stamp\nbuiltin_interfaces/Time control_time\n"
    "autoware_control_msgs/Lateral lateral\nautoware_control_msgs/Longitudinal longitudinal",
}
KINDS = ("bag", "sqlite3", "mcap", "zstd", "file")
"""ROS 1; a folder of ROS 2 with SQLite, with MCAP, or with MCAP and compressed messages; a single MCAP file."""


class Types:
    """Messages of one version of ROS, by type and fields that are not zero."""

    def __init__(self, ros1: bool) -> None:
        self.ros1 = ros1
        self.store = get_typestore(Stores.ROS1_NOETIC if ros1 else Stores.ROS2_HUMBLE)
        for name, text in TYPES.items():
            self.store.register(get_types_from_msg(text, name))

    def time(self, seconds: float) -> Any:
        nanoseconds = round(seconds * 1e9)
        return self.make("builtin_interfaces/msg/Time", sec=nanoseconds // 10**9, nanosec=nanoseconds % 10**9)

    def make(self, kind: str, stamp: float | None = None, **fields: Any) -> Any:
        """A message; fields that are not given are 0 or empty, `stamp` is the time of its header."""
        values = {}
        for name, (tag, details) in self.store.fielddefs[kind][1]:
            if name in fields:
                values[name] = fields[name]
            elif name == "header":
                own = {"seq": 0} if self.ros1 else {}
                time = self.time(stamp or 0.0)
                values[name] = self.store.types["std_msgs/msg/Header"](stamp=time, frame_id="car", **own)
            elif tag.name == "NAME":
                values[name] = self.make(details)
            elif tag.name == "BASE":
                values[name] = "" if details[0] == "string" else False if details[0] == "bool" else 0
            else:
                values[name] = np.zeros(details[1], np.dtype(details[0][1][0]))
        return self.store.types[kind](**values)


Written = tuple[float, str, str, Any]
"""Time in the bag, topic, type and content of a message."""


def write_bag(
    path: Path, truth: Truth, kind: str = "bag", image: str = "jpeg", command: str = "ackermann",
    edit: Callable[[list[Written], Types], list[Written]] | None = None, size: tuple[int, int] = SIZE,
) -> Path:  # fmt: skip
    """Writes a bag at `path`, without its suffix, and returns its path. edit: changes the messages."""
    types = Types(kind == "bag")
    messages = [*image_messages(truth, image, types, size), *command_messages(truth, command, types)]
    messages = sorted(edit(messages, types) if edit else messages, key=lambda message: message[0])
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "bag":
        path = path.with_suffix(".bag")
        writer: Any = Writer1(path)
    else:
        plugin = StoragePlugin.SQLITE3 if kind == "sqlite3" else StoragePlugin.MCAP
        writer = Writer2(path, version=9, storage_plugin=plugin)
        if kind == "zstd":
            writer.set_compression(CompressionMode.MESSAGE, CompressionFormat.ZSTD)
    with writer:
        topics = {topic: name for _, topic, name, _ in messages}
        connections = {t: writer.add_connection(t, name, typestore=types.store) for t, name in topics.items()}
        for time, topic, name, content in messages:
            serialize = types.store.serialize_ros1 if kind == "bag" else types.store.serialize_cdr
            writer.write(connections[topic], round(time * 1e9), serialize(content, name))
    if kind == "file":
        (file,) = path.glob("*.mcap")
        shutil.move(file, path.with_suffix(".mcap"))
        shutil.rmtree(path)
        return path.with_suffix(".mcap")
    return path


def image_messages(truth: Truth, image: str, types: Types, size: tuple[int, int] = SIZE) -> list[Written]:
    """image: jpeg, png, h264, or the encoding of a raw image."""
    shown = truth.images(size)
    if image in ("h264", "hevc"):
        name = "foxglove_msgs/msg/CompressedVideo"
        contents = [types.make(name, timestamp=types.time(time), data=np.frombuffer(packet, np.uint8), format=image)
                    for time, packet in zip(truth.times, packets(shown, image), strict=True)]  # fmt: skip
    elif image in ("jpeg", "png"):
        name = "sensor_msgs/msg/CompressedImage"
        contents = [types.make(name, time, format=image, data=np.frombuffer(compressed(rgb, image), np.uint8))
                    for time, rgb in zip(truth.times, shown, strict=True)]  # fmt: skip
    else:
        name = "sensor_msgs/msg/Image"
        contents = [types.make(name, time, height=size[0], width=size[1], encoding=image, **raw(rgb, image))
                    for time, rgb in zip(truth.times, shown, strict=True)]  # fmt: skip
    return [(time + LATENCY, IMAGES, name, content) for time, content in zip(truth.times, contents, strict=True)]


def compressed(rgb: np.ndarray, kind: str) -> bytes:
    return simplejpeg.encode_jpeg(rgb, 95) if kind == "jpeg" else cv2.imencode(".png", rgb[..., ::-1])[1].tobytes()


def raw(rgb: np.ndarray, encoding: str) -> dict[str, Any]:
    """Fields of a raw image with four bytes of padding in each row."""
    pixels = {
        "rgb8": lambda: rgb, "bgr8": lambda: rgb[..., ::-1], "mono8": lambda: rgb[..., 1:2],
        "bgra8": lambda: cv2.cvtColor(rgb, cv2.COLOR_RGB2BGRA),
        "bayer_rggb8": lambda: np.where(np.indices(rgb.shape[:2]).sum(0)[..., None] % 2 == 1, rgb[..., 1:2], np.where(
            np.indices(rgb.shape[:2])[0][..., None] % 2 == 0, rgb[..., :1], rgb[..., 2:])),
    }[encoding]()  # fmt: skip
    rows = pixels.reshape(len(rgb), -1)
    return {"step": rows.shape[1] + 4, "data": np.pad(rows, ((0, 0), (0, 4))).astype(np.uint8).reshape(-1)}


def packets(images: Sequence[np.ndarray], codec: str) -> list[bytes]:
    """One packet for each image, in order, with a key frame for every 15th; each begins with a start code."""
    context = av.CodecContext.create({"h264": "libx264", "hevc": "libx265"}[codec], "w")
    context.height, context.width, context.pix_fmt = *images[0].shape[:2], "yuv420p"
    context.time_base, context.framerate = Fraction(1, 10), Fraction(10)
    own = {"x265-params": "log-level=none:pools=1:bframes=0:keyint=15:repeat-headers=1"} if codec == "hevc" else {}
    context.options = {"preset": "ultrafast", "tune": "zerolatency", "crf": "4", "g": "15", **own}
    found = []
    for k, image in enumerate(images):
        frame = av.VideoFrame.from_ndarray(image, format="rgb24")
        frame.pts = k
        found += [bytes(packet) for packet in context.encode(frame)]
    return [*found, *(bytes(packet) for packet in context.encode(None))]


def command_messages(truth: Truth, command: str, types: Types) -> list[Written]:
    """Commands at `COMMAND_HZ`. command: ackermann, twist (without a header), odometry, autoware, custom, or none."""
    times = np.arange(truth.times[0] - 0.1, truth.times[-1] + 0.2, 1 / COMMAND_HZ)
    angle, speed, rate = (truth.at(v, times) for v in (truth.wheel, truth.speed, truth.yaw_rate))
    slope = truth.at(np.gradient(truth.speed, truth.fine), times)
    messages: list[Written] = []
    for k, time in enumerate(times.tolist() if command != "none" else ()):
        if command == "ackermann":
            name = "ackermann_msgs/msg/AckermannDriveStamped"
            drive = types.make("ackermann_msgs/msg/AckermannDrive", steering_angle=-angle[k], speed=speed[k])
            content = types.make(name, time, drive=drive)
        elif command in ("twist", "odometry"):
            name = "geometry_msgs/msg/Twist"
            vector = "geometry_msgs/msg/Vector3"
            content = types.make(
                name, linear=types.make(vector, x=speed[k], y=0.0, z=0.0), angular=types.make(vector, z=-rate[k])
            )
            if command == "odometry":
                with_covariance = types.make("geometry_msgs/msg/TwistWithCovariance", twist=content)
                name = "nav_msgs/msg/Odometry"
                content = types.make(name, time, twist=with_covariance)
        elif command == "autoware":
            name = "autoware_control_msgs/msg/Control"
            lateral = types.make("autoware_control_msgs/msg/Lateral", steering_tire_angle=-angle[k])
            longitudinal = types.make(
                "autoware_control_msgs/msg/Longitudinal", velocity=speed[k], acceleration=slope[k]
            )
            content = types.make(name, stamp=None, lateral=lateral, longitudinal=longitudinal)
            content.stamp = types.time(time)
        else:
            name = CUSTOM
            pedals = np.array([max(slope[k], 0.0) / 4, max(-slope[k], 0.0) / 8], np.float32)
            fields = {"wheel_degrees": -np.degrees(angle[k]), "gear": int(np.sign(speed[k])), "kmh": 3.6 * speed[k]}
            content = types.make(name, time, pedals=pedals, **fields)
        messages.append((time + LATENCY / 2, COMMANDS, name, content))
    return messages
