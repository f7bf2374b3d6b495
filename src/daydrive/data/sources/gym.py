"""Drives in any gymnasium environment with image observations, controlled by a seeded policy."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from daydrive.data.sources.base import Option, Options, action
from daydrive.data.sources.road import drive_seed
from daydrive.errors import UserError, did_you_mean
from daydrive.types import ACTION_HIGH, ACTION_LOW, ACTION_NAMES, Drive, Frame

Action = npt.NDArray[np.float32]
Policy = Callable[[], Action]

DEFAULT_HZ = 10.0
CAR_RACING_ZOOM = 1.0
"""Seconds at the start of CarRacing during which the camera zooms in; they are driven but not recorded."""


@dataclass(frozen=True)
class _Frames:
    """The frames of a drive, which ends early if the environment ends the episode."""

    env: str
    seed: int
    frames: int
    hz: float
    repeat: int

    def __call__(self) -> Iterator[Frame]:
        env = _make(self.env)
        try:
            image, _ = env.reset(seed=self.seed)
            policy = _policy(env, self.env, np.random.default_rng(self.seed), self.hz)
            convert, _ = _conversion(env.action_space, self.env)
            ended = False
            if _is_car_racing(self.env):
                for _ in range(round(CAR_RACING_ZOOM * self.hz)):
                    image, _, ended = _advance(env, convert(policy()), self.repeat)
            for k in range(self.frames):
                if ended:
                    return
                act = policy()
                next_image, reward, ended = _advance(env, convert(act), self.repeat)
                yield Frame(image, act, k / self.hz, {"reward": reward})
                image = next_image
        finally:
            env.close()


class GymSource:
    name = "gym"
    needs_root = False
    split: Literal["drive", "time"] = "drive"
    options: tuple[Option, ...] = (
        Option("env", str, None, "id of the environment, such as CarRacing-v3"),
        Option("drives", int, 24, "number of drives", minimum=1),
        Option("frames", int, 200, "frames per drive, fewer if the episode ends", minimum=2),
        Option("seed", int, 0, "seed of environment, policy and split", minimum=0),
        Option("hz", float, None, "frames per second, by repeating actions; default: about 10", minimum=0.1),
    )

    def describe(self, options: Options) -> dict[str, Any]:
        env = _make(options["env"])
        try:
            _, description = _conversion(env.action_space, options["env"])
        finally:
            env.close()
        return {
            "actions": {
                "steering": action("share of the largest", "positive to the right", "[-1, 1]", description),
                "throttle": action("share of the largest", "positive forwards", "[0, 1]", description),
                "brake": action("share of the largest", "positive slows down", "[0, 1]", description),
                "gear": action("direction", "1 forwards", "-", "always 1"),
            },
            "values": {"reward": "the environment's, summed up to the next frame"},
        }

    def drives(self, root: Path, options: Options, image_size: tuple[int, int]) -> list[Drive]:
        name, frames = options["env"], int(options["frames"])
        env = _make(name)
        try:
            _check_image(env.observation_space, name)
            _conversion(env.action_space, name)
            fps = float(env.metadata.get("render_fps") or options["hz"] or DEFAULT_HZ)
        finally:
            env.close()
        requested = float(options["hz"] or min(DEFAULT_HZ, fps))
        repeat = round(fps / requested)
        if repeat < 1 or (options["hz"] and abs(fps / repeat - requested) > 0.01 * requested):
            raise UserError(f"{name} has {fps:g} steps per second, which --hz {requested:g} does not divide")
        hz = round(fps / repeat, 4)
        label, seed = name.split("/")[-1], options["seed"]
        return [
            Drive(f"{label}_{i:05d}", hz, _Frames(name, drive_seed(seed, i), frames, hz, repeat))
            for i in range(options["drives"])
        ]


def _make(name: str | None) -> Any:
    import gymnasium

    import daydrive.envs.road  # noqa: F401  registers Road-v0

    if name is None:
        raise UserError("the dataset 'gym' needs --env, the id of a gymnasium environment such as CarRacing-v3")
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    try:
        return gymnasium.make(name, max_episode_steps=-1)
    except gymnasium.error.UnregisteredEnv as error:
        raise UserError(f"there is no environment '{name}'{did_you_mean(name, gymnasium.registry)}") from error
    except (gymnasium.error.Error, ImportError) as error:
        reason = str(error).split("\n")[0].rstrip(".")
        raise UserError(f"the environment '{name}' cannot be created: {reason}") from error


def _check_image(space: Any, name: str) -> None:
    shape = getattr(space, "shape", None)
    if shape is None or len(shape) != 3 or shape[2] != 3 or space.dtype != np.uint8:
        raise UserError(
            f"{name} has no image observations: its observation space is {space}, not a uint8 Box (H, W, 3)"
        )


def _policy(env: Any, name: str, rng: np.random.Generator, hz: float) -> Policy:
    return car_racing_policy(env, rng, hz) if _is_car_racing(name) else random_policy(rng, hz)


def _is_car_racing(name: str) -> bool:
    return name.split("/")[-1].startswith("CarRacing")


def _conversion(space: Any, name: str) -> tuple[Callable[[Action], Any], str]:
    """The function that converts an action to the environment's action space, and a description of it."""
    from gymnasium.spaces import Box, Discrete

    if isinstance(space, Discrete):
        count, first = int(space.n), int(space.start)
        return (
            lambda a: first + min(int((float(a[0]) + 1.0) / 2.0 * count), count - 1),
            f"steering from -1 to 1 in {count} equal parts is the number of the action; the others are not used",
        )
    if not isinstance(space, Box) or space.shape not in ((1,), (2,), (3,), (4,)) or not space.is_bounded():
        raise UserError(
            f"{name} is not supported: its action space is {space}, not Discrete or a bounded Box of 1 to 4 dimensions"
        )
    size = space.shape[0]
    low, high = space.low.astype(np.float32), space.high.astype(np.float32)
    if size >= 3 and np.array_equal(low, ACTION_LOW[:size]) and np.array_equal(high, ACTION_HIGH[:size]):
        return lambda a: a[:size], "as it is"
    own_low, own_high = (ACTION_LOW[:size], ACTION_HIGH[:size]) if size >= 3 else (-np.ones(size), np.ones(size))

    def scale(a: Action) -> Action:
        values = np.array([a[0], a[1] - a[2]])[:size] if size < 3 else a[:size]
        return np.asarray(low + (values - own_low) / (own_high - own_low) * (high - low), dtype=np.float32)

    names = ("steering", "throttle minus brake") if size < 3 else ACTION_NAMES
    description = (
        f"the environment takes ({', '.join(names[:size])}), each range stretched to {low.tolist()}..{high.tolist()}"
    )
    return scale, description


