"""nuScenes: store contents of a generated dataset with known motion."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
import tracemalloc
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from daydrive import cli
from daydrive.data.kinematics.ego_motion import rotations_from_quaternions
from daydrive.data.prepare.prepare import prepare
from daydrive.data.quality.check import find_bad_rows
from daydrive.data.sources.nuscenes import splits
from daydrive.data.sources.nuscenes.can import SCENES_WITHOUT_CAN, read_can_bus
from daydrive.data.sources.nuscenes.records import PAGE_SIZE, records
from daydrive.data.sources.nuscenes.scenes import read_scenes
from daydrive.data.store.store import DriveInfo, Store
from daydrive.types import ACTION_NAMES
from helpers.drives import numbers
from helpers.nuscenes import EPOCH, SceneSpec, brake_at, edit, shade, throttle_at, write_nuscenes
from helpers.paths import REPO
from helpers.recordings import WHEELBASE

CAN = {"steering": "steeranglefeedback", "throttle": "zoesensors", "brake": "zoesensors", "motion": "pose"}
POSES = dict.fromkeys(CAN, "ego_pose")
MINI = (
    SceneSpec("scene-0061", 1),
    SceneSpec("scene-0103", 2),
    SceneSpec("scene-0553", 3, can=False),
    SceneSpec("scene-0655", 4, zoe=False),
)


@pytest.fixture(scope="session")
def mini(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of a generated dataset."""
    return write_nuscenes(tmp_path_factory.mktemp("nuscenes"), MINI)


