"""`daydrive record`: record drives in CARLA, any Gymnasium environment, or of a policy in the road simulator."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from daydrive.cli.options import app
from daydrive.errors import UserError, did_you_mean

CARLA, ROAD = "carla", "road"


@app.command()
def record(
    env: Annotated[str, typer.Option(help="carla, road, or the id of a Gymnasium environment such as CarRacing-v3")],
    output: Annotated[Path | None, typer.Option(help="folder; default: data/recorded/ENV")] = None,
    drives: Annotated[int, typer.Option(min=1, help="number of drives")] = 24,
    frames: Annotated[int, typer.Option(min=2, help="frames per drive")] = 600,
    policy: Annotated[Path | None, typer.Option(help="road: policy.safetensors of `daydrive learn-policy`")] = None,
    hz: Annotated[float | None, typer.Option(min=0.1, max=100, help="frame rate; default: about 10")] = None,
    seed: Annotated[int, typer.Option(min=0, help="of route, traffic and driving style")] = 0,
    image_size: Annotated[tuple[int, int] | None, typer.Option(metavar="H W", help="carla: default 256 256")] = None,
    fov: Annotated[float | None, typer.Option(min=10, max=170, help="carla: horizontal, degrees; default: 90")] = None,
    town: Annotated[str | None, typer.Option(help="carla: map; default: the loaded one")] = None,
    weather: Annotated[str | None, typer.Option(help="carla: a preset such as ClearNoon, or random")] = None,
    vehicles: Annotated[int | None, typer.Option(min=0, help="carla: number in traffic; default: 40")] = None,
    walkers: Annotated[int | None, typer.Option(min=0, help="carla: number; default: 20")] = None,
    vehicle: Annotated[str | None, typer.Option(help="carla: blueprint; default: vehicle.tesla.model3")] = None,
    driver: Annotated[str | None, typer.Option(help="carla: autopilot (default), behavior or basic")] = None,
    host: Annotated[str | None, typer.Option(help="carla: server; default: localhost")] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="carla: server port; default: 2000")] = None,
    traffic_port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="carla: traffic manager port; default: 8000")
    ] = None,
    timeout: Annotated[float | None, typer.Option(min=0.1, help="carla: for a response, seconds; default: 20")] = None,
) -> None:
    """Record drives in CARLA, a Gymnasium environment, or of a policy in the road simulator.

    Writes folders of images and actions, for the dataset `folder` or `carla`. Each drive is written atomically;
    running the same command again records the missing drives.
    """
    folder = output or Path("data") / "recorded" / env.rsplit("/", 1)[-1]
    options = {
        "image_size": image_size, "fov": fov, "town": town, "weather": weather, "vehicles": vehicles,
        "walkers": walkers, "vehicle": vehicle, "driver": driver, "host": host, "port": port,
        "traffic_port": traffic_port, "timeout": timeout,
    }  # fmt: skip
    given = {name: value for name, value in options.items() if value is not None}
    try:
        if env == CARLA and policy is None:
            recorded = _carla(folder, drives, {**given, "frames": frames, "hz": hz or 10.0, "seed": seed})
        elif env == ROAD or policy is not None:
            recorded = _road(env, folder, policy, drives, frames, hz, seed, given)
        else:
            recorded = _gym(env, folder, drives, frames, hz, seed, given)
    except KeyboardInterrupt:
        print(f"Interrupted; the same command records the drives that are missing in {folder}.")
        raise
    print(f"{folder}: {recorded} drives recorded, {drives - recorded} existed already")


def _carla(folder: Path, drives: int, options: dict[str, Any]) -> int:
    from daydrive.files import check_folder
    from daydrive.recording.carla import CarlaSettings, connected
    from daydrive.recording.carla.drivers import DRIVERS
    from daydrive.recording.recorder import record as record_drives

    settings = CarlaSettings(**options)
    if settings.driver not in DRIVERS:
        raise UserError(f"--driver {settings.driver}: there is no such driver{did_you_mean(settings.driver, DRIVERS)}")
    if min(settings.image_size) < 8 or max(settings.image_size) > 4096:
        raise UserError(f"--image-size {settings.image_size[0]} {settings.image_size[1]}: it is from 8 to 4096")
    check_folder(folder, "output of the recording")
    with connected(settings) as session:
        return record_drives(session.planned_drives(drives), folder, settings.as_json(session.town))


def _road(
    env: str,
    folder: Path,
    policy: Path | None,
    drives: int,
    frames: int,
    hz: float | None,
    seed: int,
    given: dict[str, Any],
) -> int:
    from daydrive.decisions.policy.recording import planned_drives
    from daydrive.recording.recorder import record as record_drives

    if env not in (ROAD, "daydrive/Road-v0"):
        raise UserError(f"--policy drives in the road simulator: give --env road, not {env}")
    if policy is None:
        raise UserError(
            "--env road records a policy: give --policy FILE; the scripted driver's drives are the dataset 'road' of "
            "`daydrive prepare-dataset`"
        )
    if hz is not None or given:
        name = next(iter(given), "hz").replace("_", "-")
        raise UserError(f"--{name} is not for --env road, whose images and rate are those of the policy")
    planned, settings = planned_drives(policy, drives, frames, seed)
    return record_drives(planned, folder, settings)


def _gym(env: str, folder: Path, drives: int, frames: int, hz: float | None, seed: int, given: dict[str, Any]) -> int:
    from daydrive.recording import gym
    from daydrive.recording.recorder import record as record_drives

    if given:
        raise UserError(f"--{next(iter(given)).replace('_', '-')} is for --env carla, and this is {env}")
    settings = {"env": env, "frames": frames, "hz": hz, "seed": seed}
    return record_drives(gym.planned_drives(env, drives, frames, hz, seed), folder, settings)
