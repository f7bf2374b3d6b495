"""Drivers in the true road simulator, on roads that no recorded drive has seen.

The measures are means over the time of a drive; their intervals are over roads, since the moments of one road are not
independent.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from daydrive.envs.road import RoadEnv
from daydrive.envs.road.env import HZ
from daydrive.envs.road.vehicle import FULL_BRAKE, WHEELBASE, engine_acceleration, full_lock, resistance
from daydrive.envs.world_model.rewards import HALF_LANE
from daydrive.errors import UserError
from daydrive.evaluation.metrics.intervals import bootstrap, interval

Action = npt.NDArray[np.float32]
"""(4,), see `daydrive.types.ACTION_NAMES`."""

Values = npt.NDArray[np.float64]

FIRST_ROAD = {"test": 2**32, "val": 2**32 + 10**6}
"""Seeds of the first unseen roads. The seeds of recorded drives (`daydrive.data.sources.road`) are below 2**32."""

SPEED_GAIN = 2.0
"""Acceleration per m/s of missing speed, 1/s."""

MEASURES = ("lane_share", "off_road_share", "lane_error", "speed_error", "progress", "jerk", "steering_rate")


class Task(NamedTuple):
    """target_speed: m/s. hz: decisions a second. seed: for drivers with random numbers, another one for each road."""

    target_speed: float
    hz: float
    seed: int


class Observation(NamedTuple):
    """What a driver decides from.

    images: uint8 (F, 3, H, W), the newest last, with F = `Driver.frames`; actions: float32 (F-1, 4), between them;
    both are empty for F = 0. info, state: of `RoadEnv`, for drivers that know the simulator.
    """

    images: Tensor
    actions: Tensor
    info: dict[str, Any]
    state: dict[str, Any]


class Driver(Protocol):
    """Any policy, planner or script.

    frames: number of newest frames that it sees, at least 0; before its first decision the car has been driven for as
    many.
    """

    frames: int

    def reset(self, task: Task) -> None:
        """Prepare for a new road."""

    def act(self, observation: Observation) -> Action:
        """The action until the next frame."""


class Displacement(NamedTuple):
    """Where a drive starts: m from the middle of the right lane and degrees from its direction; right is positive."""

    lateral: float = 0.0
    heading: float = 0.0


class RoadResult(NamedTuple):
    """How a driver drove on one road.

    lane_share: share of the time with the middle of the car in the right lane; off_road_share: with it beside the
    asphalt. A drive that ends early, far from the road, counts as beside the asphalt for the rest of the time.
    lane_error: mean distance from the middle of the lane, m; speed_error: mean absolute, m/s; progress: distance along
    the road, as a share of that at the target speed; jerk: mean absolute, m/s³; steering_rate: mean absolute change of
    the steering, 1/s; collisions: number of steps with one. ms_per_decision, cpu_ms_per_decision: mean time of
    `Driver.act`, by the clock and of the processor, which other programs do not lengthen by waiting. lane_offset,
    speed, x, y: after each step, (T,), in m and m/s. frames: uint8 (T, 3, H, W) after each step, if recorded.
    """

    road: int
    lane_share: float
    off_road_share: float
    lane_error: float
    speed_error: float
    progress: float
    jerk: float
    steering_rate: float
    collisions: int
    ms_per_decision: float
    cpu_ms_per_decision: float
    lane_offset: Values
    speed: Values
    x: Values
    y: Values
    frames: Tensor | None


def unseen_roads(count: int, split: str = "test") -> list[int]:
    """Seeds of roads that no store has drives of; those of 'val' are for the choice of settings."""
    return [FIRST_ROAD[split] + k for k in range(count)]


def drive_closed_loop(
    driver: Driver,
    roads: Sequence[int],
    seconds: float = 20.0,
    target_speed: float = 8.0,
    *,
    displacement: Displacement = Displacement(),  # noqa: B008
    image_size: tuple[int, int] = (64, 64),
    frame_skip: int = 1,
    seed: int = 0,
    record: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[RoadResult]:
    """Drive on each road, from the target speed (m/s) at a displacement from the middle of the lane.

    frame_skip: steps of the simulator, at 10 Hz, for which an action is held. record: whether the results have the
    frames. progress: called after each road with the roads done and in total. The same seed gives the same drives.

    Raises UserError for a speed, a time or a displacement that the simulator does not have.
    """
    if not 1 <= target_speed <= 25:
        raise UserError(f"the target speed has to be from 1 to 25 m/s, not {target_speed:g}")
    if not seconds * HZ >= frame_skip:
        raise UserError(f"a drive of {seconds:g} s has no step")
    if not (abs(displacement.lateral) <= 6 and abs(displacement.heading) <= 45):
        raise UserError(f"a start has to be within 6 m and 45° of the lane, not {displacement}")
    env, results = RoadEnv(image_size), list[RoadResult]()
    for done, road in enumerate(roads, start=1):
        driver.reset(
            Task(target_speed, HZ / frame_skip, int(np.random.SeedSequence([seed, road]).generate_state(1)[0]))
        )
        drive = _Drive(env, driver.frames, target_speed, frame_skip, record)
        drive.start(road, displacement)
        steps = round(seconds * HZ / frame_skip)
        while not drive.ended and len(drive.infos) <= steps:
            drive.step(driver)
        results.append(drive.result(road, steps))
        progress(done, len(roads))
    return results


def first_observation(
    road: int,
    frames: int,
    target_speed: float,
    displacement: Displacement,
    image_size: tuple[int, int] = (64, 64),
    frame_skip: int = 1,
) -> Observation:
    """What a driver of `frames` frames sees before its first decision in `drive_closed_loop`."""
    drive = _Drive(RoadEnv(image_size), frames, target_speed, frame_skip, record=False)
    drive.start(road, displacement)
    return drive.observation()


def summarize(results: Sequence[RoadResult]) -> dict[str, Any]:
    """Means of `MEASURES` and of the times per decision, the number of collisions, and NAME_interval: 95 % over roads.

    results: of one driver; several of one road, such as those of other seeds, are drawn together. An interval is None
    for a single road.
    """
    draws = bootstrap([str(result.road) for result in results])
    summary: dict[str, Any] = {}
    for name in MEASURES:
        values = [getattr(result, name) for result in results]
        summary[name] = float(np.mean(values))
        bounds = None if draws is None else interval(draws.means(values))
        summary[f"{name}_interval"] = None if bounds is None else [float(bound) for bound in bounds]
    summary["collisions"] = sum(result.collisions for result in results)
    for name in ("ms_per_decision", "cpu_ms_per_decision"):
        summary[name] = float(np.mean([getattr(result, name) for result in results]))
    return summary


class _Drive:
    """A drive in progress. infos: at the start and after each step."""

    def __init__(self, env: RoadEnv, frames: int, target_speed: float, frame_skip: int, record: bool) -> None:
        self._env, self._seen, self._skip = env, frames, frame_skip
        self._target, self._record = target_speed, record
        self._images, self._frames = list[Tensor](), list[Tensor]()
        self._actions: list[Action] = []
        self._times: list[tuple[float, float]] = []
        self.infos: list[dict[str, Any]] = []
        self.ended = False

    def start(self, road: int, displacement: Displacement) -> None:
        """Drive parallel to the displaced direction until the driver has its frames; the displacement is that of the
        last of them."""
        before = max(self._seen - 1, 0)
        heading = math.radians(displacement.heading)
        way = before * self._skip / HZ * self._target * math.sin(heading)
        self._env.reset(seed=road)
        self._env.set_pose(displacement.lateral - way, heading, self._target)
        self._see()
        for _ in range(before):
            self._apply(_parallel(self._env.info, heading, self._target))
            self._see()
        self.infos, self._first = [self._env.info], len(self._actions)

    def observation(self) -> Observation:
        frames = self._seen
        images = torch.stack(self._images) if frames else torch.empty(0, 3, 0, 0, dtype=torch.uint8)
        past = np.stack(self._actions[-(frames - 1) :]) if frames > 1 else np.empty((0, 4), np.float32)
        return Observation(images, torch.from_numpy(past), self.infos[-1], self._env.get_state())

    def step(self, driver: Driver) -> None:
        observation = self.observation()
        start, start_cpu = time.perf_counter(), time.process_time()
        action = driver.act(observation)
        self._times.append((time.perf_counter() - start, time.process_time() - start_cpu))
        self._apply(action)
        self._see()
        self.infos.append(self._env.info)
        if self._record:
            self._frames.append(self._images[-1] if self._seen else self._observe())

    def result(self, road: int, steps: int) -> RoadResult:
        track = {name: np.array([i[name] for i in self.infos], np.float64) for name in _TRACK}
        missing, after = steps - len(self._times), {name: values[1:] for name, values in track.items()}
        offset, speed = np.abs(after["lane_offset"]), after["speed"]
        acceleration = track["acceleration"]
        steering = np.array([action[0] for action in self._actions[self._first :]])
        rate, seconds = HZ / self._skip, np.mean(self._times, axis=0).tolist()
        return RoadResult(
            road=road,
            lane_share=float((offset < HALF_LANE).sum() / steps),
            off_road_share=float((after["off_road"].sum() + missing) / steps),
            lane_error=float(offset.mean()),
            speed_error=float(np.abs(speed - self._target).mean()),
            progress=float((track["s"][-1] - track["s"][0]) / (self._target * steps / rate)),
            jerk=float(np.abs(np.diff(acceleration)).mean() * rate),
            steering_rate=float(np.abs(np.diff(steering)).mean() * rate) if len(steering) > 1 else 0.0,
            collisions=int(after["collision"].sum()),
            ms_per_decision=1000 * seconds[0],
            cpu_ms_per_decision=1000 * seconds[1],
            lane_offset=after["lane_offset"],
            speed=speed,
            x=after["x"],
            y=after["y"],
            frames=torch.stack(self._frames) if self._record else None,
        )

    def _apply(self, action: Action) -> None:
        self._actions.append(np.asarray(action, np.float32))
        for _ in range(self._skip):
            if not self.ended:
                _, self.ended, _ = self._env.advance(action)

    def _see(self) -> None:
        if self._seen:
            self._images = [*self._images, self._observe()][-self._seen :]

    def _observe(self) -> Tensor:
        return torch.from_numpy(self._env.observe()).permute(2, 0, 1).contiguous()


_TRACK = ("lane_offset", "speed", "acceleration", "off_road", "collision", "s", "x", "y")


def _parallel(info: dict[str, Any], heading: float, speed: float) -> Action:
    """Keeps a direction relative to the road, and the speed."""
    curvature = info["curvature"] + 2.0 * (heading - info["heading_error"]) / speed
    return cruise(speed, info["speed"], curvature)


def cruise(target_speed: float, speed: float, curvature: float = 0.0) -> Action:
    """The action that approaches a target speed (m/s), at a curvature (1/m)."""
    return controls(curvature, SPEED_GAIN * (target_speed - speed), speed)


def controls(curvature: float, acceleration: float, speed: float) -> Action:
    """The action of the road world's car for a curvature (1/m, positive to the right) and an acceleration (m/s²) at a
    speed (m/s), on level ground."""
    steering = math.atan(WHEELBASE * curvature) / full_lock(speed)
    throttle = (acceleration + resistance(speed)) / engine_acceleration(speed)
    brake = -acceleration / FULL_BRAKE if acceleration < -0.3 else 0.0
    low, high = [-1, 0, 0, 1], [1, 1, 1, 1]
    return np.clip([steering, 0.0 if brake else throttle, brake, 1.0], low, high).astype(np.float32)
