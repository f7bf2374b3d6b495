"""What the figures say, in words: each claim a threshold, each threshold a name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

STILL = 0.1
"""Change from frame to frame, of the real one's, below which a dream stands still; it copies if it does not answer
either."""
REPLAY, REPLAY_MARGIN = 30.0, 5.0
"""dB to the nearest training frame, and how much nearer than real frames are, from which on a dream is a memory."""
COST = 0.3
"""dB that other actions have to cost, or may gain, before it counts."""
FOLLOWS = 0.5
"""Correlation of what was commanded with what is read, of that on real frames, from which on the wheel is followed."""
DIFFERS = 0.1
"""Difference that another clip's actions make, of how far the real drive gets, from which on it is seen."""
DELAY = 0.75
"""Steps by which a response may be later, or earlier, than that of the real car."""
PARALLAX = 0.3
"""Approach of what is near, of that in real frames, below which pictures are turned and not driven through."""
STRENGTH = (0.5, 1.6)
"""Response to the wheel, of the real car's, that counts as right."""
TOLD_APART = 0.75
"""Share of branches that have to be nearest to their own future."""
SURE_OF_READING = 0.4
"""Correlation on real frames that an estimator needs before its readings count."""


class Check(NamedTuple):
    """passed: None where there is nothing to judge by."""

    name: str
    passed: bool | None
    evidence: str


def judge(scores: Mapping[str, Any]) -> dict[str, Any]:
    """`verdict` in words, `mark` (share of the checks that can be made and are passed), `checks` and `thresholds`."""
    checks = [
        _moves(scores), _new(scores), _answers(scores), _right_way_round(scores), _in_time(scores), _follows(scores),
        _as_strongly(scores), _parallax(scores), *_branches(scores),
    ]  # fmt: skip
    made = [check for check in checks if check.passed is not None]
    passed = sum(bool(check.passed) for check in made)
    return {
        "verdict": _words(scores, {check.name: check.passed for check in checks}),
        "mark": {"passed": passed, "of": len(made), "share": round(passed / len(made), 4)},
        "checks": [check._asdict() for check in checks],
        "thresholds": {
            "still": STILL, "replay": REPLAY, "replay_margin": REPLAY_MARGIN, "cost": COST, "follows": FOLLOWS,
            "differs": DIFFERS, "delay": DELAY, "parallax": PARALLAX, "strength": list(STRENGTH),
            "told_apart": TOLD_APART, "sure_of_reading": SURE_OF_READING,
        },
    }  # fmt: skip


def _words(scores: Mapping[str, Any], passed: Mapping[str, bool | None]) -> str:
    """The first thing that is wrong; a dream that obeys in another way than it should says so in full."""
    answers = _responds(scores)
    if passed["moves"] is False and not answers:
        return "copies"
    if passed["new pictures"] is False:
        return "replays"
    if not answers:
        return "ignores the actions"
    flat = passed["parallax"] is False
    words = ["turns the picture without parallax" if flat else "obeys"]
    if passed["right way round"] is False:
        words.append("mirrored")
    if passed["in time"] is False and not flat:
        words.append(_lateness(scores))
    if words == ["obeys"] and False in (passed["steering branches"], passed["follows the wheel"], passed["strength"]):
        words.append("roughly")
    if words == ["obeys"] and passed["pedal branches"] is False:
        words.append("the wheel more than the pedals")
    return ", ".join(words)


def _responds(scores: Mapping[str, Any]) -> bool:
    """Whether it matters which actions a dream is given: true ones are better, or those that it takes them for, or
    other ones give other pictures that turn with the wheel."""
    turned = _turn(scores)
    turns = turned is not None and abs(turned[0]["correlation"] or 0.0) >= FOLLOWS * turned[1]["correlation"]
    differs = (scores["difference"] or 0.0) >= DIFFERS
    return _costs(scores, "wrong") or _gains(scores, "mirrored") or _gains(scores, "early") or (turns and differs)


def _lateness(scores: Mapping[str, Any]) -> str:
    behind = _behind(scores) or 0.0
    if _gains(scores, "early"):
        behind = max(behind, 1.0)
    steps = max(1, round(abs(behind)))
    return f"{steps} step{'s' if steps > 1 else ''} {'late' if behind > 0 else 'early'}"


def _moves(scores: Mapping[str, Any]) -> Check:
    change = scores["change"]
    if change is None:
        return Check("moves", None, "the real frames stand still")
    return Check("moves", change >= STILL, f"changes {change:.2f} times as much from frame to frame as the real drive")


def _new(scores: Mapping[str, Any]) -> Check:
    nearest = scores["nearest_training_frame"]
    if nearest is None:
        return Check("new pictures", None, "there are no other drives to have it from")
    ours, real = nearest["dream_psnr"], nearest["real_psnr"]
    evidence = f"{ours:.1f} dB to the nearest training frame, real frames {real:.1f} dB"
    return Check("new pictures", not replayed(ours, real), evidence)


