"""Do predictions as a whole look like real drives: Fréchet distances, of filters and of published networks."""

from daydrive.evaluation.frechet.accumulator import FrechetAccumulator
from daydrive.evaluation.frechet.features import FILTERS, Features, find_features
from daydrive.evaluation.frechet.reference_clips import add_others, clips_elsewhere

__all__ = [
    "FILTERS",
    "Features",
    "FrechetAccumulator",
    "add_others",
    "clips_elsewhere",
    "find_features",
]
