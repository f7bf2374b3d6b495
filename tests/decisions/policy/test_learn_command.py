"""`daydrive learn-policy` and what uses its policies: files, resuming, recording, driving; invalid input."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from rich.console import Console

from daydrive import cli
from daydrive.data.images import read_image
from daydrive.decisions.closed_loop import RoadResult
from daydrive.decisions.policy import pipeline
from daydrive.decisions.policy.evaluation import (
    DISPLACEMENTS,
    SECONDS,
    Driven,
    drive_policy,
    has_recovered,
    ratios,
    summarize_policy,
)
from daydrive.decisions.policy.imagination import ImaginationConfig
from daydrive.decisions.policy.learners import LEARNERS, LearnConfig
from daydrive.decisions.policy.network import Policy, load_policy
from daydrive.decisions.policy.pipeline import LearnOptions, learn
from daydrive.envs.world_model import Readout
from helpers.refusals import Refuse

TINY = LearnConfig(
    cloning_steps=2,
    long_cloning_steps=2,
    imagination=ImaginationConfig(updates=1, batch=2, horizon=2, displacement=4, moments=4, min_speed=-100.0),
    drives=2,
    frames=6,
    rounds=1,
    simulator_steps=4,
)


def driven_track(**changes: object) -> RoadResult:
    steps = round(10 * SECONDS)
    numbers = dict.fromkeys(RoadResult._fields, 0.0)
    track = {"lane_offset": np.zeros(steps), "speed": np.full(steps, 5.0), "frames": None, "road": 1}
    return RoadResult(**{**numbers, **track, **changes})  # type: ignore[arg-type]


def test_recovered_is_moving_with_the_whole_car_in_the_lane_for_the_last_second() -> None:
    steps = round(10 * SECONDS)
    assert has_recovered(driven_track())
    late = np.where(np.arange(steps) < steps - 10, 1.2, 0.8)
    assert has_recovered(driven_track(lane_offset=late))
    assert not has_recovered(driven_track(lane_offset=np.roll(late, 1)))
    assert not has_recovered(driven_track(lane_offset=-np.roll(late, 1)))
    assert not has_recovered(driven_track(speed=np.full(steps, 0.5)))
    assert not has_recovered(driven_track(lane_offset=np.zeros(20), speed=np.full(20, 5.0)))


def test_shares_are_means_over_starts_with_intervals_over_roads() -> None:
    recovered = {name: [k < 2, False] for k, name in enumerate(DISPLACEMENTS)}
    summary = summarize_policy([
        Driven([7, 8], [1.0, 0.5], [8.0, 10.0], recovered), Driven([7, 8], [0.5, 0.0], [8.0, 6.0], recovered),
    ])  # fmt: skip
    assert summary["speed"] == 8 and summary["lane_share"] == 0.5 and summary["lane_share_interval"] == [0.25, 0.75]
    assert summary["recovered_share"] == pytest.approx(0.2) and summary["recovered_share_by_seed"] == [0.2, 0.2]
    assert [each["share"] for each in summary["recovered"].values()] == [0.5, 0.5, 0, 0, 0]
    shares = {"world_model": 0.6, "cloning": 0.3, "cloning_noise": 0.0, "simulator": 0.8}
    found = ratios({name: {"recovered_share": share} for name, share in shares.items()})
    assert found == {"cloning": 2.0, "cloning_noise": None, "simulator": pytest.approx(0.75)}


def test_policies_drive_from_every_displacement(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daydrive.decisions.policy.evaluation.SECONDS", 0.4)
    monkeypatch.setattr("daydrive.decisions.policy.evaluation.LANE_SECONDS", 0.5)
    shown: list[tuple[int, int]] = []
    driven = drive_policy(policy, [2**32, 2**32 + 1], lambda *counts: shown.append(counts))
    assert set(driven.recovered) == set(DISPLACEMENTS) and all(len(each) == 2 for each in driven.recovered.values())
    assert len(driven.lane_share) == len(driven.speed) == 2 and [done for done, _ in shown] == list(range(1, 13))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("evaluation", "trajectories"):
        monkeypatch.setattr(f"daydrive.decisions.policy.{module}.LANE_SECONDS", 0.5)
    monkeypatch.setattr("daydrive.decisions.policy.evaluation.SECONDS", 0.3)


@pytest.fixture
def options(trained: Path, road_store: Path, readout_file: Path) -> LearnOptions:
    return LearnOptions(trained, road_store, readout_file, True, 1, 0, 2, TINY)


def test_an_interrupted_command_continues_and_gives_the_same_policies(
    options: LearnOptions, here: Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    learned: list[str] = []
    learn_one = pipeline.Learners.learn

    def interrupted(self: pipeline.Learners, name: str, *rest: object) -> Policy:
        learned.append(name)
        if learned.count("cloning_noise") == 1 and name == "cloning_noise":
            raise KeyboardInterrupt
        return learn_one(self, name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(pipeline.Learners, "learn", interrupted)
    monkeypatch.setattr(pipeline, "export_policy", lambda policy, file: file.write_bytes(b"onnx"))
    with pytest.raises(KeyboardInterrupt):
        learn(options, here / "policies", Console(quiet=True))
    assert not (here / "policies").exists()
    result = learn(options, here / "policies", Console(quiet=True))
    assert learned == ["world_model", "cloning", "cloning_noise", "cloning_noise", "simulator"]
    assert sorted(path.name for path in here.iterdir()) == ["policies"]
    written = json.loads((here / "policies/policy.json").read_text())
    assert result is not None and set(written["policies"]) == set(LEARNERS)
    for each in written["policies"].values():
        assert 0 <= each["lane_share"] <= 1 and 0 <= each["recovered_share"] <= 1 and each["minutes"]["cpu"] > 0
    names = sorted(path.name for path in (here / "policies").iterdir())
    assert names == ["policies", "policy.json", "policy.onnx", "policy.safetensors", "roads.mp4", "roads.png"]
    assert read_image(here / "policies/roads.png", "roads", (0, 0)).shape[2] == 3
    with av.open(str(here / "policies/roads.mp4")) as video:
        assert len(list(video.decode(video=0))) == 5, "half a second"
    again = learn(options, here / "again", Console(quiet=True))
    assert again is not None
    frames = torch.randint(0, 256, (1, 2, 3, 64, 64), dtype=torch.uint8)
    for name in LEARNERS:
        file = f"policies/{name}-0.safetensors"
        one, other = load_policy(here / "policies" / file), load_policy(here / "again" / file)
        assert one(frames).equal(other(frames)) and one.info == other.info and one.info.learned == name


def test_command_without_the_comparison(
    trained: Path, road_store: Path, readout_file: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", [
        "daydrive", "learn-policy", "--checkpoint", str(trained), "--data-root", str(road_store), "--readout",
        str(readout_file), "--output", "new/learned", "--no-compare", "--seeds", "1", "--cloning-steps", "2",
        "--updates", "0",
    ])  # fmt: skip
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code
    names = sorted(path.name for path in (here / "new/learned").iterdir())
    assert names == ["policies", "policy.onnx", "policy.safetensors"]
    assert load_policy(here / "new/learned").info.learned == "world_model"


def test_a_policy_records_drives(policy_file: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["record", "--env", "road", "--policy", str(policy_file), "--drives", "2", "--frames", "4"]
    for _ in range(2):
        monkeypatch.setattr("sys.argv", ["daydrive", *arguments, "--output", "drives"])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert not ended.value.code
    assert sorted(path.name for path in (here / "drives").iterdir()) == ["road_00000", "road_00001"]
    rows = (here / "drives/road_00000/actions.csv").read_text().splitlines()
    assert rows[0].startswith("steering,throttle,brake,gear,time,lane_offset") and len(rows) == 5


def other_size(file: Path) -> None:
    policy = load_policy(file)
    Policy(policy.network, policy.info.model_copy(update={"image_size": (128, 128)})).save(file)


def other_rate(file: Path) -> None:
    policy = load_policy(file)
    Policy(policy.network, policy.info.model_copy(update={"hz": 5.0})).save(file)


@pytest.mark.parametrize(
    ("damage", "command", "message"),
    [
        (Path.unlink, ("record", "--env", "road"), "there is no policy"),
        (other_rate, ("record", "--env", "road"), "decides at 5 Hz, and the road simulator has 10"),
        (None, ("record", "--env", "CarRacing-v3"), "--policy drives in the road simulator"),
        (None, ("record", "--env", "road", "--hz", 5), "--hz is not for --env road"),
        (None, ("record", "--env", "road", "--town", "Town01"), "--town is not for --env road"),
        (other_size, ("drive", "--env", "road", "--image-size", 64, 64), "its image size is .128, 128., and that"),
        (other_rate, ("drive", "--env", "road", "--image-size", 64, 64), "its rate is 5 Hz, and that of what"),
        (lambda file: file.write_bytes(b"x"), ("drive", "--env", "road"), "is not a complete policy"),
    ],
)
def test_invalid_policies_are_refused(
    damage: Callable[[Path], None] | None, command: tuple[object, ...], message: str, policy_file: Path, refuse: Refuse
) -> None:
    if damage is not None:
        damage(policy_file)
    refuse(*command, "--policy", policy_file, message=message)


def test_recording_the_road_needs_a_policy(refuse: Refuse) -> None:
    refuse("record", "--env", "road", message="--env road records a policy: give --policy FILE")


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--checkpoint", "nowhere", "there is no checkpoint nowhere"),
        ("--data-root", "nowhere", "there is no store at nowhere"),
        ("--data-root", "{small}", "expects images of 64x64 and the store"),
        ("--readout", "nowhere", "there is no readout nowhere"),
        ("--readout", "{speed}", "learning in the model needs a readout of lane_offset, heading_error"),
        ("--readout", "{slow}", "the readout was trained on images of 64x64 at 5 Hz"),
        ("--output", "{file}", "is a file; give a folder"),
        ("--seeds", "0", "(?i)--seeds"),
        ("--roads", "1", "(?i)--roads"),
        ("--updates", "-1", "(?i)--updates"),
        ("--cloning-steps", "0", "(?i)--cloning-steps"),
        ("--seed", "-1", "(?i)--seed"),
    ],
)
def test_invalid_input_is_refused(
    option: str, value: str, message: str, trained: Path, road_store: Path, small_store: Path, readout: Readout,
    readout_file: Path, tmp_path: Path, refuse: Refuse,
) -> None:  # fmt: skip
    slow = tmp_path / "slow.safetensors"
    Readout(readout.network, readout.info.model_copy(update={"hz": 5.0})).save(slow)
    speed = tmp_path / "speed.safetensors"
    from daydrive.envs.world_model.readout import ReadoutNetwork

    info = readout.info.model_copy(update={"units": {"speed": "m/s"}})
    Readout(ReadoutNetwork(("speed",), 0.44), info).save(speed)
    arguments = {
        "--checkpoint": trained, "--data-root": road_store, "--readout": readout_file, "--output": "learned",
    }  # fmt: skip
    arguments[option] = Path(value.format(small=small_store, speed=speed, slow=slow, file=readout_file))
    refuse("learn-policy", *[word for pair in arguments.items() for word in pair], message=message)


def test_a_store_of_another_source_is_not_compared(run: Path, store: Path, readout_file: Path, refuse: Refuse) -> None:
    file = store / "store.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "source": "folder"}))
    refuse(
        "learn-policy", "--checkpoint", run, "--data-root", store, "--readout", readout_file, "--output", "learned",
        message="are from 'folder', not from the road simulator, .* give --no-compare",
    )  # fmt: skip