def replayed(ours: float, real: float) -> bool:
    """Whether a dream that is `ours` dB near to a training drive is a memory, where real frames are `real` dB near."""
    return ours >= REPLAY and ours - real >= REPLAY_MARGIN


def _cost(scores: Mapping[str, Any], name: str) -> tuple[float, float]:
    """Of a kind of actions: mean and, where there is one, the bound of its interval that is nearer to 0."""
    entry = scores["costs"][name]
    low, high = entry["interval"] or (entry["cost"], entry["cost"])
    return entry["cost"], low if entry["cost"] > 0 else high


def _costs(scores: Mapping[str, Any], name: str) -> bool:
    cost, bound = _cost(scores, name)
    return cost >= COST and bound > 0


def _gains(scores: Mapping[str, Any], name: str) -> bool:
    cost, bound = _cost(scores, name)
    return cost <= -COST and bound < 0


def _answers(scores: Mapping[str, Any]) -> Check:
    cost, _ = _cost(scores, "wrong")
    return Check("answers", _costs(scores, "wrong"), f"another clip's actions cost {cost:.2f} dB")


def _right_way_round(scores: Mapping[str, Any]) -> Check:
    cost, _ = _cost(scores, "mirrored")
    return Check(
        "right way round", not _gains(scores, "mirrored"), f"the wheel turned the other way costs {cost:.2f} dB"
    )


def _behind(scores: Mapping[str, Any]) -> float | None:
    """Steps by which the dream's response is later than the real car's."""
    kind = scores["egomotion"]["trusted"]
    if kind is None:
        return None
    ours, real = (scores["egomotion"]["turn"][kind][of] for of in ("wrong", "real"))
    if ours["delay"] is None or real["delay"] is None or abs(ours["correlation"]) < FOLLOWS * real["correlation"]:
        return None
    return float(ours["delay"] - real["delay"])


def _in_time(scores: Mapping[str, Any]) -> Check:
    if not _responds(scores):
        return Check("in time", None, "it does not answer")
    gain = -_cost(scores, "early")[0]
    late = _gains(scores, "early")
    behind = _behind(scores)
    evidence = f"actions one step early {'gain' if gain > 0 else 'cost'} {abs(gain):.2f} dB"
    if behind is not None:
        evidence += f"; read {abs(behind):.1f} steps {'after' if behind >= 0 else 'before'} the real car's response"
        late = late or (abs(behind) > DELAY and not _costs(scores, "early"))
    return Check("in time", not late, evidence)


def _turn(scores: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any]] | None:
    """Responses to another clip's wheel in the dream, and to its own in real frames, by the better estimator."""
    kind = scores["egomotion"]["trusted"]
    if kind is None:
        return None
    turn = scores["egomotion"]["turn"][kind]
    return (turn["wrong"], turn["real"]) if turn["real"]["correlation"] is not None else None


def _follows(scores: Mapping[str, Any]) -> Check:
    pair = _turn(scores)
    if pair is None:
        return Check("follows the wheel", None, "no estimator reads the turn well enough in the real frames")
    ours, real = (entry["correlation"] or 0.0 for entry in pair)
    evidence = f"correlation of the wheel with the turn that is read {ours:.2f}, in real frames {real:.2f}"
    return Check("follows the wheel", ours >= FOLLOWS * real, evidence)


def _as_strongly(scores: Mapping[str, Any]) -> Check:
    pair = _turn(scores)
    if pair is None or not pair[1]["gain"]:
        return Check("strength", None, "no estimator reads the turn well enough in the real frames")
    ratio = (pair[0]["gain"] or 0.0) / pair[1]["gain"]
    return Check("strength", STRENGTH[0] <= ratio <= STRENGTH[1], f"turns {ratio:.2f} times as much as the real car")


def _parallax(scores: Mapping[str, Any]) -> Check:
    parallax = scores["egomotion"]["parallax"]
    if parallax is None:
        return Check("parallax", None, "nothing comes nearer in the real frames")
    return Check("parallax", parallax >= PARALLAX, f"things come nearer {parallax:.2f} times as fast as in real frames")


def _branches(scores: Mapping[str, Any]) -> list[Check]:
    branches = scores["branches"]
    checks = []
    for name, key in (("steering branches", "steering_told_apart"), ("pedal branches", "pace_told_apart")):
        if branches is None:
            checks.append(Check(name, None, "this source cannot be driven again"))
        else:
            share = branches[key]
            checks.append(Check(name, share >= TOLD_APART, f"{share:.0%} nearest to their own future, chance 33%"))
    return checks
