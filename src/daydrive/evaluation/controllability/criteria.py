"""Turns the scores of the controllability scorecard into checks with thresholds and a verdict in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

STILL = 0.1
"""Change from frame to frame, relative to the real frames, below which a rollout is static; a model whose rollouts are
static and do not respond to the actions copies its input."""
REPLAY, REPLAY_MARGIN = 30.0, 5.0
"""PSNR in dB to the nearest training frame, and its excess over that of the real frames, from which on a rollout is a
replay of the training data."""
COST = 0.3
"""PSNR in dB by which other actions must be worse, or better, to count."""
FOLLOWS = 0.5
"""Correlation of the estimated turn with the steering, relative to that on real frames, from which on a rollout follows
the steering."""
DIFFERS = 0.1
"""Difference made by another clip's actions, relative to the change over the real clip, from which on it counts."""
DELAY = 0.75
"""Steps by which the response may be later or earlier than that of the real car."""
PARALLAX = 0.3
"""Approach of near objects, relative to real frames, below which the image is shifted without parallax."""
STRENGTH = (0.5, 1.6)
"""Accepted range of the gain of the steering response, relative to that of the real car."""
BRANCH_ACCURACY = 0.75
"""Share of branches that must be nearest to their own future."""
MIN_READ_CORRELATION = 0.4
"""Correlation on real frames that an estimator needs for its estimates to count."""


class Check(NamedTuple):
    """passed: None if the check could not be made. evidence: the measured values in words."""

    name: str
    passed: bool | None
    evidence: str


def judge(scores: Mapping[str, Any]) -> dict[str, Any]:
    """`verdict` in words, `mark` (passed checks, of those that could be made), `checks` and `thresholds`.

    scores: the other entries of `score_controllability`.
    """
    checks = [
        _moves(scores), _not_replayed(scores), _responds(scores), _correct_sign(scores), _in_time(scores),
        _follows_steering(scores), _strength(scores), _parallax(scores), *_branches(scores),
    ]  # fmt: skip
    made = [check for check in checks if check.passed is not None]
    passed = sum(bool(check.passed) for check in made)
    return {
        "verdict": _describe(scores, {check.name: check.passed for check in checks}),
        "mark": {"passed": passed, "of": len(made), "share": round(passed / len(made), 4)},
        "checks": [check._asdict() for check in checks],
        "thresholds": {
            "still": STILL, "replay": REPLAY, "replay_margin": REPLAY_MARGIN, "cost": COST, "follows": FOLLOWS,
            "differs": DIFFERS, "delay": DELAY, "parallax": PARALLAX, "strength": list(STRENGTH),
            "told_apart": BRANCH_ACCURACY, "sure_of_reading": MIN_READ_CORRELATION,
        },
    }  # fmt: skip


def _describe(scores: Mapping[str, Any], passed: Mapping[str, bool | None]) -> str:
    """The verdict: the most basic failure, or that the model obeys, with the ways in which it deviates."""
    controllable = _depends_on_actions(scores)
    if passed["moves"] is False and not controllable:
        return "copies"
    if passed["new frames"] is False:
        return "replays"
    if not controllable:
        return "ignores the actions"
    flat = passed["parallax"] is False
    words = ["turns the image without parallax" if flat else "obeys"]
    if passed["right way round"] is False:
        words.append("mirrored")
    if passed["in time"] is False and not flat:
        words.append(_describe_delay(scores))
    if words == ["obeys"] and False in (passed["steering branches"], passed["follows the wheel"], passed["strength"]):
        words.append("roughly")
    if words == ["obeys"] and passed["pedal branches"] is False:
        words.append("the wheel more than the pedals")
    return ", ".join(words)


def _depends_on_actions(scores: Mapping[str, Any]) -> bool:
    """Whether the rollouts depend on the actions: the true, mirrored or early actions are better than others, or other
    actions produce different frames that turn with the steering."""
    responses = _turn_responses(scores)
    turns = responses is not None and abs(responses[0]["correlation"] or 0.0) >= FOLLOWS * responses[1]["correlation"]
    differs = (scores["difference"] or 0.0) >= DIFFERS
    return (
        _is_worse(scores, "wrong")
        or _is_better(scores, "mirrored")
        or _is_better(scores, "early")
        or (turns and differs)
    )


def _describe_delay(scores: Mapping[str, Any]) -> str:
    delay = _excess_delay(scores) or 0.0
    if _is_better(scores, "early"):
        delay = max(delay, 1.0)
    steps = max(1, round(abs(delay)))
    return f"{steps} step{'s' if steps > 1 else ''} {'late' if delay > 0 else 'early'}"


def _moves(scores: Mapping[str, Any]) -> Check:
    change = scores["change"]
    if change is None:
        return Check("moves", None, "the real frames are static")
    return Check("moves", change >= STILL, f"changes {change:.2f} times as much from frame to frame as the real drive")


