"""What an evaluation says in words, beside its tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from daydrive.report.rows import FEATURES, measured_distances

ABOUT_FRECHET = (
    "Fréchet distance to the real frames of the same clips; less is nearer. Of few samples it is too large, so that it "
    "means something beside real frames of other drives with as many, and carried on to infinitely many (∞)."
)


def headline(evaluation: Mapping[str, Any]) -> str:
    """Which clips, in words."""
    return (
        f"{evaluation['clips']} clips of split '{evaluation['split']}', "
        f"{evaluation['context']} frames of context, {evaluation['hz']:g} Hz"
    )


def usable_sentence(evaluation: Mapping[str, Any]) -> str:
    """The one number to compare models with, in words."""
    bounds = evaluation["usable_seconds_interval"]
    sure = f" [{bounds[0]:.2f}, {bounds[1]:.2f}]" if bounds else " (one drive only, so no interval)"
    horizon = len(evaluation["horizons"]) / evaluation["hz"]
    return (
        f"Usable seconds: {evaluation['usable_seconds']:.2f}{sure}. For so long a dream is better than any guess; "
        f"{evaluation['usable_to_the_end']:.0%} of them are to the end of the {horizon:.1f} s."
    )


def verdict_sentence(evaluation: Mapping[str, Any]) -> str:
    """What the controllability scorecard says; nothing without one."""
    if "controllability" not in evaluation:
        return ""
    scores = evaluation["controllability"]
    return f"Verdict: it {scores['verdict']}; {scores['mark']['passed']} of {scores['mark']['of']} checks passed."


def long_sentence(evaluation: Mapping[str, Any]) -> str:
    """What becomes of long rollouts; nothing where there are none."""
    if "long_dreams" not in evaluation:
        return ""
    hz = evaluation["hz"]
    ends = [
        f"after {entry['steps'] / hz:.0f} s it {entry['verdict']}" for entry in evaluation["long_dreams"]["lengths"]
    ]
    return f"Long dreams: {', '.join(ends)}."


def about_branches(branches: Mapping[str, Any]) -> str:
    return (
        f"One moment driven on in five ways, by the world and by the dream ({branches['moments']} moments). To the "
        "right: the world's branch that the dream of each was nearest to."
    )


def about_nearest(clips: Sequence[Mapping[str, Any]]) -> str:
    """Whether any of a few predictions is a clip of the training drives."""
    old = [clip for clip in clips if clip["replayed"]]
    which = f"{len(old)} of these {len(clips)} dreams are" if old else f"None of these {len(clips)} dreams is"
    return (
        f"{which} a clip of the training drives. PSNR, mean over the first {clips[0]['steps']} frames, against the "
        "nearest clip of another training drive; what really came has a nearest one too, and a dream that is a memory "
        "is much nearer to its own."
    )


def about_the_end(long: Mapping[str, Any]) -> str:
    """What the table of long dreams is of, and whether its cost grows."""
    clips = long["lengths"][0]["clips"]
    message = (
        f"The last tenth of dreams from the beginnings of {clips} drives, their actions again and again, beside the "
        "real frames of these drives: brightness in levels of 255 (drift in the real drive's own spreads), the others "
        "as shares of the real drive's."
    )
    if long["later_cost"] is None:
        return message
    grows = "flat" if long["cost_is_flat"] else "not flat"
    return f"{message} A later frame costs {long['later_cost']:.2f} of what an early one does: {grows}."


def about_features(distribution: Mapping[str, Any]) -> list[str]:
    """Which Fréchet distances are not measured, and what the others are made of."""
    absent = [f"{FEATURES[key]}: {distribution[key]}." for key in FEATURES if isinstance(distribution.get(key), str)]
    named = "; ".join(f"{FEATURES[key]}: {each['features']}" for key, each in measured_distances(distribution).items())
    other = distribution["other_split"]
    of = "no other split has clips so long" if other is None else f"{distribution['other_clips']} clips of '{other}'"
    return [*absent, f"Features: {named}. Other drives: {of}."]


def made_from(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest, and the drives by name."""
    return {**evaluation["manifest"], "held-out drives": evaluation["held"]}