def _advance(env: Any, act: Any, repeat: int) -> tuple[Any, float, bool]:
    total = 0.0
    for _ in range(repeat):
        image, reward, terminated, truncated, _ = env.step(act)
        total += float(reward)
        if terminated or truncated:
            return image, total, True
    return image, total, False


class OrnsteinUhlenbeck:
    """Ornstein-Uhlenbeck noise with zero mean, unit variance and a time constant of `seconds`."""

    def __init__(self, rng: np.random.Generator, seconds: float, hz: float) -> None:
        self.rng, self.decay = rng, math.exp(-1.0 / (seconds * hz))
        self.value = float(rng.standard_normal())

    def __call__(self) -> float:
        noise = math.sqrt(1.0 - self.decay**2) * float(self.rng.standard_normal())
        self.value = self.decay * self.value + noise
        return self.value


def random_policy(rng: np.random.Generator, hz: float) -> Policy:
    """Smooth random forward driving: steering around 0, mostly throttle, occasional braking."""
    steering, pedal = OrnsteinUhlenbeck(rng, 0.8, hz), OrnsteinUhlenbeck(rng, 1.5, hz)

    def act() -> Action:
        push = 0.4 + 0.5 * pedal()
        action = [np.clip(0.5 * steering(), -1, 1), np.clip(push, 0, 1), np.clip(-push, 0, 1), 1.0]
        return np.array(action, dtype=np.float32)

    return act


def car_racing_policy(env: Any, rng: np.random.Generator, hz: float) -> Policy:
    """Follows the track of CarRacing at a speed suited to the next curve, with random lateral offsets and swerves, so
    that the drives cover a range of steering."""
    inner = env.unwrapped
    offset, speed_noise, swerve = (
        OrnsteinUhlenbeck(rng, 3.0, hz),
        OrnsteinUhlenbeck(rng, 4.0, hz),
        OrnsteinUhlenbeck(rng, 0.5, hz),
    )
    track = np.array([point[2:4] for point in inner.track])
    lookahead, max_offset = 6, 2.0

    def act() -> Action:
        position = np.array(inner.car.hull.position)
        nearest = int(np.argmin(((track - position) ** 2).sum(axis=1)))
        count = len(track)
        target, before = track[(nearest + lookahead) % count], track[(nearest + lookahead - 1) % count]
        along = (target - before) / np.linalg.norm(target - before)
        aim = target + max_offset * offset() * np.array([along[1], -along[0]]) - position
        error = _wrapped(math.atan2(-aim[0], aim[1]) - inner.car.hull.angle)
        far = track[(nearest + 3 * lookahead) % count] - target
        curve = abs(_wrapped(math.atan2(-far[0], far[1]) - math.atan2(-along[0], along[1])))
        target_speed = np.clip(42.0 + 8.0 * speed_noise() - 40.0 * curve, 12.0, 60.0)
        speed = float(np.linalg.norm(inner.car.hull.linearVelocity))
        steering = np.clip(-0.7 * error + 0.1 * swerve(), -1, 1)
        throttle = np.clip(0.06 * (target_speed - speed), 0, 1) * (1.0 - 0.5 * abs(steering))
        brake = np.clip(0.03 * (speed - target_speed - 5.0), 0, 0.8)
        return np.array([steering, throttle, brake, 1.0], dtype=np.float32)

    return act


def _wrapped(angle: float) -> float:
    return math.remainder(angle, 2.0 * math.pi)
