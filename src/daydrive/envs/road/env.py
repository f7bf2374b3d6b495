"""The road simulator as a Gymnasium environment."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

import gymnasium as gym
import numpy as np

from daydrive.envs.road.camera import FORWARD, HEIGHT, Pose, check_image_size
from daydrive.envs.road.cars import BODIES
from daydrive.envs.road.noise import hash_uniform
from daydrive.envs.road.render import Renderer
from daydrive.envs.road.road import ASPHALT_EDGE, LANE_CENTRE, LENGTH, MARGIN, build_road
from daydrive.envs.road.strip import STYLES
from daydrive.envs.road.traffic import Ego, dump, init_traffic, load, step_traffic
from daydrive.envs.road.vehicle import WHEELBASE, CarState, advance
from daydrive.envs.road.weather import WEATHERS, choose_weather
from daydrive.errors import UserError, did_you_mean

HZ = 10
MAX_LATERAL = 60.0
"""Distance (m) from the centreline at which the episode terminates."""
NO_VEHICLE = 300.0
"""Gap (m) and speed reported when there is no such vehicle."""
CAR_LENGTH, CAR_WIDTH = 4.3, 1.8
ACTION_LOW = np.array([-1, 0, 0, -1], np.float32)
ACTION_HIGH = np.array([1, 1, 1, 1], np.float32)

State = dict[str, Any]


def _wrap_angle(angle: float) -> float:
    return (angle + math.pi) % (2 * math.pi) - math.pi


class RoadEnv(gym.Env[np.ndarray, np.ndarray]):
    """A car on a winding road, seen through its windscreen, at 10 Hz.

    Action: Box float32 (4,) = steering [-1, 1] positive to the right, throttle [0, 1], brake [0, 1],
    gear in {-1, 0, 1} (rounded). Observation: Box uint8 (H, W, 3), RGB. Reward: metres driven along the
    road in this step, 0 off the asphalt, minus 10 for a collision. The episode terminates 60 m from the
    road or at the end of the road after 11 km.

    The road, landscape, weather and traffic are functions of the seed. `reset` options: `weather`, a name
    from `WEATHERS`. `info` holds the privileged state; see `_info`.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": HZ}  # noqa: RUF012

    def __init__(
        self, image_size: tuple[int, int] = (64, 64), weather: str | None = None, render_mode: str | None = None
    ) -> None:
        """image_size: (H, W), square or 2:1, 64 to 256 px. weather: fixed, or None to sample it from the seed.

        Raises UserError for an unsupported size or weather.
        """
        lens = check_image_size(image_size)
        self.weather = None if weather is None else _check_weather(weather)
        self.render_mode = render_mode
        self.observation_space = gym.spaces.Box(0, 255, (lens.height, lens.width, 3), np.uint8)
        self.action_space = gym.spaces.Box(ACTION_LOW, ACTION_HIGH, dtype=np.float32)
        self.renderer = Renderer(lens)
        self._init_world(0, self.weather)

    def _init_world(self, world: int, weather: str | None) -> None:
        self._world = world
        self._style = int(hash_uniform(world, 3) * len(STYLES))
        self._weather = weather or choose_weather(hash_uniform(world, 4))
        self._time, self._steps = 0.0, 0
        self._pitch, self._collision = 0.0, False
        self._road = build_road(world)
        self._s, self._d = float(MARGIN), LANE_CENTRE
        self._car = self._car_at(LANE_CENTRE, 0.0, 8.0 + 10.0 * hash_uniform(world, 5))
        self._others, self._number = init_traffic(world, self._s)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start a new world, the same for the same seed. options: {'weather': name}."""
        super().reset(seed=seed)
        unknown = set(options or ()) - {"weather"}
        if unknown:
            name = min(unknown)
            raise UserError(f"unknown reset option {name!r}{did_you_mean(name, ['weather'])}")
        weather = (options or {}).get("weather")
        weather = self.weather if weather is None else _check_weather(weather)
        self._init_world(int(self.np_random.integers(2**31)), weather)
        return self.observe(), self._info()

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Advance by 0.1 s. Values outside the action space are clipped."""
        reward, terminated, info = self.advance(action)
        return self.observe(), reward, terminated, False, info

    def advance(self, action: np.ndarray) -> tuple[float, bool, dict[str, Any]]:
        """As `step` without rendering, which takes most of its time: reward, terminated, info."""
        values = np.clip(np.asarray(action, np.float64), ACTION_LOW, ACTION_HIGH)
        if values.shape != (4,) or not np.isfinite(values).all():
            raise UserError(f"action must be four finite numbers (steering, throttle, brake, gear), not {action!r}")
        steering, throttle, brake, gear = values.tolist()
        before = self._s
        ego = self._ego()
        slope = self._slope()
        self._car = advance(self._car, (steering, throttle, brake, round(gear)), 1 / HZ, slope, self._off_road())
        self._others, self._number = step_traffic(
            self._world, self._time, self._others, self._number, ego, self._road, 1 / HZ
        )
        self._steps += 1
        self._time = self._steps / HZ
        x, y = self._camera_position()
        self._s, self._d = self._road.locate(x, y, self._s)
        self._collide()
        self._pitch += (-0.0045 * self._car.acceleration - self._pitch) * 0.45
        reward = 0.0 if self._off_road() else self._s - before
        reward -= 10.0 * self._collision
        terminated = abs(self._d) > MAX_LATERAL or not MARGIN - 60 < self._s < LENGTH - MARGIN
        return float(reward), terminated, self._info()

    @property
    def speed(self) -> float:
        """Of the car, m/s; negative in reverse."""
        return self._car.speed

    def observe(self) -> np.ndarray:
        """Render the current frame, uint8 (H, W, 3)."""
        return self.renderer.render(self._world, self._style, self._weather, self._pose(), self._s, self._others)

    def render(self) -> np.ndarray | None:
        return self.observe() if self.render_mode == "rgb_array" else None

    @property
    def info(self) -> dict[str, Any]:
        """As `step` returns it."""
        return self._info()

    def get_state(self) -> State:
        """Return the complete simulator state as JSON-serializable values."""
        return {
            "world": self._world,
            "weather": self._weather,
            "steps": self._steps,
            "pitch": self._pitch,
            "collision": self._collision,
            "s": self._s,
            "d": self._d,
            "car": asdict(self._car),
            "others": dump(self._others),
            "number": self._number,
        }

    def set_state(self, state: State) -> None:
        """Restore a state from `get_state` of any environment. The same actions then give the same frames."""
        try:
            self._init_world(int(state["world"]), _check_weather(state["weather"]))
            self._steps, self._time = int(state["steps"]), int(state["steps"]) / HZ
            self._pitch, self._collision = state["pitch"], state["collision"]
            self._s, self._d = state["s"], state["d"]
            self._car = CarState(**state["car"])
            self._others, self._number = load(state["others"]), state["number"]
        except (KeyError, TypeError) as error:
            raise UserError(f"not a state of the road environment: {error}; pass the result of get_state()") from error

    def set_pose(self, lane_offset: float, heading_error: float, speed: float) -> None:
        """Put the car beside where it is: m from the middle of the right lane and rad from its direction, both positive
        to the right; m/s. Its wheels point straight ahead."""
        self._d = LANE_CENTRE + lane_offset
        self._car = self._car_at(self._d, heading_error, speed)

    def _car_at(self, d: float, heading_error: float, speed: float) -> CarState:
        yaw = self._road.heading_at(self._s) + heading_error
        x, y = self._road.world(self._s, d)
        return CarState(x - FORWARD * math.cos(yaw), y - FORWARD * math.sin(yaw), yaw, speed, 0.0)

    def _camera_position(self) -> tuple[float, float]:
        return self._car.x + FORWARD * math.cos(self._car.yaw), self._car.y + FORWARD * math.sin(self._car.yaw)

    def _off_road(self) -> bool:
        return abs(self._d) > ASPHALT_EDGE

    def _heading_error(self) -> float:
        return _wrap_angle(self._car.yaw - self._road.heading_at(self._s))

    def _slope(self) -> float:
        """Slope of the ground (rise per metre) along the car's heading, over its wheelbase."""
        error, half = self._heading_error(), WHEELBASE / 2
        along, across = half * math.cos(error), half * math.sin(error)
        front = self._road.ground(self._s + along, self._d + across)
        rear = self._road.ground(self._s - along, self._d - across)
        return (front - rear) / WHEELBASE

    def _pose(self) -> Pose:
        x, y = self._camera_position()
        rough = min(max(abs(self._d) - ASPHALT_EDGE, 0.0), 1.0)
        bump = rough * (0.022 * math.sin(1.9 * self._s) + 0.016 * math.sin(3.1 * self._s + self._d))
        z = self._road.ground(self._s, self._d) + HEIGHT + bump
        slope = self._slope() - self._pitch + 0.25 * bump
        return Pose(x, y, z, self._car.yaw, min(max(slope, -0.15), 0.15))

    def _ego(self) -> Ego:
        return Ego(self._s, self._d, self._car.speed * math.cos(self._heading_error()))

    def _collide(self) -> None:
        """On a collision, limit the car's speed to that of the vehicle it hit."""
        self._collision = False
        for other in self._others:
            body = BODIES[other.kind]
            ahead = other.s - self._s
            overlaps = abs(ahead) < (CAR_LENGTH + body.length) / 2
            if overlaps and abs(other.d - self._d) < (CAR_WIDTH + body.width) / 2 - 0.1:
                other_speed = other.speed * other.direction
                if ahead > 0 and self._car.speed > other_speed:
                    self._collision = True
                    self._car = CarState(**{**asdict(self._car), "speed": max(other_speed, 0.0)})

    def _gaps(self) -> dict[str, float]:
        gaps = {"lead_gap": NO_VEHICLE, "lead_speed": NO_VEHICLE, "oncoming_gap": NO_VEHICLE, "beside_gap": NO_VEHICLE}
        for other in self._others:
            distance = other.s - self._s
            reach = (CAR_LENGTH + BODIES[other.kind].length) / 2
            if distance > 0 and abs(other.d - self._d) < 1.9 and distance - reach < gaps["lead_gap"]:
                gaps["lead_gap"], gaps["lead_speed"] = distance - reach, other.speed * other.direction
            if distance > -reach and other.d < 0.4:
                gaps["oncoming_gap"] = min(gaps["oncoming_gap"], distance - reach)
            if other.d > -0.4:
                gaps["beside_gap"] = min(gaps["beside_gap"], abs(distance) - reach)
        return gaps

    def _info(self) -> dict[str, Any]:
        """The privileged state, in metres, seconds and radians; lateral values are positive to the right.

        lane_offset is measured from the centre of the right lane, lateral from the centreline. bend_ahead is
        the largest curvature within braking distance. lead_gap and lead_speed refer to the vehicle in the car's
        path, oncoming_gap to the next vehicle ahead in the left lane, beside_gap to the nearest vehicle, ahead or
        behind, in the right lane (300 if there is none).
        """
        speed = self._car.speed
        error = self._heading_error()
        return {
            "lane_offset": self._d - LANE_CENTRE,
            "lateral": self._d,
            "heading_error": error,
            "curvature": self._road.curvature_at(self._s),
            "curvature_ahead": self._road.curvature_at(self._s + 0.35 * speed),
            "bend_ahead": self._road.max_curvature(self._s, 14 + speed * speed / 7),
            "speed": speed,
            "acceleration": self._car.acceleration,
            "yaw": self._car.yaw,
            "yaw_rate": self._car.yaw_rate,
            "wheel_angle": self._car.wheel,
            "x": self._car.x,
            "y": self._car.y,
            "s": self._s,
            "time": self._time,
            "off_road": self._off_road(),
            "collision": self._collision,
            "weather": self._weather,
            "world": self._world,
            "vehicles": len(self._others),
            **self._gaps(),
        }


def _check_weather(name: str) -> str:
    if name not in WEATHERS:
        raise UserError(f"unknown weather {name!r}{did_you_mean(str(name), WEATHERS)}")
    return name


def counterfactual(env: RoadEnv, state: State, actions: np.ndarray) -> np.ndarray:
    """Simulate from a saved state with different actions.

    actions: float32 (T, 4). Returns uint8 (T, H, W, 3), the frame after each action. The environment is left
    in the state after the last action.
    """
    env.set_state(state)
    shape = env.observation_space.shape
    assert shape is not None
    frames = np.empty((len(actions), *shape), np.uint8)
    for t, action in enumerate(actions):
        frames[t] = env.step(action)[0]
    return frames
