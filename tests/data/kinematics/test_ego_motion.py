"""Actions from poses, compared with known motion and with real and simulated recordings."""

from __future__ import annotations

import numpy as np
import pytest

from daydrive.data.kinematics.ego_motion import (
    Bicycle,
    Motion,
    Rates,
    motion,
    rates_from_poses,
    rotations_from_quaternions,
)
from daydrive.data.kinematics.signals import covered, lag, means_between, smooth
from helpers.paths import SHARED
from helpers.recordings import WHEELBASE, Truth, quaternions

COMMA2K19 = SHARED / "comma2k19_example"
BICYCLE = Bicycle(WHEELBASE, largest_angle=0.5)


def test_smooth_is_exact_for_polynomials_with_uneven_sampling() -> None:
    rng = np.random.default_rng(0)
    times = np.sort(rng.uniform(0, 5, 80))
    at = np.array([times[0], 1.0, 2.5, times[-1]])
    fit = smooth(times, np.stack([3 + 2 * times - times**2, np.sin(0 * times)], 1), at, 1.0)
    assert np.allclose(fit.value[:, 0], 3 + 2 * at - at**2) and np.allclose(fit.slope[:, 0], 2 - 2 * at)
    assert np.allclose(fit.value[:, 1], 0) and np.allclose(fit.slope[:, 1], 0)
    assert np.allclose(smooth(times[:2], times[:2, None], at, 1.0).slope, 1.0), "two samples give a line"


def test_smooth_reduces_noise_and_preserves_the_signal() -> None:
    times = np.arange(400) / 20
    turn, noise = np.sin(2 * np.pi * 0.3 * times), np.random.default_rng(1).normal(0, 0.2, 400)
    left = smooth(times, (turn + noise)[:, None], times, 1.0).value[:, 0] - turn
    assert left.std() < 0.5 * noise.std()
    assert np.abs(smooth(times, turn[:, None], times, 1.0).value[:, 0] - turn).max() < 0.05


def test_means_between() -> None:
    times, values = np.array([0.0, 1.0, 3.0]), np.array([0.0, 2.0, 2.0])
    edges = np.array([-1.0, 0.0, 0.5, 2.0, 2.0, 5.0])
    assert np.allclose(means_between(times, values, edges), [0.0, 0.5, (0.75 + 2.0) / 1.5, 2.0, 2.0])
    assert covered(times, np.array([-0.3, 0.1, 0.5, 2.0, 3.1]), 0.2).tolist() == [False, True, False, False, True]


@pytest.mark.parametrize("shift", [-3.4, 0.0, 0.6, 5.25])
@pytest.mark.parametrize("sign", [1, -1])
def test_lag_in_fractions_of_a_frame(shift: float, sign: int) -> None:
    times = np.arange(600) / 20

    def signal(t: np.ndarray) -> np.ndarray:
        return np.sin(1.3 * t) + 0.5 * np.sin(3.1 * t + 1) + 0.3 * np.sin(5.7 * t + 2)

    found = lag(signal(times), sign * signal(times - shift / 20) + 0.1, 20.0)
    assert abs(found.frames - shift) < 0.1 and np.sign(found.correlation) == sign
    assert abs(found.correlation) > 0.98


def test_lag_of_constant_signals_and_different_lengths() -> None:
    assert np.isnan(lag(np.ones(50), np.arange(50), 10.0)).all()
    with pytest.raises(ValueError, match="the same length"):
        lag(np.ones(50), np.ones(49), 10.0)


def test_quaternions() -> None:
    _, axes = Truth().camera()
    world = rotations_from_quaternions(np.array([[0.3, -0.5, 0.7, 0.2]]))[0]
    assert np.allclose(world @ world.T, np.eye(3)) and np.linalg.det(world) > 0
    assert np.allclose(rotations_from_quaternions(3.0 * quaternions(world @ axes)), world @ axes)


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("tilted", [False, True])
def test_motion_from_known_poses(backwards: bool, tilted: bool) -> None:
    truth = Truth(frames=400, seed=1, backwards=backwards)
    positions, axes = truth.camera(ahead=1.7)
    up = np.array([0.0, 0.0, -1.0])
    if tilted:
        world = rotations_from_quaternions(np.array([[0.3, -0.5, 0.7, 0.2]]))[0]
        positions, axes, up = positions @ world.T, world @ axes, world @ up
    moved = motion(rates_from_poses(truth.times, positions, axes, up if tilted else None), truth.times)
    edges = np.append(truth.times, 2 * truth.times[-1] - truth.times[-2])
    assert np.abs(moved.speed - truth.mean(truth.speed, edges))[5:-5].max() < 0.05
    assert np.abs(moved.yaw_rate - truth.mean(truth.yaw_rate, edges))[5:-5].max() < 0.02
    angle = BICYCLE.steering_angle(moved)
    assert np.corrcoef(angle, truth.mean(truth.wheel, edges))[0, 1] > 0.995
    assert np.abs(angle - truth.mean(truth.wheel, edges))[5:-5].max() < 0.01
    actions = BICYCLE.actions(moved)
    assert np.allclose(actions[:, 0] * 0.5, angle) and (actions[:, 3] == (-1 if backwards else 1)).all()
    faster = np.gradient(np.abs(truth.speed), truth.fine)
    undone = 4.0 * actions[:, 1] - 8.0 * actions[:, 2]
    assert np.corrcoef(undone, truth.mean(faster, edges))[0, 1] > 0.99
    assert (actions[:, 1] * actions[:, 2] == 0).all()