def _not_replayed(scores: Mapping[str, Any]) -> Check:
    nearest = scores["nearest_training_frame"]
    if nearest is None:
        return Check("new frames", None, "there are no other training drives to compare with")
    predicted, real = nearest["dream_psnr"], nearest["real_psnr"]
    evidence = f"{predicted:.1f} dB to the nearest training frame, real frames {real:.1f} dB"
    return Check("new frames", not is_replay(predicted, real), evidence)


def is_replay(predicted_psnr: float, real_psnr: float) -> bool:
    """Whether a rollout is a replay, from its PSNR in dB to the training data and that of the real frames."""
    return predicted_psnr >= REPLAY and predicted_psnr - real_psnr >= REPLAY_MARGIN


def _cost(scores: Mapping[str, Any], variant: str) -> tuple[float, float]:
    """The mean PSNR cost of an action variant and the bound of its interval nearer to 0, or the mean without one."""
    entry = scores["costs"][variant]
    low, high = entry["interval"] or (entry["cost"], entry["cost"])
    return entry["cost"], low if entry["cost"] > 0 else high


def _is_worse(scores: Mapping[str, Any], variant: str) -> bool:
    cost, bound = _cost(scores, variant)
    return cost >= COST and bound > 0


def _is_better(scores: Mapping[str, Any], variant: str) -> bool:
    cost, bound = _cost(scores, variant)
    return cost <= -COST and bound < 0


def _responds(scores: Mapping[str, Any]) -> Check:
    cost, _ = _cost(scores, "wrong")
    return Check("answers", _is_worse(scores, "wrong"), f"another clip's actions cost {cost:.2f} dB")


def _correct_sign(scores: Mapping[str, Any]) -> Check:
    cost, _ = _cost(scores, "mirrored")
    return Check("right way round", not _is_better(scores, "mirrored"), f"mirrored steering costs {cost:.2f} dB")


def _excess_delay(scores: Mapping[str, Any]) -> float | None:
    """Steps by which the response in the rollouts is later than that of the real car; None if unknown."""
    kind = scores["egomotion"]["trusted"]
    if kind is None:
        return None
    predicted, real = (scores["egomotion"]["turn"][kind][frames] for frames in ("wrong", "real"))
    if predicted["delay"] is None or real["delay"] is None:
        return None
    if abs(predicted["correlation"]) < FOLLOWS * real["correlation"]:
        return None
    return float(predicted["delay"] - real["delay"])


def _in_time(scores: Mapping[str, Any]) -> Check:
    if not _depends_on_actions(scores):
        return Check("in time", None, "it does not respond to the actions")
    gain = -_cost(scores, "early")[0]
    late = _is_better(scores, "early")
    delay = _excess_delay(scores)
    evidence = f"actions one step early {'gain' if gain > 0 else 'cost'} {abs(gain):.2f} dB"
    if delay is not None:
        evidence += f"; responds {abs(delay):.1f} steps {'after' if delay >= 0 else 'before'} the real car"
        late = late or (abs(delay) > DELAY and not _is_worse(scores, "early"))
    return Check("in time", not late, evidence)


def _turn_responses(scores: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any]] | None:
    """The response to another clip's steering in rollouts and to the true steering in real frames, by the better
    estimator."""
    kind = scores["egomotion"]["trusted"]
    if kind is None:
        return None
    turn = scores["egomotion"]["turn"][kind]
    return (turn["wrong"], turn["real"]) if turn["real"]["correlation"] is not None else None


def _follows_steering(scores: Mapping[str, Any]) -> Check:
    pair = _turn_responses(scores)
    if pair is None:
        return Check("follows the wheel", None, "no estimator measures the turn well enough in the real frames")
    predicted, real = (entry["correlation"] or 0.0 for entry in pair)
    evidence = f"correlation of the steering with the estimated turn {predicted:.2f}, in real frames {real:.2f}"
    return Check("follows the wheel", predicted >= FOLLOWS * real, evidence)


def _strength(scores: Mapping[str, Any]) -> Check:
    pair = _turn_responses(scores)
    if pair is None or not pair[1]["gain"]:
        return Check("strength", None, "no estimator measures the turn well enough in the real frames")
    ratio = (pair[0]["gain"] or 0.0) / pair[1]["gain"]
    return Check("strength", STRENGTH[0] <= ratio <= STRENGTH[1], f"turns {ratio:.2f} times as much as the real car")


def _parallax(scores: Mapping[str, Any]) -> Check:
    parallax = scores["egomotion"]["parallax"]
    if parallax is None:
        return Check("parallax", None, "nothing approaches in the real frames")
    return Check("parallax", parallax >= PARALLAX, f"objects approach {parallax:.2f} times as fast as in real frames")


def _branches(scores: Mapping[str, Any]) -> list[Check]:
    branches = scores["branches"]
    checks = []
    for name, key in (("steering branches", "steering_told_apart"), ("pedal branches", "pace_told_apart")):
        if branches is None:
            checks.append(Check(name, None, "this source has no simulator to drive branches"))
        else:
            share = branches[key]
            checks.append(Check(name, share >= BRANCH_ACCURACY, f"{share:.0%} nearest to their own future, chance 33%"))
    return checks
