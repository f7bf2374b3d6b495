"""The human comparison of two models, whose choices `daydrive drive --blind` counts, in the report of an evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from daydrive.errors import UserError
from daydrive.files import read_json

ENTRIES = ("models", "preferred", "equal", "share", "share_interval", "p_value", "rounds")


def read_choices(file: Path) -> dict[str, Any]:
    """The results of a blind comparison. Raises UserError if the file is something else."""
    results = read_json(file, "results of a blind comparison")
    if not isinstance(results, dict) or any(entry not in results for entry in ENTRIES):
        raise UserError(f"--human {file}: not the results of `daydrive drive --compare … --blind`")
    names = [model.get("name") for model in results["models"] if isinstance(model, dict)]
    if len(names) != 2 or None in names or not results["rounds"]:
        raise UserError(f"--human {file}: two named models and at least one choice are needed")
    return {entry: results[entry] for entry in ENTRIES}
