"""Do dreams as a whole look like real drives: Fréchet distances, of filters and of published networks."""

from daydrive.evaluation.frechet.accumulator import Spread
from daydrive.evaluation.frechet.features import FILTERS, Features, find_features
from daydrive.evaluation.frechet.reference_clips import clips_elsewhere, see_others

__all__ = [
    "FILTERS",
    "Features",
    "Spread",
    "clips_elsewhere",
    "find_features",
    "see_others",
]
