"""`daydrive plan` and `daydrive rank`: what they write, that they continue, and what they refuse."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from daydrive import cli
from daydrive.decisions import closed_loop, planning, ranked_drivers, ranking
from daydrive.decisions.policy.network import Policy
from daydrive.decisions.ranked_drivers import SKILLS
from daydrive.evaluation.decisions import read_decisions
from helpers.guide import blocks
from helpers.paths import REPO
from helpers.refusals import Refuse

Run = Callable[..., None]

MEASURES = {
    "lane_share", "lane_share_interval", "off_road_share", "speed_error", "jerk", "steering_rate", "ms_per_decision",
}  # fmt: skip


def change_root(run: Path, root: str) -> None:
    """Changes the store that a run's checkpoints name."""
    for file in run.rglob("config.json"):
        config = json.loads(file.read_text())
        config["data"]["root"] = root
        file.write_text(json.dumps(config))


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, trained: Path, readout_file: Path, here: Path) -> Run:
    """Runs a command with the model and the readout."""

    def run(name: str, *options: object) -> None:
        inputs = ["--checkpoint", trained, "--readout", readout_file, "--device", "cpu", "--output", "out"]
        monkeypatch.setattr(sys, "argv", ["daydrive", name, *map(str, [*inputs, *options])])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert not ended.value.code

    return run


