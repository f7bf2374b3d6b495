"""A small demo from beginning to end: once, again without work, and after an interruption."""

import json
from pathlib import Path

import pytest
import yaml

from daydrive import demo
from daydrive.training.run import RUNS, run_folder
from helpers.tiny_training import TINY_TRAINING


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_demo_skips_finished_steps_when_repeated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "tiny.yaml"
    config.write_text(yaml.safe_dump(TINY_TRAINING))
    small = ("training.max_steps=4",)
    run, store = tmp_path / "run", tmp_path / "road"

    assert demo.run_demo(run, store, config, small, drives=3) == 0
    output = capsys.readouterr().out
    files = {
        name: (run / "evaluation" / name) for name in ("strip.png", "rollouts.mp4", "horizon.png", "counterfactual.png")
    }
    for file in files.values():
        assert file.stat().st_size > 1000 and str(file) in output.replace("\n", "")
    result = json.loads((run / "evaluation" / "evaluation.json").read_text())
    assert (
        result["split"] == "test"
        and result["clips"] == 64
        and set(result["counterfactual"]["branches"]) >= {"left", "right"}
    )

    times = {file: file.stat().st_mtime_ns for file in [*files.values(), store / "store.json", run / "metrics.jsonl"]}
    assert demo.run_demo(run, store, config, small, drives=3) == 0
    assert {file: file.stat().st_mtime_ns for file in times} == times
    assert capsys.readouterr().out.count("nothing to do") == 2


def test_resume_without_run_dir_selects_the_newest_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("base-20260101-000000", "base-20260301-000000", "other-20270101-000000"):
        (RUNS / name / "checkpoints").mkdir(parents=True)
        (RUNS / name / "checkpoints" / "last").write_text("step-00000001\n")
    (RUNS / "base-20260901-000000").mkdir()
    assert run_folder("base", resume=True) == RUNS / "base-20260301-000000"
    assert run_folder("base", resume=False).name.startswith("base-2")
