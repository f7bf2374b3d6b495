"""Registry of data sources: the built-in ones and those of other packages."""

from __future__ import annotations

from daydrive.data.sources import plugins
from daydrive.data.sources.airsim import AirSimSource
from daydrive.data.sources.argoverse2 import Argoverse2Source
from daydrive.data.sources.base import Option, Options, Source, action, read_options
from daydrive.data.sources.bdd100k import Bdd100kSource
from daydrive.data.sources.carla import CarlaSource
from daydrive.data.sources.comma2k19 import Comma2k19Source
from daydrive.data.sources.donkeycar import DonkeycarSource
from daydrive.data.sources.folder import FolderSource
from daydrive.data.sources.gym import GymSource
from daydrive.data.sources.kitti import KittiSource
from daydrive.data.sources.lerobot import LeRobotSource
from daydrive.data.sources.mapped import TableSource
from daydrive.data.sources.nuplan import NuPlanSource
from daydrive.data.sources.nuscenes import NuScenesSource
from daydrive.data.sources.openpilot import OpenpilotSource
from daydrive.data.sources.physicalai import PhysicalAISource
from daydrive.data.sources.road import RoadSource
from daydrive.data.sources.rosbag import RosbagSource
from daydrive.data.sources.udacity import UdacitySource
from daydrive.data.sources.video import VideoSource
from daydrive.data.sources.waymo import WaymoSource
from daydrive.errors import UserError, did_you_mean

_ALL: tuple[Source, ...] = (
    RoadSource(),
    GymSource(),
    UdacitySource(),
    Comma2k19Source(),
    OpenpilotSource(),
    KittiSource(),
    NuScenesSource(),
    CarlaSource(),
    WaymoSource(),
    DonkeycarSource(),
    LeRobotSource(),
    RosbagSource(),
    TableSource(),
    VideoSource(),
    FolderSource(),
    AirSimSource(),
    Argoverse2Source(),
    NuPlanSource(),
    Bdd100kSource(),
    PhysicalAISource(),
)
SOURCES: dict[str, Source] = {source.name: source for source in _ALL}
"""The built-in sources by name."""

__all__ = ["SOURCES", "Option", "Options", "Source", "action", "get", "names", "read_options"]


def names() -> list[str]:
    """The names of all datasets, built-in ones first. Does not import other packages."""
    return [*SOURCES, *(name for name in plugins.registered() if name not in SOURCES)]


def get(name: str) -> Source:
    """The source of this name.

    Raises UserError if there is none (with the closest name), or if another package's source cannot be loaded or its
    name is already taken.
    """
    registered = plugins.registered()
    if name in registered:
        return plugins.load(registered[name], SOURCES)
    if name not in SOURCES:
        raise UserError(f"there is no dataset '{name}'{did_you_mean(name, names())}")
    return SOURCES[name]