def test_plan_compares_five_drivers(
    command: Run, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command("plan", "--roads", "2", "--seconds", "0.5", "--samples", "2", "--horizon", "1")
    found = json.loads((here / "out/plan.json").read_text())
    assert list(found["drivers"]) == ["world_model", "simulator", "scripted", "random", "straight"]
    for driver in found["drivers"].values():
        assert driver.keys() >= MEASURES and 0 <= driver["lane_share"] <= 1
        assert driver["lane_share_interval"][0] <= driver["lane_share"] <= driver["lane_share_interval"][1]
    assert found["planner"]["sampling"]["samples"] == 2 and found["target_speeds"] == [5, 8]
    at_5, at_8, both = (d["straight"]["speed_error"] for d in (*found["by_target_speed"].values(), found["drivers"]))
    assert both == pytest.approx((at_5 + at_8) / 2)
    files = {"plan.json", "tracks.png", "views.png", "drives.mp4"}
    assert {file.name for file in (here / "out").iterdir()} == files and not list(here.glob("*.partial"))
    out = capsys.readouterr().out
    assert all(name in out for name in (*found["drivers"], *files))


def test_an_interrupted_plan_continues(command: Run, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driven: list[tuple[object, ...]] = []

    def interrupt_after(count: int) -> None:
        def drive(driver: object, roads: list[int], seconds: float, speed: float, **options: object) -> object:
            if len(driven) == count:
                raise KeyboardInterrupt
            driven.append((type(driver).__name__, driver.frames, *roads, speed))  # type: ignore[attr-defined]
            return closed_loop.drive_closed_loop(driver, roads, seconds, speed, **options)  # type: ignore[arg-type]

        monkeypatch.setattr(planning, "drive_closed_loop", drive)

    options = ("--roads", "1", "--seconds", "0.5", "--samples", "2", "--horizon", "1")
    interrupt_after(3)
    with pytest.raises(AssertionError):
        command("plan", *options)
    assert (here / "out.partial").is_dir() and not (here / "out").exists()
    interrupt_after(99)
    command("plan", *options)
    assert len(driven) == len(set(driven)) == 10, "each drive once"


COST = """
def smooth():
    return lambda prediction: prediction.actions.diff(dim=1).square().sum((1, 2)) + 0 * prediction.frames.float().mean()
def number():
    return 3
def broken():
    raise RuntimeError("no weights")
"""


def test_plan_with_a_cost_of_ones_own(command: Run, here: Path) -> None:
    (shown,) = [block for block in blocks("python", REPO / "docs/PLANNING.md") if "def cost" in block.text]
    (here / "cost.py").write_text(shown.text)
    command("plan", "--roads", "1", "--seconds", "0.5", "--cost", "cost.py:load", "--target-speed", "6")
    found = json.loads((here / "out/plan.json").read_text())
    assert found["cost"] == "cost.py:load" and found["target_speeds"] == [6]
    assert found["drivers"]["world_model"]["lane_share_interval"] is None


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short drives, of fewer drivers."""
    monkeypatch.setattr("daydrive.decisions.ranking.HORIZONS", (0.1, 0.3))
    monkeypatch.setattr("daydrive.decisions.ranking.MAIN_HORIZON", 0.3)
    for module in ("ranking", "ranked_drivers"):
        monkeypatch.setattr(f"daydrive.decisions.{module}.CLONING_STEPS", (1, 2))


def test_rank_compares_orders_of_graded_drivers_and_ones_own(
    command: Run, here: Path, quick: None, policy_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (policy,) = [block for block in blocks("python", REPO / "docs/PLANNING.md") if "class Mine" in block.text]
    (here / "mine.py").write_text(policy.text)
    command("rank", "--roads", "2", "--policy", "mine.py:load", "--policy", policy_file, "--seeds", "2")
    found = json.loads((here / "out/rank.json").read_text())
    for name in ("spearman", "kendall", "cheat_spearman"):
        assert -1 <= found[name] <= 1
    low, high = found["spearman_interval"]
    assert -1 <= low <= high <= 1 and set(found["horizons"]) == {"0.1", "0.3"}
    assert list(found["horizons"]["0.3"]["lane_error"]) == found["names"]
    assert found["names"] == [*SKILLS, "mine.py:load", str(policy_file), "cloned 1", "cloned 2"]
    assert found["seeds"] == 2 and [each["seed"] for each in found["by_seed"]] == [0, 1]
    (entry,) = read_decisions([here / "out"])
    assert entry["results"]["horizons"]["0.3"]["spearman"] == found["spearman"], "the report reads it"
    out = capsys.readouterr().out
    assert "mine.py:load" in out and "cloned 2" in out and "by seed" in out and "ignores its actions" in out


def test_an_interrupted_ranking_continues(
    command: Run, here: Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daydrive.decisions.ranked_drivers.SKILLS", {"good": SKILLS["good"]})
    driven: list[tuple[str, int]] = []
    offsets, clone = ranking._Experiment.offsets, ranked_drivers.cloned_policy
    cloned: list[int] = []

    def interrupted(self: ranking._Experiment, world: str, number: int, *rest: object) -> object:
        if len(driven) == 4 and cloned == [1, 2]:
            driven.append(("interrupted", 0))
            raise KeyboardInterrupt
        driven.append((world, number))
        return offsets(self, world, number, *rest)  # type: ignore[arg-type]

    def counted(*arguments: object, **options: object) -> object:
        cloned.append(arguments[4])  # type: ignore[arg-type]
        return clone(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(ranking._Experiment, "offsets", interrupted)
    monkeypatch.setattr(ranked_drivers, "cloned_policy", counted)
    with pytest.raises(AssertionError):
        command("rank", "--roads", "1")
    assert (here / "out.partial").is_dir() and not (here / "out").exists()
    command("rank", "--roads", "1")
    driven.remove(("interrupted", 0))
    assert len(driven) == len(set(driven)) == 15 and cloned == [1, 2], "each drive and each policy once"


def test_without_a_store_no_policies_are_cloned(
    run: Path, readout_file: Path, here: Path, quick: None, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    change_root(run, "gone")
    monkeypatch.setattr("daydrive.decisions.ranked_drivers.SKILLS", {"good": SKILLS["good"]})
    arguments = ["rank", "--checkpoint", run, "--readout", readout_file, "--roads", "1", "--output", "out"]
    monkeypatch.setattr(sys, "argv", ["daydrive", *map(str, [*arguments, "--device", "cpu"])])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code
    assert json.loads((here / "out/rank.json").read_text())["names"] == ["good"]
    lines = capsys.readouterr().out.splitlines()
    (line,) = [line for line in lines if line.startswith("no cloned policies among the drivers: ")]
    assert "there is no store at" in line


def test_a_readout_is_trained_if_there_is_none(
    trained: Path, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from daydrive.decisions import inputs

    train, steps = inputs.train_readout, list[int]()

    def few_steps(*arguments: object, **options: object) -> object:
        steps.append(2)
        return train(*arguments, steps=2, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(inputs, "train_readout", few_steps)
    options = ["--roads", "1", "--seconds", "0.5", "--samples", "2", "--horizon", "1", "--device", "cpu"]
    for name in ("plan", "plan"):
        arguments = [name, "--checkpoint", str(trained), "--output", "new/out", *options]
        monkeypatch.setattr(sys, "argv", ["daydrive", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert not ended.value.code
    assert steps == [2], "the second one uses the readout of the first"
    assert (here / "new/out/readout.safetensors").is_file()


POLICY = """
class Driver:
    frames = 2
    def reset(self, task): pass
    def act(self, observation): return [float("nan"), 0, 0, 1]
class Blind(Driver):
    frames = 0
def nan(): return Driver()
def blind(): return Blind()
def number(): return 3
def broken(): raise RuntimeError("no weights")
"""


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("plan", ["--checkpoint", "nowhere"], "there is no checkpoint nowhere"),
        ("plan", ["--readout", "nowhere"], "there is no readout nowhere"),
        ("plan", ["--readout", "policy.py"], "not a complete readout"),
        ("plan", ["--output", "policy.py"], "the output folder policy.py is a file"),
        ("plan", ["--solver", "mpi"], "there is no solver 'mpi'; did you mean 'mppi'"),
        ("plan", ["--samples", "1"], "(?i)--samples"),
        ("plan", ["--horizon", "0"], "(?i)--horizon"),
        ("plan", ["--steering-rate", "-1"], "(?i)--steering-rate"),
        ("plan", ["--target-speed", "0"], "--target-speed 0: it is from 1 to 25 m/s"),
        ("plan", ["--target-speed", "nan"], "--target-speed nan"),
        ("plan", ["--seconds", "fast"], "(?i)--seconds"),
        ("plan", ["--split", "train"], "--split train: unseen roads are test or val"),
        ("plan", ["--precision", "bfloat"], "--precision bfloat: .*; did you mean 'bfloat16'"),
        ("plan", ["--device", "gpu"], "--device gpu"),
        ("plan", ["--cost", "cost"], "the cost 'cost' must be FILE.py:NAME"),
        ("plan", ["--cost", "nowhere.py:cost"], "the cost 'nowhere.py:cost': there is no file nowhere.py"),
        ("plan", ["--cost", "cost.py:smoth"], "has no function 'smoth'; did you mean 'smooth'"),
        ("plan", ["--cost", "cost.py:number"], "returns a int instead of a cost function"),
        ("plan", ["--cost", "cost.py:broken"], r"the cost 'cost.py:broken' failed \(RuntimeError: no weights\)"),
        ("rank", ["--roads", "0"], "(?i)--roads"),
        ("rank", ["--target-speed", "99"], "--target-speed 99: it is from 1 to 25 m/s"),
        ("rank", ["--policy", "policy.py"], "the policy 'policy.py' must be FILE.py:NAME"),
        ("rank", ["--policy", "policy.py:lod"], "has no function 'lod'"),
        (
            "rank",
            ["--policy", "policy.py:number"],
            "returns a int without 'frames'; a driver has frames, reset and act",
        ),
        ("rank", ["--policy", "policy.py:blind"], "has frames 0; it must be an integer from 1 to 64"),
        ("rank", ["--policy", "policy.py:broken"], r"failed \(RuntimeError: no weights\)"),
        ("rank", ["--seed", "-1"], "(?i)--seed"),
        ("rank", ["--seeds", "0"], "(?i)--seeds"),
        ("rank", ["--split", "train"], "--split train: unseen roads are test or val"),
        ("rank", ["--precision", "half"], "--precision half: there is no such precision"),
        ("rank", ["--readout", "policy.py"], "not a complete readout"),
        ("rank", ["--output", "policy.py"], "the output folder policy.py is a file"),
        ("rank", ["--data-root", "nowhere"], "there is no store at nowhere"),
        ("rank", ["--data-root", "{small}"], "expects images of 64x64 and the store .* has 32x32"),
        ("rank", ["--policy", "nowhere.safetensors"], "there is no policy nowhere.safetensors"),
        ("rank", ["--policy", "."], "there is no policy policy.safetensors"),
        ("rank", ["--policy", "noise.safetensors"], "noise.safetensors is not a complete policy"),
        ("rank", ["--policy", "large.safetensors"], "--policy large.safetensors: its image size is .128, 128."),
        ("rank", ["--policy", "slow.safetensors"], "--policy slow.safetensors: its rate is 5 Hz"),
        ("rank", ["--checkpoint", "policy.py"], "policy.py is not a checkpoint"),
    ],
)
def test_invalid_input_is_refused(
    name: str, options: list[str], message: str, trained: Path, readout_file: Path, here: Path, refuse: Refuse,
    policy: Policy, small_store: Path,
) -> None:  # fmt: skip
    (here / "policy.py").write_text(POLICY)
    (here / "noise.safetensors").write_bytes(bytes(range(200)))
    for file, change in (("large", {"image_size": (128, 128)}), ("slow", {"hz": 5.0})):
        Policy(policy.network, policy.info.model_copy(update=change)).save(here / f"{file}.safetensors")
    (here / "cost.py").write_text(COST)
    given = {"--checkpoint": str(trained), "--readout": str(readout_file), "--output": "out", "--device": "cpu"}
    given |= {options[0]: options[1].format(small=small_store)}
    refuse(name, *[word for pair in given.items() for word in pair], message=message)


def test_a_policy_that_returns_no_action_is_named(
    command: Run, here: Path, monkeypatch: pytest.MonkeyPatch, trained: Path, readout_file: Path, refuse: Refuse
) -> None:
    monkeypatch.setattr("daydrive.decisions.ranked_drivers.SKILLS", {})
    monkeypatch.setattr("daydrive.decisions.ranking.CLONING_STEPS", ())
    monkeypatch.setattr("daydrive.decisions.ranked_drivers.CLONING_STEPS", ())
    (here / "policy.py").write_text(POLICY)
    refuse(
        "rank", "--checkpoint", trained, "--readout", readout_file, "--output", "out", "--device", "cpu",
        "--policy", "policy.py:nan", "--roads", "1",
        message="the policy 'policy.py:nan' returns .* which is not an action of four finite numbers",
    )  # fmt: skip


def test_a_model_without_readout_and_store_is_refused(
    run: Path, here: Path, refuse: Refuse, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_root(run, "gone")
    refuse(
        "plan", "--checkpoint", run, "--output", "out", "--device", "cpu",
        message="there is no readout and no store to train one on; name one with --readout, or a store with --data",
    )  # fmt: skip
