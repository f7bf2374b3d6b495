"""The scripted driver, the traffic and the road geometry."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from daydrive.envs.road import Driver, RoadEnv
from daydrive.envs.road.road import LANE_CENTRE, MARGIN, build_road
from daydrive.envs.road.traffic import Ego, TrafficVehicle, init_traffic, step_traffic


@pytest.fixture(scope="module")
def log() -> dict[str, np.ndarray]:
    """Actions and motion of 16 drivers over 30 s each, without rendering."""
    rows: dict[str, list[np.ndarray]] = {
        "action": [],
        "speed": [],
        "offset": [],
        "off": [],
        "yaw_rate": [],
        "collision": [],
    }
    for seed in range(16):
        env, driver = RoadEnv(), Driver(seed)
        blank = np.zeros((64, 64, 3), np.uint8)
        env.observe = lambda frame=blank: frame  # type: ignore[method-assign]
        _, info = env.reset(seed=seed)
        drive = []
        for _ in range(300):
            action = driver.act(info)
            assert env.action_space.contains(action)
            drive.append(
                (action, info["speed"], info["lane_offset"], info["off_road"], info["yaw_rate"], info["collision"])
            )
            *_, info = env.step(action)
        for name, values in zip(rows, zip(*drive, strict=True), strict=True):
            rows[name].append(np.array(values))
    return {name: np.array(values) for name, values in rows.items()}


def test_actions_and_motion_vary(log: dict[str, np.ndarray]) -> None:
    steering, gear = log["action"][:, :, 0], log["action"][:, :, 3]
    assert 0.12 < steering.std() < 0.45
    assert 0.03 < log["yaw_rate"].std() < 0.25
    assert 0.2 < log["offset"].std() < 2.5
    assert 30 < log["speed"].mean() * 3.6 < 80 and log["speed"].max() * 3.6 > 75
    assert 0.005 < (np.abs(log["speed"]) < 0.1).mean() < 0.15
    assert 0.005 < log["off"].mean() < 0.15
    assert 0.001 < (gear < 0).mean() < 0.08 and log["speed"].min() < -0.5
    assert (log["action"][:, :, 2] > 0.3).any() and log["collision"].mean() < 0.01


def test_drivers_return_to_the_road(log: dict[str, np.ndarray]) -> None:
    assert np.abs(log["offset"]).max() < 9
    longest = max(
        max((len(streak) for streak in "".join("x" if o else " " for o in row).split()), default=0)
        for row in log["off"]
    )
    assert longest < 120


def test_driver_is_deterministic_per_seed() -> None:
    info = RoadEnv().reset(seed=0)[1]
    one, same, other = (np.array([d.act(info) for _ in range(20)]) for d in (Driver(3), Driver(3), Driver(4)))
    assert np.array_equal(one, same) and not np.array_equal(one, other)


def test_road_coordinates_are_invertible() -> None:
    road = build_road(12)
    s = np.linspace(MARGIN, 3000, 50)
    d = np.linspace(-12, 12, 50)
    x, y = np.array([road.world(a, b) for a, b in zip(s, d, strict=True)]).T
    for k in range(0, 50, 7):
        assert road.locate(x[k], y[k], s[k] + 3) == pytest.approx((s[k], d[k]), abs=0.03)
    near = (s > 800) & (s < 1300)
    found_s, found_d, z = road.project(x[near], y[near], 1050.0, 320)
    assert np.abs(found_s - s[near]).max() < 0.05 and np.abs(found_d - d[near]).max() < 0.05
    assert z == pytest.approx([road.ground(a, b) for a, b in zip(s[near], d[near], strict=True)], abs=0.02)
    assert np.abs(np.diff(road.heading)).max() < 1 / 49


def run_traffic(others: list[TrafficVehicle], ego: Ego, seconds: float) -> list[list[TrafficVehicle]]:
    road, history, number = build_road(1), [], 100
    for step in range(round(seconds * 10)):
        others, number = step_traffic(1, step / 10, others, number, ego, road, 0.1)
        history.append(others)
    return history


def test_traffic_stops_behind_a_standing_car_and_keeps_its_lane() -> None:
    behind = TrafficVehicle(1, "car", 0, 1, 1000.0, LANE_CENTRE, 14.0, 14.0, LANE_CENTRE)
    blocker = [
        TrafficVehicle(k, "car", 0, -1, 1100.0 + 25 * k, -LANE_CENTRE, 0.0, 0.5, -LANE_CENTRE) for k in range(2, 8)
    ]
    history = run_traffic([behind, *blocker], Ego(1080.0, LANE_CENTRE, 0.0), 15)
    last = next(o for o in history[-1] if o.number == 1)
    assert last.s < 1080 - 4.3 and last.speed < 1 and abs(last.d - LANE_CENTRE) < 0.5


def test_traffic_overtakes_a_slow_car() -> None:
    behind = TrafficVehicle(1, "car", 0, 1, 1000.0, LANE_CENTRE, 20.0, 22.0, LANE_CENTRE)
    sides, road, others = [], build_road(1), [behind]
    for step in range(300):
        ego = Ego(1040.0 + 0.3 * step, LANE_CENTRE, 3.0)
        others, _ = step_traffic(1, step / 10, others, 100, ego, road, 0.1)
        others = [o for o in others if o.number == 1]
        sides += [(o.d, o.s - ego.s) for o in others]
    assert min(d for d, _ in sides) < -1 and sides[-1][1] > 10


def test_vehicles_move_smoothly() -> None:
    others, _ = init_traffic(5, 500.0)
    history = run_traffic(others, Ego(500.0, LANE_CENTRE, 0.0), 20)
    for before, after in pairwise(history):
        known = {o.number: o for o in before}
        for o in after:
            if o.number in known:
                assert abs(o.s - known[o.number].s) < 3.5 and abs(o.d - known[o.number].d) < 0.25
