"""Changes to safetensors files that have a description in JSON in their header."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file


def with_header(key: str, change: Callable[[dict[str, object]], object]) -> Callable[[Path], None]:
    """Changes the description under `key`."""

    def apply(file: Path) -> None:
        with safe_open(file, framework="pt") as opened:
            header = json.loads(opened.metadata()[key])
            weights = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        save_file(weights, file, {key: json.dumps(change(header))})

    return apply
