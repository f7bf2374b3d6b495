"""Checks of Dockerfile, .dockerignore and compose.yaml without a container engine.

docs/DOCKER_GUIDE.md lists the builds and runs that were made.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer
import yaml
from tensorboard import default, program

from daydrive import cli
from helpers.guide import blocks
from helpers.paths import REPO

GPU = {"train-gpu", "evaluate-gpu"}


class Step(NamedTuple):
    """An instruction of the Dockerfile. stage: the name of its stage."""

    name: str
    text: str
    stage: str


def steps() -> list[Step]:
    text = (REPO / "Dockerfile").read_text(encoding="utf-8")
    lines = re.sub(r"^\s*#.*\n", "", text, flags=re.M).replace("\\\n", " ").splitlines()
    found, stage = [], ""
    for line in filter(str.strip, lines):
        name, _, rest = line.partition(" ")
        if name == "FROM":
            stage = rest.rpartition(" AS ")[2]
        found.append(Step(name, " ".join(rest.split()), stage))
    return found


def named(name: str, stage: str | None = None) -> list[str]:
    return [step.text for step in steps() if step.name == name and stage in (None, step.stage)]


def from_context() -> list[tuple[str, str]]:
    """Stage and source of all files copied from the repository."""
    return [
        (step.stage, source)
        for step in steps()
        if step.name == "COPY" and "--from=" not in step.text
        for source in step.text.split()[:-1]
    ]


def services() -> dict[str, Any]:
    return yaml.safe_load((REPO / "compose.yaml").read_text(encoding="utf-8"))["services"]


def filled(text: str) -> str:
    """With the default value of each variable."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


def test_base_images_are_pinned_for_both_devices() -> None:
    stages: list[str] = []
    for text in named("FROM"):
        image, _, stage = text.partition(" AS ")
        for device in ("cpu", "cuda"):
            base = image.replace("${DEVICE}", device)
            assert base in stages or re.fullmatch(r"[\w./-]+:\d+\.\d+[\w.-]*", base), base
        stages.append(stage)
    assert named("ARG", "")[0] == "DEVICE=cpu"


def test_no_downloads_by_url_and_no_root_user() -> None:
    assert not named("ADD") and not re.search(r"\b(curl|wget|apt-get)\b", "\n".join(named("RUN")))
    last = steps()[-1].stage
    names = [step.name for step in steps() if step.stage == last]
    assert "RUN" not in names[names.index("USER") :] and "COPY" not in names[names.index("USER") :]
    assert named("USER", last) == ["${UID}:${GID}"] and {"UID=1000", "GID=1000"} <= set(named("ARG", last))
    assert named("ENTRYPOINT", last) == ['["daydrive"]'] and named("VOLUME", last) == ['["/data", "/runs"]']


def test_source_changes_do_not_invalidate_package_layers() -> None:
    copied: dict[str, set[str]] = {}
    for stage, source in from_context():
        copied.setdefault(stage, set()).add(source)
    assert copied.keys() == {"requirements", "wheel", "daydrive"} and copied["requirements"] == {"pyproject.toml"}
    last = [step.text for step in steps() if step.stage == "daydrive"]
    places = [next(k for k, text in enumerate(last) if part in text) for part in ("=dependencies", "=wheel", "scripts")]
    assert places == sorted(places)
    installs = [text for text in named("RUN") if re.search(r"\bpip (install|wheel)\b", text)]
    assert all("--mount=type=cache" in text or "--no-cache-dir" in text for text in installs) and len(installs) == 5


def test_requirements_match_the_package(tmp_path: Path) -> None:
    shutil.copy(REPO / "pyproject.toml", tmp_path)
    (script,) = named("RUN", "requirements")
    script = script.replace("python -c", f"{sys.executable} -c")
    subprocess.run(["sh", "-c", script], cwd=tmp_path, check=True)
    wanted = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]["dependencies"]
    assert (tmp_path / "all.txt").read_text().splitlines() == wanted
    (torch,) = (tmp_path / "torch.txt").read_text().splitlines()
    assert torch in wanted and re.match(r"torch[<>=]", torch)


def test_build_context_contains_only_copied_files() -> None:
    lines = (REPO / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    let_in = {rule[1:] for rule in rules if rule.startswith("!")}
    copied = {Path(source) for _, source in from_context()}
    assert all(any(source.is_relative_to(rule) for rule in let_in) for source in copied)
    assert let_in <= {str(source) for source in copied}
    assert all((REPO / name).exists() for name in let_in)
    assert {rule for rule in rules[1:] if not rule.startswith("!")} == {"**/__pycache__", "**/*.egg-info"}


def test_services_are_unprivileged_and_gpu_is_a_profile() -> None:
    found = services()
    assert found.keys() == {"train", "evaluate", "tensorboard", *GPU}
    for name, service in found.items():
        assert service["user"] == "${UID:-1000}:${GID:-1000}" and service["cap_drop"] == ["ALL"], name
        assert "privileged" not in service and "network_mode" not in service and service["shm_size"], name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
        assert all(volume.split(":")[0] in ("./data", "./runs") for volume in service["volumes"]), name
    assert found["tensorboard"]["ports"] == ["127.0.0.1:6006:6006"]
    assert {name for name, service in found.items() if service.get("profiles") == ["gpu"]} == GPU
    assert {name for name, service in found.items() if "deploy" in service} == GPU


@pytest.mark.parametrize("name", ["train", "evaluate", *sorted(GPU)])
def test_service_commands_are_valid_daydrive_commands(name: str) -> None:
    words = [filled(word) for word in services()[name]["command"]]
    group = typer.main.get_group(cli.app)
    command = group.commands[words[0]]
    with command.make_context(words[0], words[1:]) as context:
        assert str(context.params["data_root"]) == "data/processed/road"
        assert "config" not in context.params or (REPO / context.params["config"]).is_file()


def test_tensorboard_options() -> None:
    service = services()["tensorboard"]
    board = program.TensorBoard(default.get_plugins())
    board.configure(argv=[*service["entrypoint"], *service["command"]])
    assert board.flags.logdir == "/runs" and board.flags.port == 6006


def test_hadolint_reports_no_problems() -> None:
    hadolint = shutil.which("hadolint") or str(Path(sys.executable).with_name("hadolint"))
    if not Path(hadolint).is_file():
        pytest.skip("hadolint is not installed; the extra dev has it on Linux")
    done = subprocess.run([hadolint, str(REPO / "Dockerfile")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_docker_compose_parses_the_same_config() -> None:
    """YAML merges are interpreted differently by different parsers."""
    if not shutil.which("docker") or subprocess.run(["docker", "compose", "version"], capture_output=True).returncode:
        pytest.skip("docker compose is not installed")
    command = [
        "docker",
        "compose",
        "--file",
        str(REPO / "compose.yaml"),
        "--profile",
        "cpu",
        "--profile",
        "gpu",
        "config",
    ]
    resolved = yaml.safe_load(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["services"]
    for name, service in resolved.items():
        device = "cuda" if name in GPU else "cpu"
        assert service["image"] == f"daydrive:{device}" and service["build"]["args"]["DEVICE"] == device
        assert ("deploy" in service) == (name in GPU)
    assert resolved["tensorboard"]["ports"][0]["host_ip"] == "127.0.0.1"


def test_scripts_are_valid_shell_and_guide_states_why_commands_are_not_run() -> None:
    for script in (REPO / "docker").glob("*.sh"):
        subprocess.run(["bash", "-n", str(script)], check=True)
    shown = blocks("bash", REPO / "docs/DOCKER_GUIDE.md")
    assert shown and all("engine" in block.reason for block in shown)
