"""The human comparison: a person drives two models side by side without knowing which is which, and chooses.

In every round the models are assigned to the sides at random. The results are written as JSON after every choice.
"""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any, Literal

from daydrive.files import write_json

Choice = Literal["left", "right", "equal"]


class BlindComparison:
    """models: entries that identify the two models. file: for the results."""

    def __init__(self, models: tuple[dict[str, Any], dict[str, Any]], file: Path) -> None:
        self.models, self.file = models, file
        self._rounds: list[dict[str, Any]] = []
        self._random = random.SystemRandom()
        self.shuffle()

    def shuffle(self) -> None:
        """Assign the models to the sides at random."""
        self.sides: tuple[int, int] = self._random.choice(((0, 1), (1, 0)))

    @property
    def count(self) -> int:
        return len(self._rounds)

    def choose(self, choice: Choice, moment: str, steps: int) -> dict[str, Any]:
        """Record a choice after `steps` steps from a moment, write the results, and return them."""
        preferred = None if choice == "equal" else self.sides[0 if choice == "left" else 1]
        self._rounds.append({"moment": moment, "steps": steps, "left": self.sides[0], "preferred": preferred})
        results = self.results()
        self.file.parent.mkdir(parents=True, exist_ok=True)
        write_json(self.file, results)
        return results

    def results(self) -> dict[str, Any]:
        """models: the two models; preferred: number of rounds in which each was preferred; equal: undecided rounds;
        share: of the first model among decided rounds, with its 95 % interval; p_value: of the hypothesis that both are
        equally good, two-sided; rounds: each with the model on the left and the preferred one, by index."""
        wins = [sum(entry["preferred"] == model for entry in self._rounds) for model in (0, 1)]
        decided = sum(wins)
        return {
            "models": list(self.models),
            "preferred": wins,
            "equal": len(self._rounds) - decided,
            "share": round(wins[0] / decided, 4) if decided else None,
            "share_interval": [round(bound, 4) for bound in wilson_interval(wins[0], decided)],
            "p_value": round(binomial_p_value(wins[0], decided), 4),
            "rounds": self._rounds,
        }


def wilson_interval(successes: int, trials: int, z: float = 1.96) -> tuple[float, float]:
    """95 % interval of a proportion (Wilson 1927); (0, 1) without trials."""
    if trials == 0:
        return 0.0, 1.0
    share, weight = successes / trials, z * z / trials
    centre = (share + weight / 2) / (1 + weight)
    half = z / (1 + weight) * math.sqrt(share * (1 - share) / trials + weight / (4 * trials))
    return max(0.0, centre - half), min(1.0, centre + half)


def binomial_p_value(successes: int, trials: int) -> float:
    """Probability of a result at least as uneven when both outcomes are equally likely."""
    fewer = min(successes, trials - successes)
    tail = sum(math.comb(trials, k) for k in range(fewer + 1)) / 2**trials
    return min(1.0, 2 * tail)
