"""The road environment: Gymnasium interface, bit-exact determinism, and frames that follow the actions."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys

import cv2
import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from daydrive.envs.road import RoadEnv, counterfactual, drive
from daydrive.envs.road.weather import WEATHERS
from daydrive.errors import UserError

CRUISE = np.array([0, 0.35, 0, 1], np.float32)
STOP = np.array([0, 0, 1, 1], np.float32)
INFO = {
    "lane_offset", "lateral", "heading_error", "curvature", "curvature_ahead", "bend_ahead", "speed",
    "acceleration", "yaw", "yaw_rate", "wheel_angle", "x", "y", "s", "time", "off_road", "collision", "weather",
    "world", "vehicles", "lead_gap", "lead_speed", "oncoming_gap", "beside_gap",
}  # fmt: skip


def digest(seed: int, frames: int) -> str:
    total = hashlib.sha256()
    for frame, action, _ in drive(seed, frames, (64, 64)):
        total.update(frame.tobytes())
        total.update(action.tobytes())
    return total.hexdigest()


def shift_between(a: np.ndarray, b: np.ndarray) -> float:
    """Shift (columns, positive to the right) of the upper half of frame a in frame b."""
    half = a.shape[0] // 2
    grey = [cv2.cvtColor(p[:half], cv2.COLOR_RGB2GRAY).astype(np.float32) for p in (a, b)]
    return cv2.phaseCorrelate(*grey, cv2.createHanningWindow((a.shape[1], half), cv2.CV_32F))[0][0]


def test_passes_gymnasium_check() -> None:
    env = gym.make("daydrive/Road-v0", render_mode="rgb_array")
    check_env(env.unwrapped, skip_render_check=False)
    assert env.action_space.shape == (4,) and env.action_space.dtype == np.float32


@pytest.mark.parametrize("size", [(64, 64), (64, 128), (128, 256), (256, 256)])
def test_sizes(size: tuple[int, int]) -> None:
    env = RoadEnv(size)
    frame, info = env.reset(seed=1)
    assert frame.shape == (*size, 3) and frame.dtype == np.uint8 and frame.std() > 15
    assert set(info) == INFO
    assert info["speed"] > 5 and not info["off_road"] and abs(info["lane_offset"]) < 0.1


@pytest.mark.parametrize("size", [(32, 32), (64, 100), (128, 64), (512, 512), 64])
def test_unsupported_sizes_are_rejected(size: tuple[int, int]) -> None:
    with pytest.raises(UserError, match="image_size"):
        RoadEnv(size)


def test_unknown_weather_is_rejected() -> None:
    with pytest.raises(UserError, match="did you mean 'rain'"):
        RoadEnv(weather="rainy")
    with pytest.raises(UserError, match="weather"):
        RoadEnv().reset(options={"wether": "fog"})


def test_invalid_action_is_rejected() -> None:
    env = RoadEnv()
    env.reset(seed=0)
    with pytest.raises(UserError, match="four finite numbers"):
        env.step(np.array([0, 0, np.nan, 0]))


def test_same_bytes_in_another_process() -> None:
    code = "import sys; sys.path[:0] = sys.argv[1:]; from test_road_env import digest; print(digest(5, 25))"
    output = subprocess.run(
        [sys.executable, "-c", code, *sys.path],
        capture_output=True,
        text=True,
        check=True,
        cwd=__file__.rpartition("/")[0],
    )
    assert output.stdout.strip() == digest(5, 25)
    assert digest(6, 3) != digest(7, 3)


def test_frames_do_not_depend_on_earlier_episodes() -> None:
    first = digest(3, 10)
    for seed in range(20, 26):
        digest(seed, 2)
    assert digest(3, 10) == first


def test_state_restores_exactly_in_any_environment() -> None:
    env = RoadEnv((64, 64))
    env.reset(seed=11)
    for _ in range(15):
        env.step(CRUISE)
    state = json.loads(json.dumps(env.get_state()))
    frame = env.observe()
    straight = np.tile(CRUISE, (12, 1))
    right = straight.copy()
    right[:, 0] = 0.5
    first = counterfactual(env, state, straight)
    other = counterfactual(RoadEnv((64, 64)), state, right)
    again = counterfactual(env, state, straight)
    assert first.shape == (12, 64, 64, 3) and np.array_equal(first, again)
    env.set_state(state)
    assert np.array_equal(env.observe(), frame) and env.get_state() == state
    difference = np.abs(first.astype(int) - other).mean(axis=(1, 2, 3))
    assert difference[-1] > 10 and difference[-1] > 2 * difference[0]


def test_invalid_state_is_rejected() -> None:
    with pytest.raises(UserError, match="not a state of the road environment"):
        RoadEnv().set_state({"world": 1})


@pytest.mark.parametrize("weather", sorted(WEATHERS))
def test_steering_right_shifts_the_image_left_by_the_yaw(weather: str) -> None:
    env = RoadEnv((128, 128), weather=weather)
    before, info = env.reset(seed=2)
    for _ in range(8):
        before, *_, info = env.step(np.array([0, 0.2, 0, 1], np.float32))
    yaw = info["yaw"]
    for _ in range(2):
        after, *_, info = env.step(np.array([0.6, 0.2, 0, 1], np.float32))
    turned = info["yaw"] - yaw
    assert turned > 0.02 and info["yaw_rate"] > 0
    if weather != "fog":
        assert shift_between(before, after) == pytest.approx(-turned * env.renderer.lens.focal, rel=0.4)


def test_braking_stops_and_reverse_moves_backwards() -> None:
    env = RoadEnv()
    env.reset(seed=4)
    for _ in range(60):
        *_, info = env.step(STOP)
    assert info["speed"] == 0
    s = info["s"]
    for _ in range(30):
        *_, info = env.step(np.array([0, 0.6, 0, -1], np.float32))
    assert info["speed"] < -1 and info["s"] < s - 2
    for _ in range(30):
        *_, info = env.step(STOP)
    assert info["speed"] == 0


def test_throttle_accelerates_and_neutral_coasts() -> None:
    env = RoadEnv()
    env.reset(seed=4)
    state = env.get_state()
    speeds = []
    for action in ([0, 1, 0, 1], [0, 1, 0, 0], [0, 0, 0.5, 1]):
        counterfactual(env, state, np.tile(np.array(action, np.float32), (20, 1)))
        speeds.append(env.get_state()["car"]["speed"])
    assert speeds[0] > speeds[1] + 3 > speeds[2] + 6


def test_leaving_the_road_is_reported_and_terminates() -> None:
    env = RoadEnv()
    env.reset(seed=8)
    off, ended = False, False
    for _ in range(300):
        _, reward, ended, _, info = env.step(np.array([0.25, 0.6, 0, 1], np.float32))
        off |= info["off_road"]
        assert not info["off_road"] or reward <= 0
        if ended:
            break
    assert off and (ended or abs(info["heading_error"]) > 0.5)


def test_static_scene_gives_identical_frames() -> None:
    """No noise and no flicker: if nothing moves, the bytes stay the same."""
    env = RoadEnv((64, 64))
    env.reset(seed=9)
    for _ in range(60):
        env.step(STOP)
    state = env.get_state()
    state["others"] = []
    env.set_state(state)
    frame = env.observe()
    state["steps"] += 7
    env.set_state(state)
    assert np.array_equal(env.observe(), frame)


def test_slow_motion_has_no_popping() -> None:
    """Moving by centimetres changes the frame smoothly."""
    env = RoadEnv((64, 64), weather="clear")
    env.reset(seed=9)
    state = env.get_state()
    state["others"] = []
    frames = []
    for k in range(40):
        s = 700 + 0.05 * k
        road = env._road
        x, y = road.world(s, 1.75)
        state["s"], state["car"]["x"], state["car"]["y"] = s, x, y
        state["car"]["yaw"] = road.heading_at(s)
        env.set_state(state)
        frames.append(env.observe()[:32].astype(int))
    change = np.abs(np.diff(frames, axis=0))
    assert change.mean() < 1.0 and change.mean(axis=(1, 2, 3)).max() < 4 * change.mean() + 0.1
