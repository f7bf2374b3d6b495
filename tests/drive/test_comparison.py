"""Two models side by side, and the blind comparison."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from daydrive.drive.comparison import BlindComparison, binomial_p_value, wilson_interval
from daydrive.drive.scenario import Scenario, load_scenario
from daydrive.evaluation import EvaluateConfig, evaluate
from helpers.driving import Page, serving
from helpers.refusals import Refuse

MODELS = ({"name": "first"}, {"name": "second"})


def scenario_of(trained: Path, store: Path, output: Path, blind: bool) -> Scenario:
    return load_scenario([trained, trained], store, output, blind=blind, device=torch.device("cpu"))


def test_two_models_take_the_same_actions(trained: Path, road_store: Path, tmp_path: Path) -> None:
    with serving(scenario_of(trained, road_store, tmp_path, blind=False)) as address, Page(address) as page:
        page.act(steering=0.7, throttle=0.5)
        page.answer(type="step")
        assert len(page.images) == 2 and page.images[0] == page.images[1] and len(page.header["model_ms"]) == 2
        assert [view["kind"] for view in page.header["views"]] == ["model", "model"]
        page.answer(type="reference", on=True)
        page.answer(type="step")
        assert len(page.images) == 3 and len(page.header["psnr"]) == 2
        assert "no blind comparison" in page.answer(type="choose", choice="left")["message"]


def test_blind_page_does_not_learn_which_model_is_where(trained: Path, road_store: Path, tmp_path: Path) -> None:
    output = tmp_path / "results"
    with serving(scenario_of(trained, road_store, output, blind=True)) as address, Page(address) as page:
        assert page.welcome["blind"] and [view["name"] for view in page.header["views"]] == ["left", "right"]
        assert "drive before you choose" in page.answer(type="choose", choice="left")["message"]
        assert "two models only" in page.answer(type="reference", on=True)["message"]
        assert "not recorded" in page.answer(type="record", on=True)["message"]
        for number, choice in enumerate(("left", "equal", "right"), 1):
            page.answer(type="step")
            assert len(page.header["model_ms"]) == 1 and "run" not in json.dumps(page.header)
            status = page.answer(type="choose", choice=choice)
            assert status["rounds"] == number and status["moment"] == number and page.header["step"] == 0
        page.send(type="reveal")
        shown = page.wait(lambda message: message["type"] == "results")
    (file,) = output.iterdir()
    results = json.loads(file.read_text())
    assert results == {key: value for key, value in shown.items() if key != "type"}
    assert sum(results["preferred"]) == 2 and results["equal"] == 1
    for entry, choice in zip(results["rounds"], ("left", "equal", "right"), strict=True):
        right = 1 - entry["left"]
        assert entry["preferred"] == {"left": entry["left"], "equal": None, "right": right}[choice]
        assert entry["steps"] == 1 and ":" in entry["moment"]
    assert results["models"][0]["sha256"] and results["models"][0]["training_step"] == 2


def test_sides_are_random_and_counts_belong_to_models(tmp_path: Path) -> None:
    comparison = BlindComparison(MODELS, tmp_path / "results.json")
    sides = set()
    for _ in range(40):
        comparison.shuffle()
        sides.add(comparison.sides)
        comparison.choose("left" if comparison.sides[0] == 1 else "right", "m", 5)
    assert sides == {(0, 1), (1, 0)}
    results = comparison.results()
    assert results["preferred"] == [0, 40] and results["share"] == 0 and results["p_value"] == 0
    assert results["share_interval"][0] == 0 and results["share_interval"][1] < 0.1


def test_statistics_of_choices() -> None:
    assert wilson_interval(0, 0) == (0, 1) and binomial_p_value(0, 0) == 1
    assert binomial_p_value(5, 10) == 1 and binomial_p_value(0, 5) == pytest.approx(2 / 32)
    assert binomial_p_value(9, 10) == pytest.approx(2 * (1 + 10) / 1024)
    low, high = wilson_interval(8, 10)
    assert (low, high) == pytest.approx((0.4901, 0.9433), abs=1e-3) and not math.isnan(low)


def test_choices_are_part_of_the_report(
    trained: Path, road_store: Path, tmp_path: Path, refuse: Refuse
) -> None:  # fmt: skip
    comparison = BlindComparison(MODELS, tmp_path / "results.json")
    for _ in range(4):
        comparison.choose("left" if comparison.sides[0] == 0 else "right", "m", 5)
    comparison.choose("equal", "m", 5)
    config = EvaluateConfig(horizon=2, clips=2, human=comparison.file)
    evaluation = evaluate(trained, road_store, tmp_path / "evaluation", config)
    assert evaluation["human"]["preferred"] == [4, 0]
    for report in ("report.html", "report.md"):
        text = (tmp_path / "evaluation" / report).read_text()
        assert "Human comparison" in text and "In 5 drives a person" in text and "p = 0.125" in text
        assert "1.00 [0.51, 1.00]" in text and "0.00 [0.00, 0.49]" in text
    arguments = ("evaluate", "--checkpoint", trained, "--data-root", road_store, "--output", tmp_path / "other")
    for content, message in (
        ("{", "not valid JSON"),
        ("{}", "not the results of"),
        ('{"rounds": []}', "not the results"),
    ):
        comparison.file.write_text(content)
        refuse(*arguments, "--human", comparison.file, message=message)


def test_comparisons_have_files_of_their_own(trained: Path, road_store: Path, tmp_path: Path) -> None:
    scenario = scenario_of(trained, road_store, tmp_path, blind=True)
    for _ in range(2):
        comparison = scenario.comparison()
        assert comparison is not None
        comparison.choose("equal", "m", 1)
    assert len([*tmp_path.glob("comparison-*.json")]) == 2
