"""Helpers for tests of the training guides."""

from __future__ import annotations

import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from daydrive import cli
from helpers.guide import make_room

PATIENCE = 600


def run_here(words: list[str], folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Run a daydrive command in this process."""
    make_room(words, folder)
    patch.chdir(folder)
    assert words[0] in ("python", "daydrive"), words
    patch.setattr(sys, "argv", words[1:] if words[0] == "python" else words)
    with pytest.raises(SystemExit) as ended:
        if words[0] == "python":
            runpy.run_path(words[1], run_name="__main__")
        else:
            cli.main()
    assert not ended.value.code, shlex.join(words)


def done(process: subprocess.Popen[str]) -> str:
    try:
        output = process.communicate(timeout=PATIENCE)[0]
    except subprocess.TimeoutExpired:
        for child in psutil.Process(process.pid).children(recursive=True):
            child.kill()
        process.kill()
        raise
    assert process.returncode == 0, output[-3000:]
    return output
