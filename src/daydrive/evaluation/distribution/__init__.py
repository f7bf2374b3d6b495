"""Do dreams as a whole look like real drives: Fréchet distances, of filters and of published networks."""

from daydrive.evaluation.distribution.features import FILTERS, Features, find_features
from daydrive.evaluation.distribution.others import clips_elsewhere, see_others
from daydrive.evaluation.distribution.spread import Spread
from daydrive.evaluation.distribution.tables import distribution_html, distribution_markdown

__all__ = [
    "FILTERS",
    "Features",
    "Spread",
    "clips_elsewhere",
    "distribution_html",
    "distribution_markdown",
    "find_features",
    "see_others",
]
