"""The metadata of the package agree with CI and the README."""

from __future__ import annotations

import re
import tomllib

import yaml

from helpers.paths import REPO

PROJECT = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
WORKFLOW = yaml.safe_load((REPO / ".github/workflows/ci.yml").read_text())


def test_supported_versions_match_ci_and_readme() -> None:
    prefix = "Programming Language :: Python :: 3."
    supported = [entry.removeprefix(prefix) for entry in PROJECT["classifiers"] if entry.startswith(prefix)]
    assert supported == ["11", "12", "13"] and PROJECT["requires-python"] == f">=3.{supported[0]}"
    jobs = WORKFLOW["jobs"]
    versions = jobs["versions"]["strategy"]["matrix"]["include"]
    everything = next(step["with"]["python-version"] for step in jobs["all"]["steps"] if "with" in step)
    assert {everything, *(one["python"] for one in versions)} == {f"3.{minor}" for minor in supported}

    torch = next(entry for entry in PROJECT["dependencies"] if entry.startswith("torch"))
    allowed = re.fullmatch(r"torch>=(2\.\d+),<2\.(\d+)", torch)
    assert allowed and any(f"torch=={allowed[1]}.*" in str(step) for step in jobs["versions"]["steps"])
    highest = f"2.{int(allowed[2]) - 1}"
    for page in ("README.md", "docs/index.md"):
        text = (REPO / page).read_text()
        assert f"Python 3.{supported[0]} to 3.{supported[-1]}" in text and f"PyTorch {allowed[1]} to {highest}" in text


def test_workflow_runs_all_checks() -> None:
    assert {"run": ".ci/run"} in WORKFLOW["jobs"]["all"]["steps"]
    assert WORKFLOW["permissions"] == {"contents": "read"}
    steps = (REPO / ".ci/run").read_text()
    assert all(f"make {target} " in steps for target in ("lint", "test", "test-slow"))
