"""`daydrive record`: synchronized images, actions and poses, a restored world, complete drives."""

from __future__ import annotations

import csv
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import simplejpeg

from daydrive import cli
from daydrive.data.prepare.prepare import prepare
from daydrive.data.store.store import Store
from daydrive.recording.carla import camera, drivers, session
from daydrive.recording.carla.client import ROLE
from helpers import fake_carla
from helpers.fake_carla import Camera, Controller, Server, Vehicle, VehicleControl, client_of
from helpers.refusals import Refuse

OPTIONS = {"drives": 2, "frames": 14, "vehicles": 3, "walkers": 2, "seed": 5}
COMMAND = ["record", "--env", "carla", "--image-size", 16, 24]
COMMAND += [word for name, value in OPTIONS.items() for word in (f"--{name}", value)]
WARM_UP = 20


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    found = Server()
    monkeypatch.setitem(sys.modules, "carla", client_of(found))
    monkeypatch.setattr(camera, "TIMEOUT", 5.0)
    return found


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    def run(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["daydrive", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return int(ended.value.code or 0)

    return run


def rows_of(drive: Path) -> dict[str, np.ndarray]:
    with (drive / "actions.csv").open() as file:
        table = list(csv.DictReader(file))
    return {name: np.array([float(row[name]) for row in table]) for name in table[0]}


def content(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


def is_restored(server: Server) -> bool:
    return (
        not server.settings.synchronous_mode and server.settings.fixed_delta_seconds is None
        and not server.manager.synchronous and server.weather.name == "before" and not server.alive()
    )  # fmt: skip


def test_a_recording_of_carla(server: Server, call: Callable[..., int], tmp_path: Path) -> None:
    output = tmp_path / "new" / "carla"
    assert call(*COMMAND, "--drives", 3, "--frames", 30, "--weather", "random", "--output", output) == 0
    assert sorted(os.listdir(output)) == ["drive_00000", "drive_00001", "drive_00002"] and is_restored(server)
    for drive in output.iterdir():
        rows, note = rows_of(drive), json.loads((drive / "drive.json").read_text())
        frames = rows["world_frame"].astype(int)
        assert len(frames) == note["frames"] == 30 == len(list((drive / "images").iterdir()))
        assert (np.diff(frames) == 1).all() and np.allclose(rows["time"], 0.1 * np.arange(30), atol=1e-6)
        car = next(v for v in server.actors if isinstance(v, Vehicle) and v.id in server.applied[frames[0]])
        given = [server.applied[frame + 1][car.id] for frame in frames]
        assert np.allclose(rows["steering"], [c.steer for c in given], atol=1e-6), "the control up to the next frame"
        assert np.allclose(rows["throttle"], [c.throttle for c in given], atol=1e-6) and (rows["gear"] == 1).all()
        turned = np.diff(np.unwrap(np.radians(rows["yaw"]))) / 0.1
        assert np.corrcoef(turned, rows["steering"][:-1])[0, 1] > 0.999, "steering and yaw are positive to the right"
        assert np.allclose(rows["yaw_rate"][1:], turned, atol=1e-4) and np.allclose(rows["speed"], 8.0, atol=1e-5)
        for k, file in enumerate(sorted((drive / "images").iterdir())):
            red, green, blue = simplejpeg.decode_jpeg(file.read_bytes())[8, 12].astype(int)
            assert abs(red - frames[k] % 16 * 16) < 4 and green < 6 and abs(blue - 200) < 6
        assert note["vehicles"] == 3 and note["walkers"] == 2 and note["lost"] == 0 and note["town"] == "Town10HD_Opt"
        assert note["weather"] in ("ClearNoon", "HardRainNoon", "WetSunset") and note["settings"]["seed"] == 5
    assert len({(drive / "actions.csv").read_bytes() for drive in output.iterdir()}) == 3
    read = {}
    for dataset in ("carla", "folder"):
        store = Store.open(prepare(dataset, output, tmp_path / dataset, (64, 64), workers=1))
        assert store.hz == 10.0 and sorted(d.split for d in store.drives) == ["test", "train", "val"]
        read[dataset] = store.read_actions(np.arange(store.rows))
    assert np.array_equal(read["carla"], read["folder"])
    carla_values = Store.open(tmp_path / "carla").read_values(np.arange(30), ["speed", "heading", "x"])
    assert np.allclose(carla_values["speed"], 8.0, atol=1e-5) and np.ptp(carla_values["x"]) > 5


def test_interrupted_recording_resumes_with_missing_drives(
    server: Server, call: Callable[..., int], tmp_path: Path
) -> None:
    whole = tmp_path / "whole"
    assert call(*COMMAND, "--output", whole) == 0
    before = {path: data for path, data in content(whole).items() if "json" not in path}

    def stop(ticks: int) -> None:
        if ticks == stop_at:
            server.on_tick = lambda ticks: None
            assert server.alive(Camera) and len(list(output.glob("[!.]*/actions.csv"))) == 1
            os.kill(os.getpid(), signal.SIGTERM if terminated else signal.SIGINT)

    signal.signal(signal.SIGINT, signal.default_int_handler)  # pytest-xdist's workers ignore it
    for terminated in (False, True):
        output = tmp_path / f"broken-{terminated}"
        stop_at = server.ticks + 1 + WARM_UP + 15 + 1 + 1 + WARM_UP + 7
        server.on_tick = stop
        assert call(*COMMAND, "--output", output) == cli.INTERRUPTED and is_restored(server)
        assert os.listdir(output) == ["drive_00000"]
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
        (output / ".drive_00001.77.tmp" / "images").mkdir(parents=True)
        server.on_tick = lambda ticks: None
        assert call(*COMMAND, "--output", output) == 0
        assert sorted(os.listdir(output)) == ["drive_00000", "drive_00001"]
        again = {path: data for path, data in content(output).items() if "json" not in path}
        assert again.keys() == before.keys()
        for path in (path for path in again if path.endswith("csv")):
            resumed, reference = rows_of(output / Path(path).parent), rows_of(whole / Path(path).parent)
            assert all(np.array_equal(resumed[name], reference[name]) for name in resumed if name != "world_frame")
    ticks = server.ticks
    assert call(*COMMAND, "--output", whole) == 0 and server.ticks == ticks


def test_lost_images_are_skipped(server: Server, call: Callable[..., int], tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(camera, "TIMEOUT", 0.5)
    first = server.frame + 1 + WARM_UP + 1
    server.lost = {first + 3, first + 7, first + 8}
    assert call(*COMMAND, "--drives", 1, "--output", tmp_path / "out") == 0
    rows = rows_of(tmp_path / "out" / "drive_00000")
    frames = rows["world_frame"].astype(int)
    assert sorted(set(range(first, frames[-1] + 1)) - set(frames)) == sorted(server.lost)
    assert np.allclose(rows["time"], (frames - first) * 0.1, atol=1e-6)
    car = next(v for v in server.actors if isinstance(v, Vehicle))
    expected = np.mean([server.applied[first + k][car.id].steer for k in (3, 4)])
    assert abs(rows["steering"][2] - expected) < 1e-6, "the mean of both ticks"
    assert json.loads((tmp_path / "out" / "drive_00000" / "drive.json").read_text())["lost"] == 3


def test_low_rates_use_several_ticks_per_frame(server: Server, call: Callable[..., int], tmp_path: Path) -> None:
    server.reverse = True
    assert call(*COMMAND, "--drives", 1, "--hz", 4, "--output", tmp_path / "out") == 0
    rows = rows_of(tmp_path / "out" / "drive_00000")
    assert set(server.deltas) == {1 / 12} and np.allclose(np.diff(rows["time"]), 0.25, atol=1e-6)
    frames = rows["world_frame"].astype(int)
    car = next(v for v in server.actors if isinstance(v, Vehicle))
    steer = [np.mean([server.applied[frame + k][car.id].steer for k in (1, 2, 3)]) for frame in frames]
    assert np.allclose(rows["steering"], steer, atol=1e-6)
    assert (rows["gear"] == -1).all() and (rows["speed"] < 0).all()


def test_agent_as_driver(server: Server, call: Callable[..., int], tmp_path: Path, monkeypatch) -> None:
    agents = []

    class BehaviorAgent:
        def __init__(self, vehicle: Vehicle) -> None:
            self.vehicle, self.targets, self.steps = vehicle, [], 0
            agents.append(self)

        def set_destination(self, location: object) -> None:
            self.targets.append(location)

        def done(self) -> bool:
            return self.steps % 10 == 9

        def run_step(self) -> VehicleControl:
            self.steps += 1
            return VehicleControl(0.3, -0.2, 0.1)

    module = ModuleType("agents.navigation.behavior_agent")
    module.BehaviorAgent = BehaviorAgent
    for name in ("agents", "agents.navigation"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    assert call(*COMMAND, "--drives", 1, "--driver", "behavior", "--town", "Town02", "--output", tmp_path / "out") == 0
    rows = rows_of(tmp_path / "out" / "drive_00000")
    assert np.allclose(rows["steering"], -0.2) and np.allclose(rows["brake"], 0.1) and len(agents[0].targets) >= 3
    assert (np.diff(rows["yaw"]) < 0).all() and server.town == "Town02" and is_restored(server)


def test_leftovers_of_a_killed_recording_are_removed(server: Server, call: Callable[..., int], tmp_path: Path) -> None:
    world = sys.modules["carla"].Client("localhost", 2000).get_world()
    blueprint = world.get_blueprint_library().find("vehicle.audi.tt")
    foreign = world.try_spawn_actor(blueprint, server.points[0])
    blueprint.set_attribute("role_name", ROLE)
    leftover = world.try_spawn_actor(blueprint, server.points[1])
    server.settings.synchronous_mode, server.settings.fixed_delta_seconds = True, 0.1
    assert call(*COMMAND, "--drives", 1, "--output", tmp_path / "out") == 0
    assert not leftover.alive and server.alive() == [foreign] and not server.settings.synchronous_mode
    server.settings.synchronous_mode = True
    assert call(*COMMAND, "--drives", 1, "--output", tmp_path / "again") == 0
    assert server.settings.synchronous_mode, "set by another client"


def die_at(server: Server, ticks: int) -> None:
    def die(done: int) -> None:
        server.running = done < ticks

    server.on_tick = die


@pytest.mark.parametrize(
    ("plant", "arguments", "expected"),
    [
        (
            lambda s: setattr(s, "running", False),
            (),
            "no CARLA server responds at localhost:2000 within 20 s; start",
        ),
        (lambda s: setattr(s, "running", False), ("--host", "box", "--port", 3), "no CARLA server responds at box:3"),
        (lambda s: None, ("--town", "Town1"), "--town Town1: the server has no such map; did you mean 'Town01'"),
        (lambda s: None, ("--weather", "ClearMoon"), "no such weather; did you mean 'ClearNoon'"),
        (lambda s: None, ("--driver", "autopilt"), "no such driver; did you mean 'autopilot'"),
        (lambda s: None, ("--driver", "basic"), "--driver basic needs the agents distributed with the simulator"),
        (lambda s: None, ("--vehicle", "vehicle.bmw"), "--vehicle vehicle.bmw: the server has no such blueprint"),
        (lambda s: None, ("--image-size", "4", "9999"), "--image-size 4 9999: it is from 8 to 4096"),
        (lambda s: setattr(s, "blocked", True), (), "none of the 12 spawn points of Town10HD_Opt is free"),
        (lambda s: setattr(s, "points", []), (), "none of the 0 spawn points"),
        (lambda s: setattr(s, "jump", 2), (), "advanced from frame [0-9]+ to [0-9]+ in one tick: another client"),
        (lambda s: s.lost.update(range(9999)), (), "the camera sent no image for 5 consecutive frames up to"),
        (lambda s: die_at(s, 12), (), "request to the CARLA server at localhost:2000 failed .time-out of 20000ms"),
        (
            lambda s: sys.modules.__setitem__("carla", None),
            (),
            "needs its Python client.*pip install 'daydrive.carla.'",
        ),
        (lambda s: None, ("--drives", "0"), "drives"),
        (lambda s: None, ("--hz", "nan"), "hz"),
    ],
)
def test_user_errors(
    plant: Callable[[Server], object], arguments: tuple[object, ...], expected: str, server: Server, refuse: Refuse,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(camera, "TIMEOUT", 0.05 if "camera" in expected else 5.0)
    monkeypatch.setattr(session, "WARM_UP", 0.2)
    monkeypatch.setattr(drivers, "AGENTS", {"basic": ("no_such_agent", "BasicAgent")})
    plant(server)
    refuse(*COMMAND, "--output", "new/out", *arguments, message=expected)
    assert not server.running or is_restored(server)


def test_output_of_another_recording(server: Server, call: Callable[..., int], refuse: Refuse, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert call(*COMMAND, "--drives", 1, "--output", out) == 0
    refuse(
        *COMMAND, "--output", out, "--fov", 60, message="_00000 was recorded with fov 90.0, not 60.0; choose another"
    )
    (out / "drive_00000" / "drive.json").write_text("{}")
    refuse(*COMMAND, "--output", out, message="drive.json has no settings of the recording")
    (out / "drive_00000" / "drive.json").unlink()
    refuse(*COMMAND, "--output", out, message="drive_00000 is not a recording")
    (tmp_path / "file").write_text("")
    refuse(*COMMAND, "--output", tmp_path / "file", message="is a file; give a folder")


def test_walkers_have_destinations(server: Server, tmp_path: Path, call: Callable[..., int]) -> None:
    assert call(*COMMAND, "--drives", 1, "--output", tmp_path / "out") == 0
    controllers = [actor for actor in server.actors if isinstance(actor, Controller)]
    assert len(controllers) == 2 and all(controller.target is not None for controller in controllers)


def test_gymnasium_environments(call: Callable[..., int], refuse: Refuse, tmp_path: Path, here: Path) -> None:
    command = ("record", "--env", "daydrive/Road-v0", "--drives", 3, "--frames", 12)
    assert call(*command) == 0
    folder = here / "data" / "recorded" / "Road-v0"
    assert len(list(folder.iterdir())) == 3
    store = Store.open(prepare("folder", folder, tmp_path / "store", (32, 32), workers=1))
    assert store.rows == 36 and store.hz == 10.0 and np.ptp(store.read_actions(np.arange(12))[:, 0]) > 0.05
    refuse(*command, "--seed", 4, message="Road-v0_00000 was recorded with seed 0, not 4")
    refuse(*command, "--town", "Town01", message="--town is for --env carla, and this is daydrive/Road-v0")
    refuse("record", "--env", "Raod-v0", message="no environment 'Raod-v0'")


def test_fake_client_has_the_interface_of_the_real_one() -> None:
    carla = pytest.importorskip("carla", reason="CARLA's client is not installed")
    kinds = {
        fake_carla.Server: (carla.World, "world_"),
        fake_carla.TrafficManager: (carla.TrafficManager, ""),
        fake_carla.Vehicle: (carla.Vehicle, ""),
        fake_carla.Camera: (carla.Sensor, ""),
        fake_carla.Controller: (carla.WalkerAIController, ""),
        fake_carla.Blueprint: (carla.ActorBlueprint, ""),
        fake_carla.Library: (carla.BlueprintLibrary, ""),
        fake_carla.Transform: (carla.Transform, ""),
        type(client_of(Server()).Client("localhost", 2000)): (carla.Client, ""),
    }
    extra = {"decide", "move", "alive", "check"} | set(dir(list))
    for kind, (real, prefix) in kinds.items():
        names = {name.removeprefix(prefix) for name in dir(kind) if name.startswith(prefix) and name[0] != "_"} - extra
        data = {name for name in names if not callable(getattr(kind, prefix + name))}
        assert not (names - data) - set(dir(real)), real
    assert carla.command.DestroyActor and carla.VehicleControl().reverse is False and carla.Location(x=1.0, z=2.0)


def test_real_client_without_a_server(refuse: Refuse) -> None:
    pytest.importorskip("carla", reason="CARLA's client is not installed")
    refuse(
        *COMMAND, "--port", 2999, "--timeout", 0.3, message="no CARLA server responds at localhost:2999 within 0.3 s"
    )
