"""Small recordings for the data roots named in the guides."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from daydrive.data.table_import import import_table
from helpers.airsim import write_airsim
from helpers.carla_waymo import write_bench2drive, write_waymo
from helpers.drives import write_drive, write_udacity
from helpers.ego_formats import write_argoverse2, write_bdd100k, write_nuplan, write_physicalai
from helpers.l2d import write_l2d
from helpers.nuscenes import SceneSpec, write_nuscenes
from helpers.open_formats import write_csv, write_lerobot, write_tub, write_video
from helpers.openpilot import write_segment
from helpers.recordings import Truth, write_comma2k19, write_odometry
from helpers.ros import write_bag
from helpers.tables import signals, write_images, write_table

SHORT = Truth(15, hz=10)


def several(write: Callable[[Path, int], object]) -> Callable[[Path], None]:
    """A function that writes three recordings below a root."""

    def make(root: Path) -> None:
        for k in range(3):
            write(root, k)

    return make


def write_trip(root: Path, k: int) -> None:
    milliseconds = [100 * i for i in range(15)]
    write_video(root / f"trip{k}.mp4", milliseconds)
    write_csv(root / f"trip{k}.csv", "time,wheel_deg,gas,kmh", [[t / 1000, 100 - t / 7, 0.5, 36] for t in milliseconds])


def write_logs(root: Path, k: int) -> None:
    """A folder with images and a table, and the mapping of all of them."""
    truth = Truth(30, hz=10.0, seed=k, start=0.0)
    write_images(root / f"day{k}/images", truth)
    file = write_table(root / f"day{k}/log.csv", {"time": truth.times, **signals(truth)})
    import_table(file, None, {}, root / "mapping.yaml", overwrite=True)


RECORDINGS: dict[str, Callable[[Path], object]] = {
    "my_drives": several(lambda root, k: write_drive(root / f"day{k}", 15)),
    "recordings/track": lambda root: write_udacity(root, [100 * k for k in range(60)]),
    "second_track": lambda root: write_udacity(root, [70 * k for k in range(60)]),
    "comma2k19": lambda root: write_comma2k19(root / "Chunk_1/a route/0", Truth(60)),
    "kitti/dataset": several(lambda root, k: write_odometry(root, f"{k:02d}", SHORT)),
    "data/nuscenes": lambda root: write_nuscenes(root, [SceneSpec(f"scene-{k:04d}", seconds=2.0) for k in range(1, 5)]),
    "Bench2Drive/v1": several(lambda root, k: write_bench2drive(root / f"A_Town01_Route{k}_Weather1", SHORT)),
    "waymo_v2": several(lambda root, k: write_waymo(root / "training", f"segment-{k}", SHORT)),
    "mycar/data": several(lambda root, k: write_tub(root / f"tub{k}", (30,))),
    "rc_car": lambda root: write_lerobot(root, (12, 12, 12)),
    "rover": lambda root: write_lerobot(root, (12, 12, 12), names=None),
    "L2D": lambda root: write_l2d(root, (12, 12, 12), ("a", "b", "c")),
    "bags": several(lambda root, k: write_bag(root / f"day{k}", Truth(30, hz=10.0, seed=k, start=1.7e9))),
    "car_bags": several(
        lambda root, k: write_bag(root / f"day{k}", Truth(30, hz=10.0, seed=k, start=1.7e9), "mcap", "jpeg", "custom")
    ),
    "my_logs": several(write_logs),
    "routes": several(lambda root, k: write_segment(root / f"0000000{k}--a--0", Truth(40, hz=20.0, start=900.0))),
    "dashcam": several(lambda root, k: write_video(root / f"trip{k}/video.mp4", [100 * i for i in range(15)])),
    "trips": several(write_trip),
    "argoverse2": several(lambda root, k: write_argoverse2(root / "train" / f"log{k}", Truth(30))),
    "nuplan-v1.1": several(lambda root, k: write_nuplan(root, f"2021.05.1{k}.22.00.38_veh-35_00001_00002", SHORT)),
    "bdd100k": several(lambda root, k: write_bdd100k(root, f"clip{k}", SHORT)),
    "physicalai": several(lambda root, k: write_physicalai(root, k, {f"clip{k}": SHORT})),
    "Documents/AirSim": several(lambda root, k: write_airsim(root / f"2020-08-1{k}", SHORT)),
}  # fmt: skip
"""Writers of the recordings by data root."""
