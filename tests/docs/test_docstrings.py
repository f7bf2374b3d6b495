"""The examples in docstrings run and give the documented results."""

from __future__ import annotations

import doctest
import importlib
import shutil
from pathlib import Path

import pytest

import daydrive

SOURCE = Path(daydrive.__file__).parent
MODULES = sorted(
    ".".join(("daydrive", *file.relative_to(SOURCE).with_suffix("").parts)).removesuffix(".__init__")
    for file in SOURCE.rglob("*.py")
    if ">>> " in file.read_text(encoding="utf-8")
)


def test_there_are_examples() -> None:
    assert len(MODULES) >= 8


@pytest.fixture
def reader(road_store: Path, trained: Path, here: Path) -> Path:
    """A folder with a prepared store and a trained model."""
    shutil.copytree(road_store, here / "data/processed/road")
    shutil.copytree(trained, here / "runs/first")
    return here


@pytest.mark.parametrize("module", MODULES)
def test_examples_run(module: str, reader: Path) -> None:
    results = doctest.testmod(importlib.import_module(module), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert results.attempted > 0 and results.failed == 0
