"""Bags below a folder, their topics and messages, read by the package rosbags."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from daydrive.data.sources.files import entries, inside, read_text, subfolders
from daydrive.errors import UserError

if TYPE_CHECKING:
    from rosbags.typesys.store import Typestore

METADATA = "metadata.yaml"
SUFFIXES = (".bag", ".mcap", ".db3")
DEPTH = 4
"""Levels of folders below the root that are searched."""

DEFINITIONS = {
    "ackermann_msgs/msg/AckermannDrive": "float32 steering_angle\nfloat32 steering_angle_velocity\nfloat32 speed\n"
    "float32 acceleration\nfloat32 jerk",
    "ackermann_msgs/msg/AckermannDriveStamped": "std_msgs/Header header\nackermann_msgs/AckermannDrive drive",
    "foxglove_msgs/msg/CompressedVideo": "builtin_interfaces/Time timestamp\nstring frame_id\nuint8[] data\n"
    "string format",
}
"""Fields of messages that ROS itself does not have, for the bags of ROS 2 that contain no definitions."""


class Message(NamedTuple):
    """A decoded message. time: s on the clock of the bag. stamp: s, of its header; None without one."""

    topic: str
    time: float
    stamp: float | None
    content: Any


def find_bags(root: Path, depth: int = DEPTH) -> list[Path]:
    """Files and folders that are bags, in natural order; folders that are one are not searched."""
    if (root / METADATA).is_file():
        return [root]
    files = [file for file in entries(root) if file.suffix in SUFFIXES]
    bags = [file for file in files if not file.is_dir()]
    if depth:
        for folder in subfolders(root):
            bags += find_bags(folder, depth - 1)
    return bags


class Bag:
    """An open bag. topics: message type by topic, such as `sensor_msgs/msg/Image`."""

    def __init__(self, path: Path, reader: Any, definitions: Typestore) -> None:
        self.path, self.reader, self.definitions = path, reader, definitions
        self.topics: dict[str, str] = {c.topic: _type_name(c.msgtype) for c in reader.connections}
        self.stores: dict[str, Typestore | None] = {}

    def messages(self, topics: set[str]) -> Iterator[Message]:
        """All messages of these topics in the order of the bag."""
        connections = [c for c in self.reader.connections if c.topic in topics]
        stores = {topic: self._known_types(topic) for topic in topics}
        with _explained(self.path):
            read = self.reader.messages(connections) if connections else iter(())
        while True:
            with _explained(self.path):
                found = next(read, None)
                if found is None:
                    return
                connection, time, data = found
                store = stores[connection.topic]
                decode = store.deserialize_ros1 if self.path.suffix == ".bag" else store.deserialize_cdr
                content = decode(data, self.topics[connection.topic])
            yield Message(connection.topic, time * 1e-9, _stamp(content), content)

    def types(self, topic: str) -> Typestore | None:
        """The definitions that the type of this topic needs; None if they are unknown or not understood."""
        if topic not in self.stores:
            connection = next(c for c in self.reader.connections if c.topic == topic)
            self.stores[topic] = _own_types(connection, self.topics[topic]) or (
                self.definitions if self.topics[topic] in self.definitions.fielddefs else None
            )
        return self.stores[topic]

    def _known_types(self, topic: str) -> Typestore:
        store = self.types(topic)
        if store is None:
            raise UserError(
                f"{self.path} does not define {self.topics[topic]}, the type of {topic}; name a folder of .msg files "
                "by --set definitions=FOLDER"
            )
        return store


@contextmanager
def opened(path: Path, root: Path, definitions: str | None = None) -> Iterator[Bag]:
    """Open a bag; definitions: a folder of .msg files, for types that the bag does not define."""
    try:
        from rosbags import rosbag1, rosbag2
    except ImportError as error:
        raise UserError("ROS bags are read by the package rosbags: pip install 'daydrive[rosbag]'") from error
    types = _types(definitions)
    with _explained(path):
        file = inside(path, root)
        reader = rosbag1.Reader(file) if file.suffix == ".bag" else rosbag2.Reader(file)
        reader.open()
    try:
        yield Bag(path, reader, types)
    finally:
        reader.close()


def _type_name(name: str) -> str:
    """`sensor_msgs/msg/Image`, which some writers shorten to `sensor_msgs/Image`."""
    package, _, kind = name.partition("/")
    return f"{package}/msg/{kind}" if kind and "/" not in kind else name


def _own_types(connection: Any, kind: str) -> Typestore | None:
    """The types that the bag defines for a connection of the type `kind`; None if rosbags does not understand them."""
    from rosbags.interfaces import MessageDefinitionFormat
    from rosbags.typesys import Stores, TypesysError, get_types_from_idl, get_types_from_msg, get_typestore

    text, store = connection.msgdef.data, get_typestore(Stores.EMPTY)
    try:
        if connection.msgdef.format == MessageDefinitionFormat.MSG:
            store.register(get_types_from_msg(text, kind))
        elif connection.msgdef.format == MessageDefinitionFormat.IDL:
            for part in re.split(r"^=+\n(?:IDL: .*\n)?", text, flags=re.MULTILINE):
                store.register(get_types_from_idl(part) if part.strip() else {})
    except (TypesysError, KeyError):
        return None
    return store if kind in store.fielddefs else None


def _types(folder: str | None) -> Typestore:
    """The types of ROS 2, `DEFINITIONS` and those in the files PACKAGE/msg/NAME.msg below a folder."""
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    store = get_typestore(Stores.ROS2_HUMBLE)
    texts = {name: text for name, text in DEFINITIONS.items() if name not in store.fielddefs}
    if folder is not None:
        files = sorted(Path(folder).rglob("*.msg"))
        if not files:
            raise UserError(f"--set definitions={folder}: there are no message definitions (PACKAGE/msg/NAME.msg)")
        for file in files:
            package = next((p for p in file.parts[-2::-1] if p != "msg"), "")
            texts[f"{package}/msg/{file.stem}"] = read_text(file, Path(folder))
    for name, text in texts.items():
        try:
            store.register(get_types_from_msg(text, name))
        except Exception as error:
            raise UserError(f"--set definitions={folder}: the definition of {name} is not valid") from error
    return store


def _stamp(content: Any) -> float | None:
    """The time of a message's header, or of its own field; 0 counts as none."""
    header = getattr(content, "header", None)
    found = getattr(header, "stamp", None) or getattr(content, "stamp", None) or getattr(content, "timestamp", None)
    seconds, nanoseconds = getattr(found, "sec", None), getattr(found, "nanosec", None)
    if not isinstance(seconds, int) or not isinstance(nanoseconds, int):
        return None
    return seconds + nanoseconds * 1e-9 or None


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn any error of rosbags, which has many kinds for broken files, into a UserError."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).split("\n")[0][:160].rstrip(".!")
        raise UserError(f"{path} cannot be read ({reason})") from error
