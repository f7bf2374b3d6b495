"""What an evaluation was made from, and whether two were made from the same."""

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
"""Lines that have to agree where two evaluations are compared."""


def manifest(
    store: Store, split: str, clips: Sequence[Clip], context: int, seed: int, checkpoint: Path | None
) -> dict[str, Any]:
    """Hashes of what goes in, versions of what works on it. clips: all of one length and frame_skip."""
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


def check_comparable(ours: dict[str, Any], theirs: dict[str, Any], name: str) -> None:
    """UserError naming the first line of two manifests in which evaluations that are compared may not differ."""
    for line in COMPARABLE:
        if ours.get(line) != theirs.get(line):
            raise UserError(
                f"--compare {name}: not the same evaluation, its {line} is {json.dumps(theirs.get(line))}, not "
                f"{json.dumps(ours.get(line))}; evaluate both with the same store, split, clips and horizon"
            )