@pytest.fixture(scope="session")
def mini_store(mini: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store.open(prepare("nuscenes", mini, tmp_path_factory.mktemp("stores") / "mini", (36, 64), workers=1))


def prepared(root: Path, **more: object) -> Store:
    target = root.parent / "stores" / str(len(list(root.parent.glob("stores/*"))))
    return Store.open(prepare("nuscenes", root, target, (16, 16), workers=1, **more))


def drive_of(store: Store, name: str) -> tuple[DriveInfo, np.ndarray, dict[str, np.ndarray], np.ndarray]:
    """A drive, its rows, its values and its actions."""
    (drive,) = (drive for drive in store.drives if drive.name == name)
    rows = drive.start + np.arange(drive.frames)
    names = ["time", *store.metadata["values"]]
    return drive, rows, store.read_values(rows, names), store.read_actions(rows)


def made_from(store: Store) -> dict[str, dict[str, str]]:
    return {drive["name"]: drive["made_from"] for drive in store.metadata["drives"]}


def edges_of(scene: SceneSpec, number: int) -> np.ndarray:
    """Times of a scene's images and the end of the last one's interval, s since the scene's start."""
    times = (scene.micros(number) - EPOCH - number * 60_000_000) / 1e6
    return np.append(times, times[-1] + (times[-1] - times[0]) / (len(times) - 1))


def mean_of(values: object, edges: np.ndarray) -> np.ndarray:
    fine = [np.linspace(a, b, 50) for a, b in itertools.pairwise(edges)]
    return np.array([values(t).mean() for t in fine])


def test_frames_times_and_splits(mini_store: Store) -> None:
    store = mini_store
    assert store.hz == 12.0 and store.metadata["camera"] == "CAM_FRONT"
    splits = {drive.name: drive.split for drive in store.drives}
    assert splits.pop("scene-0103") == "test", "the official val"
    assert sorted(splits) == [scene.name for scene in MINI if scene.name != "scene-0103"]
    assert sorted(splits.values()) == ["train", "train", "val"]
    for number, scene in enumerate(MINI):
        drive, rows, values, _ = drive_of(store, scene.name)
        count = len(scene.slots())
        assert drive.frames in (count - 1, count)
        taken = np.arange(drive.frames)
        assert np.array_equal(values["timestamp"], scene.micros(number)[taken]), "every image once, in order"
        assert np.array_equal(values["key_frame"], np.array(scene.slots())[taken] % 10 == 0)
        assert np.allclose(values["time"], taken / 12.0)
        assert np.abs(values["time"] - (values["timestamp"] - values["timestamp"][0]) / 1e6).max() < 0.04
        assert np.abs(np.array(numbers(store, rows)) - [shade(k, 0) for k in taken]).max() <= 3
    file = store.read([0])[0][0]
    assert (
        file
        == next((Path(store.metadata["request"]["data_root"])).glob("samples/CAM_FRONT/*0061*404.jpg")).read_bytes()
    )


@pytest.mark.parametrize("number", [0, 1])
def test_actions_from_the_can_bus(mini_store: Store, number: int) -> None:
    scene = MINI[number]
    drive, _, values, actions = drive_of(mini_store, scene.name)
    assert made_from(mini_store)[scene.name] == CAN
    edges, truth = edges_of(scene, number)[: drive.frames + 1], scene.truth
    wheel = truth.mean(truth.wheel, edges)
    assert np.abs(actions[:, 0] - wheel / 0.5)[:-1].max() < 0.003, "positive to the right"
    assert np.abs(values["steering_angle"] + 16.0 * wheel)[:-1].max() < 0.02, "as recorded, positive to the left"
    for column, name, function, full_scale in (
        (1, "throttle_pedal", throttle_at, 1000),
        (2, "brake_pressure", brake_at, 126),
    ):
        expected = mean_of(function, edges)
        assert np.abs(values[name] - expected)[:-1].max() < 0.012 * full_scale, "at more than 2 Hz"
        assert np.allclose(actions[:, column], np.clip(values[name] / full_scale, 0, 1), atol=1e-6)
    assert (actions[:, 3] == 1).all() and (values["gear_position"] == 7).all()
    assert np.abs(values["speed"] - truth.mean(truth.speed, edges))[3:-3].max() < 0.05
    assert np.abs(values["yaw_rate"] - truth.mean(truth.yaw_rate, edges))[3:-3].max() < 0.02


def test_actions_from_poses(mini_store: Store) -> None:
    scene = MINI[2]
    drive, _, values, actions = drive_of(mini_store, scene.name)
    assert made_from(mini_store)[scene.name] == POSES
    edges, truth = edges_of(scene, 2)[: drive.frames + 1], scene.truth
    zoe = np.arctan(2.588 * np.tan(truth.mean(truth.wheel, edges)) / WHEELBASE) / 0.5
    assert np.abs(actions[:, 0] - zoe)[3:-3].max() < 0.03 and np.corrcoef(actions[:-1, 0], zoe[:-1])[0, 1] > 0.99
    faster = truth.mean(np.gradient(truth.speed, truth.fine), edges)
    assert np.abs(values["acceleration"] - faster)[3:-3].max() < 0.15
    assert np.allclose(
        actions[:, 1:3],
        np.stack([np.clip(values["acceleration"] / 4, 0, 1), np.clip(-values["acceleration"] / 8, 0, 1)], 1),
        atol=0.02,
    )
    assert all(
        np.isnan(values[name]).all() for name in ("steering_angle", "throttle_pedal", "brake_pressure", "gear_position")
    )
    x, right = (truth.at(column, edges[:-1]) for column in truth.position.T)
    assert np.allclose(values["x"], 400 + x, atol=1e-3) and np.allclose(values["y"], 1100 - right, atol=1e-3)
    assert np.allclose(values["heading"], -truth.at(truth.yaw, edges[:-1]), atol=1e-6)
    assert not find_bad_rows(mini_store)


def test_pedals_without_zoesensors(mini_store: Store) -> None:
    assert made_from(mini_store)["scene-0655"] == {**CAN, "throttle": "vehicle_monitor", "brake": "vehicle_monitor"}
    drive, _, values, actions = drive_of(mini_store, "scene-0655")
    edges = edges_of(MINI[3], 3)[: drive.frames + 1]
    wrong = np.abs(values["throttle_pedal"] - mean_of(throttle_at, edges))
    assert 15 < wrong.max() < 60 and np.allclose(actions[:, 1], values["throttle_pedal"] / 1000, atol=1e-6)


def test_actions_can_be_inverted_with_the_metadata(mini_store: Store) -> None:
    meta = mini_store.metadata
    for name in ACTION_NAMES:
        assert set(meta["actions"][name]) == {"unit", "sign", "scale", "converted", "lag"}
        assert set(meta["actions_from_poses"][name]) == {"unit", "sign", "scale", "converted"}
    _, _, values, actions = drive_of(mini_store, "scene-0061")
    ratio, largest = meta["bicycle"]["steering_ratio"], meta["bicycle"]["largest_angle"]
    assert np.allclose(-actions[:, 0] * ratio * largest, values["steering_angle"], atol=1e-5)


def test_missing_messages_are_replaced_by_poses(tmp_path: Path) -> None:
    scenes = [
        SceneSpec("scene-0161", 1),
        SceneSpec("scene-0419", 2),
        SceneSpec("scene-0004", 3),
        SceneSpec("scene-0005", 4),
        SceneSpec("scene-0006", 5),
    ]
    root = write_nuscenes(tmp_path / "raw", scenes, "v1.0-trainval", ("CAM_FRONT",))
    bus = root / "can_bus"
    edit(bus / "scene-0419_vehicle_monitor.json", list.clear)
    edit(bus / "scene-0004_steeranglefeedback.json", lambda m: m.__delitem__(slice(100, 150)))
    (bus / "scene-0004_pose.json").unlink()
    edit(
        bus / "scene-0005_zoesensors.json",
        lambda m: [r.update(brake_sensor=0.2, throttle_sensor=r["utime"] % 7) for r in m],
    )
    edit(bus / "scene-0006_vehicle_monitor.json", lambda m: m.__delitem__(slice(2, 7)))
    store = prepared(root, limit=5)
    pedals = {"throttle": "ego_pose", "brake": "ego_pose"}
    assert made_from(store) == {
        "scene-0161": POSES,
        "scene-0419": {**CAN, **pedals},
        "scene-0004": {**CAN, "steering": "ego_pose", "motion": "ego_pose"},
        "scene-0005": {**CAN, "throttle": "vehicle_monitor", "brake": "vehicle_monitor"},
        "scene-0006": {**CAN, **pedals},
    }
    for scene, number in ((scenes[1], 1), (scenes[2], 2)):
        drive, _, _, actions = drive_of(store, scene.name)
        wheel = scene.truth.mean(scene.truth.wheel, edges_of(scene, number)[: drive.frames + 1])
        assert np.corrcoef(actions[:-1, 0], wheel[:-1])[0, 1] > 0.99, "the sign is the same both ways"


def test_other_cameras(mini: Path, tmp_path: Path) -> None:
    shutil.copytree(mini, tmp_path / "raw")
    store = prepared(tmp_path / "raw", camera="CAM_BACK")
    drive, rows, values, _ = drive_of(store, "scene-0061")
    assert np.abs(np.array(numbers(store, rows)) - [shade(k, 1) for k in range(drive.frames)]).max() <= 3
    assert np.array_equal(values["timestamp"], MINI[0].micros(0)[: drive.frames] + 8000)
    assert store.metadata["camera"] == "CAM_BACK"


def test_key_frames_only(tmp_path: Path) -> None:
    root = write_nuscenes(tmp_path / "raw", MINI[:3], sweeps=False)
    store = prepared(root)
    assert store.hz == 2.0 and {drive.frames for drive in store.drives} == {10}
    _, rows, values, actions = drive_of(store, "scene-0061")
    assert (values["key_frame"] == 1).all() and np.allclose(values["time"], np.arange(10) / 2)
    assert np.abs(np.array(numbers(store, rows)) - [shade(6 * k, 0) for k in range(10)]).max() <= 3
    truth = MINI[0].truth
    assert np.abs(actions[:-1, 0] - truth.mean(truth.wheel, np.arange(10) / 2) / 0.5).max() < 0.005
    shutil.rmtree(root / "can_bus")
    assert np.corrcoef(drive_of(prepared(root), "scene-0061")[3][:, 0], actions[:, 0])[0, 1] > 0.97


def test_another_rate(mini: Path, tmp_path: Path) -> None:
    (tmp_path / "raw").symlink_to(mini)
    store = prepared(tmp_path / "raw", hz=4.0)
    _, _, values, actions = drive_of(store, "scene-0061")
    assert store.hz == 4.0 and np.array_equal(values["timestamp"], MINI[0].micros(0)[::3][: len(values["time"])])
    truth, edges = MINI[0].truth, edges_of(MINI[0], 0)[::3]
    assert np.abs(actions[:-1, 0] - truth.mean(truth.wheel, edges[: len(actions)]) / 0.5).max() < 0.005


def test_lost_image_is_repeated_and_gap_splits_the_drive(tmp_path: Path) -> None:
    scenes = [
        SceneSpec("scene-0061", 1, lost=(31,)),
        SceneSpec("scene-0553", 2, lost=(30, 31, 32, 33)),
        SceneSpec("scene-0655", 3),
    ]
    store = prepared(write_nuscenes(tmp_path / "raw", scenes, cameras=("CAM_FRONT",)), split="by-drive")
    assert sorted(d.name for d in store.drives) == ["scene-0061", "scene-0553.0", "scene-0553.1", "scene-0655"]
    drive, _, values, _ = drive_of(store, "scene-0061")
    assert (
        drive.frames == 59
        and np.abs(values["time"] - (values["timestamp"] - values["timestamp"][0]) / 1e6).max() <= 0.0834
    )
    first, second = (drive_of(store, f"scene-0553.{run}")[2]["timestamp"] for run in (0, 1))
    recorded = scenes[1].micros(1)
    assert np.array_equal(first, recorded[:29]) and np.array_equal(second, recorded[30:][: len(second)])
    assert drive_of(store, "scene-0553.0")[0].split == drive_of(store, "scene-0553.1")[0].split


def test_scenes_that_were_not_downloaded_are_skipped(
    mini: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(mini, tmp_path / "raw")
    for file in (tmp_path / "raw").glob("s*/CAM_FRONT/*scene-0553*"):
        file.unlink()
    store = prepared(tmp_path / "raw")
    assert sorted(drive.name for drive in store.drives) == ["scene-0061", "scene-0103", "scene-0655"]
    assert "1 of 4 scenes are skipped: " in capsys.readouterr().out


def test_splits(tmp_path: Path) -> None:
    scenes = [
        SceneSpec(f"scene-{k:04d}", k, log=f"log{k // 2}", seconds=1.5, can=False)
        for k in (140, 142, 143, 144, 145, 146)
    ]
    root = write_nuscenes(tmp_path / "raw", scenes, "v1.0-test", ("CAM_FRONT",), (8, 16))
    assert {drive.split for drive in prepared(root).drives} == {"test"}
    by_drive = {drive.name: drive.split for drive in prepared(root, split="by-drive").drives}
    assert sorted(set(by_drive.values())) == ["test", "train", "val"]
    assert by_drive["scene-0142"] == by_drive["scene-0143"] and by_drive["scene-0144"] == by_drive["scene-0145"]
    edit(root / "v1.0-test" / "scene.json", lambda records: records[0].update(name="a parking lot"))
    assert len({drive.split for drive in prepared(root).drives}) == 3, "not in the official lists, so split by drive"
    shutil.copytree(root / "v1.0-test", root / "v1.0-mini")
    assert len(prepared(root, version="v1.0-test", split="by-drive").drives) == 6


def test_official_splits_keep_logs_together() -> None:
    names = sorted(splits.OFFICIAL["v1.0-trainval"]["train"] | splits.OFFICIAL["v1.0-trainval"]["val"])
    logs = [str(k // 12) for k in range(len(names))]
    found = splits.official("v1.0-trainval", names, logs, seed=0)
    assert (
        found.count("test") == 150
        and 70 <= found.count("val") <= 82
        and found.count("train") + found.count("val") == 700
    )
    of_log = {}
    for log, split in zip(logs, found, strict=True):
        of_log.setdefault(log, set()).add(split)
    assert not any({"train", "val"} <= group for group in of_log.values())
    assert found == splits.official("v1.0-trainval", names, logs, 0) != splits.official("v1.0-trainval", names, logs, 1)
    assert splits.official("v1.0-mini", ["scene-0061"], ["a"], 0) == ["train"]
    assert sorted(splits.official("v1.0-mini", ["scene-0061", "scene-1100"], ["a", "a"], 0)) == ["train", "val"]


def test_tables_are_read_with_constant_memory(tmp_path: Path) -> None:
    file = tmp_path / "sample_data.json"
    entry = {"token": "a" * 32, "timestamp": EPOCH, "filename": 'sweeps/"} ,{/\\x.jpg', "is_key_frame": False}
    with file.open("w") as stream:
        for k in range(60_000):
            stream.write(("," if k else "[") + json.dumps({**entry, "number": k}, indent=None if k % 100 else 0))
        stream.write("]")
    assert file.stat().st_size > 7 * PAGE_SIZE
    tracemalloc.start()
    assert all(record.fields["number"] == record.number - 1 for record in records(file, tmp_path))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 12 * PAGE_SIZE, "reading it as a whole takes 40"


@pytest.fixture
def devkit(monkeypatch: pytest.MonkeyPatch) -> None:
    """nuscenes-devkit, which cannot be a dependency since it requires numpy < 2: `pip install --no-deps nuscenes-devkit
    pyquaternion cachetools tqdm`. scikit-learn's metrics, which it imports but does not use here, are stubbed."""
    for name in ("sklearn", "sklearn.metrics"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    sys.modules["sklearn"].metrics = sys.modules["sklearn.metrics"]
    pytest.importorskip("nuscenes.nuscenes", reason="nuscenes-devkit is not installed")


def test_matches_the_devkit(devkit: None, mini: Path, mini_store: Store) -> None:
    from nuscenes.can_bus.can_bus_api import NuScenesCanBus
    from nuscenes.nuscenes import NuScenes
    from nuscenes.utils.splits import create_splits_scenes
    from pyquaternion import Quaternion

    reference, bus = NuScenes("v1.0-mini", str(mini), verbose=False), NuScenesCanBus(str(mini))
    for camera in ("CAM_FRONT", "CAM_BACK"):
        scenes = read_scenes(mini, "v1.0-mini", camera)
        assert [scene.name for scene in scenes] == [record["name"] for record in reference.scene]
        for scene, record in zip(scenes, reference.scene, strict=True):
            chain = [
                reference.get("sample_data", reference.get("sample", record["first_sample_token"])["data"][camera])
            ]
            while chain[-1]["next"]:
                chain.append(reference.get("sample_data", chain[-1]["next"]))
            assert scene.tokens == [data["token"] for data in chain] and not chain[0]["prev"]
            assert scene.micros.tolist() == [data["timestamp"] for data in chain]
            assert scene.key_frames.tolist() == [data["is_key_frame"] for data in chain]
            assert [str(mini / file) for file in scene.files] == [
                reference.get_sample_data_path(t) for t in scene.tokens
            ]
            poses = [reference.get("ego_pose", data["ego_pose_token"]) for data in chain]
            assert np.array_equal(scene.positions, [pose["translation"] for pose in poses])
            rotations = [Quaternion(pose["rotation"]).rotation_matrix for pose in poses]
            assert np.allclose(rotations_from_quaternions(scene.quaternions), rotations, atol=1e-12)
            if camera == "CAM_FRONT":
                values = drive_of(mini_store, scene.name)[2]
                at = [scene.micros.tolist().index(t) for t in values["timestamp"]]
                assert at == list(range(len(at))), "the store has the same frames in the same order"
                yaw = [Quaternion(pose["rotation"]).yaw_pitch_roll[0] for pose in poses]
                assert np.allclose(values["heading"], np.array(yaw)[at]) and np.array_equal(
                    values["x"], scene.positions[at, 0]
                )
    for message, read in (("steeranglefeedback", "steering"), ("pose", "speed")):
        messages = bus.get_messages("scene-0061", message)
        (signal,) = getattr(read_can_bus(mini, "scene-0061", EPOCH), read)
        assert np.allclose(signal.times, [(m["utime"] - EPOCH) / 1e6 for m in messages])
        assert signal.values.tolist() == [m["value"] if message != "pose" else m["vel"][0] for m in messages]
    assert {f"scene-{number:04d}" for number in bus.can_blacklist} == SCENES_WITHOUT_CAN
    lists = create_splits_scenes()
    for version, short in (("v1.0-trainval", ""), ("v1.0-mini", "mini_"), ("v1.0-test", "")):
        for split, names in splits.OFFICIAL[version].items():
            assert names == set(lists[short + split])


@pytest.mark.slow
def test_guide_commands_and_training(
    mini: Path, here: Path, tiny_config: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (here / "data").mkdir()
    (here / "data" / "nuscenes").symlink_to(mini)

    def run(script: str, *arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", [script, *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main(script)
        out, err = capfd.readouterr()
        assert ended.value.code == 0, err
        return out

    command = [sys.executable, REPO / "scripts" / "prepare_dataset.py", "--dataset", "nuscenes"]
    script = subprocess.run(
        [*command, "--data-root", "data/nuscenes"], cwd=here, capture_output=True, text=True, check=False
    )
    assert script.returncode == 0 and "store: data/processed/nuscenes" in script.stdout, script.stderr
    store = Store.open(here / "data" / "processed" / "nuscenes")
    assert store.image_size == (256, 256)
    run("prepare-dataset", *command[2:], "--data-root", "data/nuscenes", "--image-size", "64", "64", "--overwrite")
    store = Store.open(store.path)
    assert store.image_size == (64, 64) and {drive.split for drive in store.drives} == {"train", "val", "test"}
    settings = ("training.max_steps=2", "training.gradient_accumulation=1", "--device", "cpu", "--run-dir", "run")
    run("train", "--config", tiny_config, "--data-root", "data/processed/nuscenes", *settings)
    run("evaluate", "--checkpoint", "run", "--data-root", "data/processed/nuscenes", "--device", "cpu", "--output", "r")
    assert any(file.suffix == ".json" for file in (here / "r").rglob("*"))
