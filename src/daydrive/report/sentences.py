"""Sentences beside the card's tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from daydrive.evaluation.controllability.criteria import replayed


def about_branches(branches: Mapping[str, Any]) -> str:
    return (
        f"One moment driven on in five ways, by the world and by the dream ({branches['moments']} moments). To the "
        "right: the world's branch that the dream of each was nearest to."
    )


def about_memory(clips: Sequence[Mapping[str, Any]]) -> str:
    """Whether any of a few dreams is a clip of the training drives."""
    old = [clip for clip in clips if replayed(clip["dream_psnr"], clip["real_psnr"])]
    said = f"{len(old)} of these {len(clips)} dreams are" if old else f"None of these {len(clips)} dreams is"
    return (
        f"{said} a clip of the training drives. PSNR, mean over the first {clips[0]['steps']} frames, against the "
        "nearest clip of another training drive; what really came has a nearest one too, and a dream that is a memory "
        "is much nearer to its own."
    )


def about_the_end(long: Mapping[str, Any]) -> str:
    """What the table of long dreams is of, and whether its cost grows."""
    clips = long["lengths"][0]["clips"]
    said = (
        f"The last tenth of dreams from the beginnings of {clips} drives, their actions again and again, beside the "
        "real frames of these drives: brightness in levels of 255 (drift in the real drive's own spreads), the others "
        "as shares of the real drive's."
    )
    if long["later_cost"] is None:
        return said
    grows = "flat" if long["cost_is_flat"] else "not flat"
    return f"{said} A later frame costs {long['later_cost']:.2f} of what an early one does: {grows}."


def long_sentence(long: Mapping[str, Any], hz: float) -> str:
    """The verdicts on long dreams, in one sentence."""
    said = [f"after {entry['steps'] / hz:.0f} s it {entry['verdict']}" for entry in long["lengths"]]
    return f"Long dreams: {', '.join(said)}."
