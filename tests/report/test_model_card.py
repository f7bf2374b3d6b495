"""The model card: its metadata for the Hub, its text, and that its snippet runs."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from daydrive import cli
from daydrive.checkpoint import read_state
from daydrive.data.sources import SOURCES
from daydrive.data.store.store import Store
from daydrive.files import read_json
from daydrive.report.model_card import FILES, LICENCES, model_card, training_of
from daydrive.report.rows import BASELINES
from helpers.paths import REPO
from helpers.refusals import checkpoint_of


@pytest.fixture(scope="module")
def evaluated(trained: Path, road_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small evaluation's folder."""
    folder = tmp_path_factory.mktemp("card") / "out"
    command = ["evaluate", "--checkpoint", trained, "--data-root", road_store, "--output", folder, "--device", "cpu"]
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr(sys, "argv", ["daydrive", *map(str, command), "--clips", "4", "--horizon", "5"])
        cli.main()
    assert ended.value.code == 0
    return folder


@pytest.fixture(scope="module")
def evaluation(evaluated: Path) -> dict[str, Any]:
    found: dict[str, Any] = read_json(evaluated / "evaluation.json", "evaluation")
    return found


@pytest.fixture(scope="module")
def card(evaluated: Path) -> str:
    return (evaluated / "MODEL_CARD.md").read_text(encoding="utf-8")


def metadata(card: str) -> dict[str, Any]:
    """The YAML front matter, as the Hub parses it."""
    head = re.match(r"\A---\n(.*?\n)---\n", card, re.S)
    assert head is not None
    found: dict[str, Any] = yaml.safe_load(head[1])
    return found


def test_metadata_is_valid_for_the_hub(card: str, evaluation: dict[str, Any]) -> None:
    """Keys and types of https://github.com/huggingface/hub-docs/blob/main/modelcard.md."""
    parsed = metadata(card)
    assert (
        parsed["license"] == "mit"
        and parsed["library_name"] == "daydrive"
        and parsed["pipeline_tag"] == "image-to-video"
    )
    assert all(isinstance(entry, str) for name in ("tags", "datasets", "metrics") for entry in parsed[name])
    assert parsed["metrics"] == ["psnr", "ssim"] and "road" in parsed["tags"]
    (model,) = parsed["model-index"]
    assert model["name"] == evaluation["name"]
    (result,) = model["results"]
    assert isinstance(result["task"]["type"], str)
    assert {"type", "name", "split"} <= result["dataset"].keys() and result["dataset"]["split"] == "test"
    metrics = {metric["name"]: metric["value"] for metric in result["metrics"]}
    assert all(isinstance(metric["type"], str) for metric in result["metrics"])
    assert metrics["usable seconds"] == evaluation["usable_seconds"]
    assert metrics["PSNR at step 5"] == evaluation["horizons"][4]["psnr"]
    assert all(isinstance(value, int | float) for value in metrics.values())


def test_huggingface_hub_parses_the_card(card: str, evaluation: dict[str, Any]) -> None:
    hub = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
    read = hub.ModelCard(card, ignore_metadata_errors=False)
    assert read.data.license == "mit" and read.data.model_name == evaluation["name"]
    assert {result.metric_type for result in read.data.eval_results} == {"usable_seconds", "psnr", "ssim"}


def test_card_states_out_of_scope_uses(card: str, evaluation: dict[str, Any]) -> None:
    heads = re.findall(r"^## (.*)$", card, re.M)
    assert heads == ["Intended use", "Training data", "Training", "Evaluation", "Limits", "How to load it"]
    assert "**Not for controlling a car**" in card
    assert f"Usable seconds: {evaluation['usable_seconds']:.2f}" in card and "copied last frame" in card
    assert all(baseline in card for baseline in BASELINES)
    assert "- road: part of daydrive" in card and evaluation["store_fingerprint"] in card
    assert re.search(r"^- hardware: cpu", card, re.M) and re.search(
        r"^- minutes of training steps: \d+\.\d$", card, re.M
    )


def test_snippet_runs(card: str, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in FILES:
        shutil.copy(checkpoint_of(trained) / name, tmp_path)
    monkeypatch.chdir(tmp_path)
    (snippet,) = re.findall(r"```python\n(.*?)```", card, re.S)
    made: dict[str, Any] = {}
    exec(compile(snippet, "MODEL_CARD.md", "exec"), made)
    assert made["frames"].shape == (1, 10, 3, 64, 64) and made["frames"].dtype == torch.uint8


def test_training_details_from_a_run(run: Path) -> None:
    weights = checkpoint_of(run) / "model.safetensors"
    step = read_state(checkpoint_of(run))["step"]
    lines = [{"step": 1, "speed/step_seconds": 30.0}, {"step": 2, "speed/step_seconds": 90.0}]
    later = {"step": step + 50, "speed/step_seconds": 1e6}
    log = "".join(json.dumps(line) + "\n" for line in [*lines, later])
    (run / "metrics.jsonl").write_text(log + '{"step": 3, "spe')
    training = training_of(weights)
    assert training is not None and (training.step, training.minutes) == (step, pytest.approx(2.0))
    assert training.provenance["seed"] == 0 and training.parameters > 1000
    (run / "metrics.jsonl").unlink()
    (run / "provenance.json").write_text("[")
    alone = training_of(weights)
    assert alone is not None and alone.minutes is None and alone.provenance == {}
    assert training_of(None) is None and training_of(run / "config.yaml") is None


def test_command_has_no_folders_of_the_machine(evaluation: dict[str, Any], trained: Path, road_store: Path) -> None:
    training = training_of(checkpoint_of(trained) / "model.safetensors")
    assert training is not None
    command = ["/home/me/.venv/bin/daydrive", "train", "--data-root", "/home/me/road", "--config", "configs/x.yaml"]
    given = training._replace(provenance={**training.provenance, "command": command})
    card = model_card(evaluation, Store.open(road_store), given)
    assert "- command: `daydrive train --data-root road --config configs/x.yaml`" in card


def test_limits_and_licences(evaluation: dict[str, Any], trained: Path, road_store: Path) -> None:
    training = training_of(checkpoint_of(trained) / "model.safetensors")
    assert training is not None
    store = Store.open(road_store)
    checks = [{"name": "parallax", "passed": False, "evidence": ""}, {"name": "moves", "passed": True, "evidence": ""}]
    judged = {"verdict": "obeys, roughly", "mark": {"passed": 1, "of": 2, "share": 0.5}, "checks": checks}
    long = {"lengths": [{"steps": 200, "verdict": "holds"}, {"steps": 1000, "verdict": "collapses"}]}
    text = model_card({**evaluation, "controllability": judged, "long_dreams": long}, store, training)
    assert "it obeys, roughly; not passed: parallax." in text
    assert "Long rollouts: after 20 s it holds, after 100 s it collapses." in text
    store.source = "udacity"
    parsed = metadata(model_card(evaluation, store, training))
    assert parsed["license"] == "other" and parsed["license_name"]


def test_licences_match_the_guide() -> None:
    rows = re.findall(r"^\| \[`(\w+)`\]\(#[\w-]+\) \| ([^|]+) \|", (REPO / "docs/DATASETS.md").read_text(), re.M)
    licences = {name: licence.strip() for name, licence in rows}
    assert licences.keys() == SOURCES.keys()
    assert {name: words for name, (_, words) in LICENCES.items()} == {name: licences[name] for name in LICENCES}
    assert all(licences[name] == "yours" for name in licences.keys() - LICENCES.keys())
