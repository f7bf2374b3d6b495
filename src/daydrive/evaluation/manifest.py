"""The provenance of an evaluation, and the check that two evaluations are comparable."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from daydrive.data.store.store import Store
from daydrive.errors import UserError
from daydrive.provenance import code_state, versions
from daydrive.types import Clip

COMPARABLE = ("store", "split", "image_size", "hz", "frame_skip", "context", "horizon", "seed", "clips")
"""Entries that must be equal for two evaluations to be compared."""


def manifest(
    store: Store, split: str, clips: Sequence[Clip], context: int, seed: int, checkpoint: Path | None
) -> dict[str, Any]:
    """Hashes of the inputs, the settings, and the versions of the code. clips: all of one length and frame_skip."""
    skip = clips[0].frame_skip
    listed = [[clip.drive, clip.start, clip.length, clip.frame_skip] for clip in clips]
    return {
        "store": store.fingerprint,
        "split": split,
        "image_size": list(store.image_size),
        "hz": store.clip_hz(skip),
        "frame_skip": skip,
        "context": context,
        "horizon": clips[0].length - context,
        "seed": seed,
        "clips": f"{len(clips)}, sha256 {hashlib.sha256(json.dumps(listed).encode()).hexdigest()[:32]}",
        "checkpoint": None if checkpoint is None else file_hash(checkpoint),
        "code": code_state(),
        "versions": versions(),
    }


def file_hash(file: Path) -> str:
    with file.open("rb") as stream:
        return f"sha256 {hashlib.file_digest(stream, 'sha256').hexdigest()}"


def check_comparable(own: dict[str, Any], other: dict[str, Any], name: str) -> None:
    """Raises UserError, naming the first entry of `COMPARABLE` in which two manifests differ."""
    for entry in COMPARABLE:
        if own.get(entry) != other.get(entry):
            raise UserError(
                f"--compare {name}: not comparable, its {entry} is {json.dumps(other.get(entry))}, not "
                f"{json.dumps(own.get(entry))}; evaluate both with the same store, split, clips and horizon"
            )
