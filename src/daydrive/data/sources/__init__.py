"""Raw formats by name: daydrive's own, and those that other packages register."""

from __future__ import annotations

from daydrive.data.sources import plugins
from daydrive.data.sources.base import Option, Options, Source, action, read_options
from daydrive.data.sources.carla import CarlaSource
from daydrive.data.sources.comma2k19 import Comma2k19Source
from daydrive.data.sources.donkeycar import DonkeycarSource
from daydrive.data.sources.folder import FolderSource
from daydrive.data.sources.gym import GymSource
from daydrive.data.sources.kitti import KittiSource
from daydrive.data.sources.lerobot import LeRobotSource
from daydrive.data.sources.nuscenes import NuScenesSource
from daydrive.data.sources.road import RoadSource
from daydrive.data.sources.udacity import UdacitySource
from daydrive.data.sources.video import VideoSource
from daydrive.data.sources.waymo import WaymoSource
from daydrive.errors import UserError, did_you_mean

_ALL: tuple[Source, ...] = (
    RoadSource(),
    GymSource(),
    UdacitySource(),
    Comma2k19Source(),
    KittiSource(),
    NuScenesSource(),
    CarlaSource(),
    WaymoSource(),
    DonkeycarSource(),
    LeRobotSource(),
    VideoSource(),
    FolderSource(),
)
SOURCES: dict[str, Source] = {source.name: source for source in _ALL}
"""daydrive's own."""

__all__ = ["SOURCES", "Option", "Options", "Source", "action", "get", "names", "read_options"]


def names() -> list[str]:
    """Of all datasets, daydrive's own first; nothing is loaded."""
    return [*SOURCES, *(name for name in plugins.registered() if name not in SOURCES)]


def get(name: str) -> Source:
    """The source of this name; UserError with the nearest one where there is none, and where another package
    registers one that can't be loaded or has a name that is taken."""
    registered = plugins.registered()
    if name in registered:
        return plugins.load(registered[name], SOURCES)
    if name not in SOURCES:
        raise UserError(f"there is no dataset '{name}'{did_you_mean(name, names())}")
    return SOURCES[name]
