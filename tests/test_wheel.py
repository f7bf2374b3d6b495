"""The wheel without a clone: in a new environment and an empty folder, the demo and every config by its name.

Dependencies are those of the environment that runs the tests, without its installation of daydrive.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from daydrive.config.files import config_names
from helpers.driving import Page
from helpers.guide import small_settings
from helpers.paths import REPO

PATIENCE = 900

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of the repository, since building leaves files behind."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPO / name, source)
    shutil.copytree(REPO / "src", source / "src", ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
    with_setuptools = ["--no-build-isolation"] if importlib.util.find_spec("setuptools") else []
    command = [sys.executable, "-m", "pip", "wheel", str(source), "--no-deps", "--wheel-dir", str(folder / "wheels")]
    subprocess.run([*command, "--quiet", *with_setuptools], check=True)
    (built,) = (folder / "wheels").glob("daydrive-*.whl")
    return built


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of its programs.

    A line in a .pth file adds the packages of the test environment without its own .pth files, so without the editable
    daydrive.
    """
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    python = folder / "bin/python"
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(folder)}))
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index", "--quiet"]
    subprocess.run([*pip, "--ignore-installed", str(wheel)], check=True)
    return folder / "bin"


def clean() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"PYTHONUNBUFFERED": "1"}


def run(environment: Path, folder: Path, *words: str) -> str:
    done = subprocess.run(
        [str(environment / words[0]), *words[1:]], cwd=folder, env=clean(), capture_output=True, text=True, check=False,
        timeout=PATIENCE,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def test_wheel_contains_data_files(wheel: Path) -> None:
    files = set(zipfile.ZipFile(wheel).namelist())
    assert {f"daydrive/configs/{name}.yaml" for name in config_names()} <= files
    assert {"daydrive/py.typed"} | {
        str(page.relative_to(REPO / "src")) for page in (REPO / "src/daydrive").rglob("*.html")
    } <= files


def test_demo_and_configs_by_name(environment: Path, tmp_path: Path) -> None:
    where = run(environment, tmp_path, "python", "-c", "import daydrive; print(daydrive.__file__)")
    assert Path(where.strip()).is_relative_to(environment.parent)
    output = run(environment, tmp_path, "daydrive", "demo", "--drives", "3", "--clips", "2", *small_settings("demo"))
    assert "report (HTML)" in output and (tmp_path / "runs/demo/evaluation/report.html").is_file()

    assert [
        line.split()[0] for line in run(environment, tmp_path, "daydrive", "configs").splitlines()
    ] == config_names()
    for name in config_names():
        if name.startswith("training/"):
            short = name.removeprefix("training/")
            run(environment, tmp_path, "daydrive", "train", "--config", short, "--dry-run", *small_settings(short))
    train = ("daydrive", "train", "--config", "demo", "--run-dir", "second")
    assert "store: data/processed/road" in run(environment, tmp_path, *train, *small_settings("demo"))
    assert (tmp_path / "second/checkpoints/last").is_file()


def test_driving_in_the_packaged_weights(environment: Path, tmp_path: Path) -> None:
    command = [str(environment / "daydrive"), "drive", "--port", "0"]
    with subprocess.Popen(command, cwd=tmp_path, env=clean(), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            address = next(filter(None, (re.search(r"http://([\d.]+:\d+)/", line) for line in process.stdout)))[1]
            with Page(address) as page:
                start = page.images[0]
                page.answer(type="pause", on=False)
                sequence = page.act(steering=0.5, throttle=0.5, key=True)
                page.wait(lambda _: bool(page.header["sequence"] >= sequence))
                assert page.images[0] != start
        finally:
            process.terminate()
