"""Source packages for tests: the example of docs/OWN_SOURCE.md with recordings for it, and invalid packages."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import simplejpeg

from helpers.drives import numbered_image
from helpers.guide import blocks
from helpers.paths import REPO

GUIDES = (REPO / "docs/DATASETS.md", REPO / "docs/STORES.md", REPO / "docs/OWN_SOURCE.md")


def shown_package(folder: Path) -> Path:
    """Writes the guide's package; the first line of each file is a comment with its name."""
    for guide in GUIDES:
        for block in (*blocks("toml", guide), *blocks("python", guide)):
            name, _, text = block.text.partition("\n")
            if name.startswith("# racer-drives/"):
                file = folder / name.removeprefix("# ")
                file.parent.mkdir(exist_ok=True)
                file.write_text(text)
    return folder / "racer-drives"


def install(package: Path, target: Path) -> Path:
    """Installs a package offline into the folder `target`."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        "--no-index",
    ]
    command += ["--no-build-isolation", "--no-compile", "--target", str(target), str(package)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return target


def write_racer(root: Path, drives: int = 3, frames: int = 30, skipped: range = range(0)) -> Path:
    """Writes log.csv and images at 10 Hz; frame k shows `numbered_image(k)`. skipped: frames the first drive lacks."""
    for drive in range(drives):
        folder = root / f"lap {drive}"
        folder.mkdir(parents=True)
        lines = ["picture,time,degrees,pedal"]
        for k in range(frames):
            if drive == 0 and k in skipped:
                continue
            (folder / f"{k}.jpg").write_bytes(simplejpeg.encode_jpeg(numbered_image(k, (20, 30)), 95, "RGB", "444"))
            lines.append(f"{k}.jpg,{k / 10:.1f},{10 * np.sin(k / 5):.4f},{0.5 if k % 20 < 10 else -0.25}")
        (folder / "log.csv").write_text("\n".join(lines) + "\n")
    return root


SOURCE = """
import numpy as np
from daydrive.types import Drive, Frame
from daydrive.data.sources import action

def frames():
    for k in range(5):
        yield Frame(np.zeros((8, 8, 3), np.uint8), np.array([0, 0, 0, 1], np.float32), k / 10, {"v": 1.0})

class Source:
    name, needs_root, split, options = "broken", False, "drive", ()
    def describe(self, options):
        entry = action("a", "b", "c", "d")
        return {"actions": dict.fromkeys(("steering", "throttle", "brake", "gear"), entry), "values": {"v": "m/s"}}
    def drives(self, root, options, image_size):
        return [Drive(f"d{k}", 10.0, frames) for k in range(3)]
"""
"""The module of a valid source."""


def write_package(folder: Path, package: str, module: str, dataset: str = "broken", name: str = "Source") -> Path:
    """Writes an installed package with one module and one entry point; returns the folder, for sys.path."""
    stem = package.replace("-", "_")
    dist_info = folder / f"{stem}-1.0.dist-info"
    dist_info.mkdir(parents=True, exist_ok=True)
    (dist_info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (dist_info / "entry_points.txt").write_text(f"[daydrive.sources]\n{dataset} = {stem}:{name}\n")
    (folder / f"{stem}.py").write_text(module)
    return folder