def test_motion_smooths_pose_noise() -> None:
    truth, rng = Truth(frames=400, seed=2), np.random.default_rng(0)
    positions, axes = truth.camera()
    shaken = rotations_from_quaternions(np.column_stack([np.ones(400), rng.normal(0, 0.002, (400, 3))]))
    rates = rates_from_poses(truth.times, positions + rng.normal(0, 0.01, positions.shape), axes @ shaken)
    wheel = truth.mean(truth.wheel, np.append(truth.times, 2 * truth.times[-1] - truth.times[-2]))
    assert np.corrcoef(np.arctan(WHEELBASE * rates.yaw_rate / rates.speed), wheel[:-1])[0, 1] < 0.97
    assert np.corrcoef(BICYCLE.steering_angle(motion(rates, truth.times)), wheel)[0, 1] > 0.99


def test_curvature_and_gear_of_a_standing_car() -> None:
    speed = np.array([5.0, 5.0, 0.0, 0.01, -0.02, -2.0, -2.0, 0.0])
    yaw_rate = np.array([0.5, 0.5, 0.3, -0.4, 0.0, -0.8, -0.8, 0.1])
    moved = Motion(speed, yaw_rate, np.zeros(8))
    assert np.allclose(moved.curvature, [0.1, 0.1, 0.175, 0.25, 0.325, 0.4, 0.4, 0.4])
    assert moved.gear.tolist() == [1, 1, 1, 1, 1, -1, -1, -1]
    never = Motion(np.zeros(3), np.array([0.1, -0.1, 0.0]), np.zeros(3))
    assert never.curvature.tolist() == [0, 0, 0] and never.gear.tolist() == [1, 1, 1]
    assert np.isfinite(BICYCLE.actions(never)).all()


def test_motion_from_two_poses() -> None:
    truth = Truth(frames=2)
    moved = motion(rates_from_poses(truth.times, *truth.camera()), truth.times)
    assert np.isfinite(BICYCLE.actions(moved)).all()
    assert np.allclose(motion(Rates(np.array([0.0]), np.array([3.0]), np.array([0.1])), truth.times).speed, 3.0)


def test_against_the_road_environment() -> None:
    """Steering of the scripted driver, estimated from the car's path while it moves."""
    from daydrive.envs.road import drive
    from daydrive.envs.road.vehicle import WHEELBASE as BASE
    from daydrive.envs.road.vehicle import full_lock

    for seed in (0, 2, 5):
        driven = [(action, info) for _, action, info in drive(seed, 120, (64, 64))]
        commands, info = np.array([action for action, _ in driven]), [info for _, info in driven]
        x, y, yaw, speed = (np.array([float(i[name]) for i in info]) for name in ("x", "y", "yaw", "speed"))
        c, s, zero = np.cos(yaw), np.sin(yaw), np.zeros(len(yaw))
        axes = np.moveaxis(np.array([[c, -s, zero], [s, c, zero], [zero, zero, zero + 1.0]]), -1, 0)
        times = np.arange(len(yaw)) / 10
        moved = motion(rates_from_poses(times, np.stack([x, y, zero], 1), axes), times)
        moves = speed > 1.0
        wheel = np.array([float(i["wheel_angle"]) for i in info])
        between = (wheel + np.append(wheel[1:], wheel[-1])) / 2
        angle = Bicycle(BASE, 0.5).steering_angle(moved)
        assert np.corrcoef(angle[moves], between[moves])[0, 1] > 0.98
        share = angle / np.array([full_lock(v) for v in moved.speed])
        delay = lag(commands[moves, 0], share[moves], 10.0)
        assert delay.correlation > 0.95 and 0.5 < delay.frames < 1.5, "the car's steering lags by 0.12 s"


@pytest.mark.skipif(not COMMA2K19.is_dir(), reason=f"the recording is not at {COMMA2K19}")
def test_against_can_data_of_a_real_car() -> None:
    """On a nearly straight highway, where the steering angle varies by only 0.8 degrees (rms)."""
    (segment,) = (folder.parent for folder in COMMA2K19.rglob("global_pose"))

    def read(name: str) -> np.ndarray:
        return np.load(segment / name, allow_pickle=False)

    times, positions = read("global_pose/frame_times"), read("global_pose/frame_positions")
    axes = rotations_from_quaternions(read("global_pose/frame_orientations"))
    moved = motion(rates_from_poses(times, positions, axes, positions[0] / np.linalg.norm(positions[0])), times)
    edges = np.append(times, 2 * times[-1] - times[-2])
    can = "processed_log/CAN"
    wheel = -means_between(read(f"{can}/steering_angle/t"), read(f"{can}/steering_angle/value"), edges)
    speed_times, speed = read(f"{can}/speed/t"), read(f"{can}/speed/value")
    assert np.corrcoef(moved.speed, means_between(speed_times, speed[:, 0], edges))[0, 1] > 0.999
    faster = smooth(speed_times, speed, (edges[1:] + edges[:-1]) / 2, 1.0).slope[:, 0]
    assert np.corrcoef(moved.acceleration, faster)[0, 1] > 0.99
    angle = Bicycle(2.66, 0.5).steering_angle(moved)
    delay = lag(wheel, angle, 20.0)
    assert delay.correlation > 0.85 and 0.5 < delay.frames < 3.0, "yaw lags delay the steering wheel"
    turned = np.abs(wheel) > 1.5
    assert np.corrcoef(angle[turned], wheel[turned])[0, 1] > 0.95
