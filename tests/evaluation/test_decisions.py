"""Results of planning, learned policies and rankings in the report: text, page and errors."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from daydrive.evaluation.decisions import read_decisions
from daydrive.report.text import decisions_markdown
from helpers.decision_results import RESULTS, rank_results, write_results
from helpers.planted_predictions import evaluated, scene_store, steerer
from helpers.refusals import Refuse

Change = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """An evaluation with the results of all three commands, and its folder."""
    folder = tmp_path_factory.mktemp("reported")
    decisions = tuple(write_results(folder))
    return evaluated(steerer, scene_store(folder), folder / "out", decisions=decisions), folder / "out"


def test_results_are_part_of_the_evaluation(reported: tuple[dict[str, Any], Path]) -> None:
    evaluation, folder = reported
    assert json.loads((folder / "evaluation.json").read_text())["decisions"] == evaluation["decisions"]
    assert [entry["command"] for entry in evaluation["decisions"]] == ["plan", "learn-policy", "rank"]
    plan, policy, rank = (entry["results"] for entry in evaluation["decisions"])
    assert plan["drivers"]["world_model"]["lane_share"] == 0.9 and policy["policies"]["cloning"]["speed"] == 9.5
    assert rank["horizons"]["3"]["lane_error"] == rank_results()["horizons"]["3"]["lane_error"]


def test_reports_say_what_the_results_mean(reported: tuple[dict[str, Any], Path]) -> None:
    _, folder = reported
    for report in ("report.html", "report.md"):
        text = (folder / report).read_text(encoding="utf-8")
        for sentence in (
            "On 7 unseen roads of the true simulator, planning in the model keeps the car in its lane for 90% of the "
            "time, where the same planner in the simulator itself keeps it there for 100%, and takes 41 ms per",
            "returns to its lane from 80% of the displaced starts, 2.0 times as many as cloning alone (model: demo/",
            "orders 3 drivers as the true simulator does with a rank correlation (Spearman) of 0.87 (by seed 0.81, "
            "0.93): 1 is the same order, 0 is unrelated; it is -0.09 if",
        ):
            assert sentence in text
    rows = re.findall(r"^\| (.*) \|$", (folder / "report.md").read_text(), re.MULTILINE)
    assert "world_model | 90% [80%, 90%] | 90% [80%, 90%] | 2% | 0.30 | 0.12 | 41.3" in rows
    assert "cloning | 97% [91%, 100%] | 9.5 | 40% [30%, 50%] | 40% | 33% | 2.5" in rows
    assert "3 s | 0.87 [0.73, 0.95] | 0.70 | -0.09" in rows and "1 s | 0.50 [0.73, 0.95] | 0.70 | -0.09" in rows
    names = [row.partition(" | ")[0] for row in rows]
    assert names[-3:] == ["good", "gain 0", "lag 9"], "the best in the simulator first"


def test_the_page_shows_the_ranking_as_a_scatter_plot(reported: tuple[dict[str, Any], Path]) -> None:
    _, folder = reported
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert (folder / "ranking.png").read_bytes().startswith(b"\x89PNG")
    section = page[page.index('id="decisions"') :].partition("</section>")[0]
    assert re.search(r'<img alt="Mean distance of each driver [^"]*" src="data:image/png;base64,', section)
    headings = re.findall("<h3>(.*?)</h3>", section)
    assert headings == ["Planning in the model", "Learned policies", "Ranking of drivers"]
    assert section.count("<table>") == 4 and '<a href="#decisions">' in page


def test_a_policy_beside_one_that_never_recovers(tmp_path: Path) -> None:
    folders = write_results(tmp_path)
    results = RESULTS["policy"]()
    results["policies"]["cloning"]["recovered_share"] = 0
    (folders[1] / "policy.json").write_text(json.dumps(results))
    assert "80% of the displaced starts, cloning alone from none" in decisions_markdown(read_decisions(folders))


def test_a_folder_may_have_several_results(tmp_path: Path) -> None:
    for name, results in RESULTS.items():
        (tmp_path / f"{name}.json").write_text(json.dumps({**results(), "training_step": None}))
    entries = read_decisions([tmp_path])
    assert [entry["command"] for entry in entries] == ["plan", "learn-policy", "rank"]
    assert "steps of training" not in decisions_markdown(entries)


def test_folders_without_results_are_refused(
    trained: Path, road_store: Path, here: Path, tmp_path: Path, refuse: Refuse
) -> None:
    command = ("evaluate", "--checkpoint", trained, "--data-root", road_store, "--output", "out")
    (here / "empty").mkdir()
    (here / "file").write_text("in the way")
    for folder, message in (
        ("nowhere", "--decisions nowhere: there is no such folder"),
        ("file", "--decisions file: there is no such folder"),
        ("empty", "--decisions empty: none of plan.json, policy.json, rank.json is there"),
    ):
        refuse(*command, "--decisions", folder, message=message)
    good = write_results(here)[0]
    refuse(*command, "--decisions", good, "--decisions", "empty", message="--decisions empty: none of")


def set_to(value: object, *keys: str) -> Change:
    def change(results: dict[str, Any]) -> None:
        for key in keys[:-1]:
            results = results[key]
        results[keys[-1]] = value

    return change


def without(*keys: str) -> Change:
    def change(results: dict[str, Any]) -> None:
        for key in keys[:-1]:
            results = results[key]
        del results[keys[-1]]

    return change


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("plan", "{", "plan.json:1: the result of `daydrive plan` is not valid JSON"),
        ("plan", "[]", "plan.json is not the result of `daydrive plan` .the whole: "),
        ("plan", without("drivers"), "drivers: field required"),
        ("plan", without("drivers", "simulator"), "drivers: there is no 'simulator'"),
        ("plan", without("by_target_speed", "5", "world_model"), "by_target_speed.5: there is no 'world_model'"),
        (
            "plan",
            set_to(1.5, "drivers", "random", "lane_share"),
            "drivers.random.lane_share: input should be less",
        ),
        ("plan", set_to([0.5], "drivers", "random", "lane_share_interval"), "lane_share_interval: .*at least 2 items"),
        ("plan", set_to(float("nan"), "drivers", "random", "lane_error"), "lane_error: .* finite number"),
        ("policy", without("policies", "cloning"), "policies: there is no 'cloning'"),
        ("policy", set_to("many", "policies", "cloning", "speed"), "policies.cloning.speed: .* valid number"),
        ("policy", set_to(3, "roads"), "roads: .* valid list"),
        ("rank", without("horizons", "3"), "the whole: there is no horizon '3'"),
        ("rank", set_to(2, "horizons", "1", "spearman"), "horizons.1.spearman: .* less than or equal to 1"),
        ("rank", set_to({}, "horizons", "1", "lane_error"), "horizons.1.lane_error: .*at least 2 items"),
        ("rank", set_to("5", "main_horizon"), "there is no horizon '5'"),
        ("rank", b"\xff", "the result of `daydrive rank` .* cannot be read"),
    ],
)
def test_malformed_results_are_refused(
    name: str, change: Change | str | bytes, message: str, trained: Path, road_store: Path, here: Path, refuse: Refuse
) -> None:
    folder, results = here / "results", copy.deepcopy(RESULTS[name]())
    folder.mkdir()
    if callable(change):
        change(results)
        change = json.dumps(results)
    (folder / f"{name}.json").write_bytes(change.encode() if isinstance(change, str) else change)
    command = ("evaluate", "--checkpoint", trained, "--data-root", road_store, "--output", "out")
    refuse(*command, "--decisions", folder, message=message)
