"""Settings of an evaluation, with their validation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from daydrive.errors import UserError

_MINIMUM = {"horizon": 1, "clips": 2, "predictions": 1, "batch_size": 1, "seed": 0}


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Which clips are predicted, how far, and what is measured.

    split: of the store. horizon: steps to predict, fewer if no two clips are that long. clips: number of clips, evenly
    spaced. predictions: number of clips whose frames are saved in `predictions.npz`. batch_size: clips in memory at a
    time; does not affect the metrics. seed: of the assignment of another clip's actions to each clip.
    counterfactual: also drive left, straight and right from the same moments of the road world. controllability: also
    compute the controllability scorecard. long: also evaluate rollouts of 200 and 1000 steps. deterministic: roll out
    without random numbers. samples: number of futures to sample of each of a few clips, 0 for none.
    lpips, lpips_weights: see `find_lpips`. fid_weights, fvd_weights: files of the published networks, see
    `find_features`. compare_with: folders of other evaluations of the same clips. human: results of a blind comparison
    by `daydrive drive`, for the report. decisions: folders written by `daydrive plan`, `learn-policy` or `rank`,
    likewise.

    Raises UserError if a number is too small.

    >>> EvaluateConfig(split="val", horizon=10).clips
    64
    """

    split: str = "test"
    horizon: int = 50
    clips: int = 64
    predictions: int = 64
    batch_size: int = 8
    seed: int = 0
    counterfactual: bool = False
    controllability: bool = False
    long: bool = False
    deterministic: bool = False
    samples: int = 0
    lpips: str | None = None
    lpips_weights: Path | None = None
    fid_weights: Path | None = None
    fvd_weights: Path | None = None
    compare_with: tuple[Path, ...] = ()
    human: Path | None = None
    decisions: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        for name, minimum in _MINIMUM.items():
            value = getattr(self, name)
            if value < minimum:
                raise UserError(f"--{name.replace('_', '-')} has to be at least {minimum}, not {value}")
        if self.samples < 0 or self.samples == 1:
            raise UserError(f"--samples has to be at least 2, or 0 for none, not {self.samples}: one has no spread")
