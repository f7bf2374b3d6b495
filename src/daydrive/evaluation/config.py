"""What an evaluation measures, checked in one place."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from daydrive.errors import UserError

_LEAST = {"horizon": 1, "clips": 2, "predictions": 1, "batch_size": 1, "seed": 0}


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Which clips are predicted, how far, and what is measured of them.

    split: of the store. horizon: steps to predict, fewer where no two clips are that long. clips: evenly chosen.
    predictions: clips whose frames `predictions.npz` holds. batch_size: clips in memory at a time; changes no metric.
    seed: decides which clip lends its actions to which.
    counterfactual: also left, straight and right from one moment of the road world. controllability: also the
    controllability scorecard. long: also rollouts of 200 and 1000 steps.
    lpips, lpips_weights: see `find_lpips`. fid_weights, fvd_weights: files of the published networks, see
    `find_features`. compare_with: folders of other evaluations of the same clips.

    UserError for a number that is too small.

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
    lpips: str | None = None
    lpips_weights: Path | None = None
    fid_weights: Path | None = None
    fvd_weights: Path | None = None
    compare_with: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value < least:
                raise UserError(f"--{name.replace('_', '-')} has to be at least {least}, not {value}")
