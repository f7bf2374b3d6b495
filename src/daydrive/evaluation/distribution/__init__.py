"""Distances between the distributions of predicted and real frames, Fréchet (FID, FVD) and kernel (KID), with filter
features and with published networks."""

from daydrive.evaluation.distribution.accumulator import (
    DistributionAccumulator,
    add_reference_clips,
    choose_reference_clips,
)
from daydrive.evaluation.distribution.features import FILTERS, Features, find_features

__all__ = [
    "FILTERS",
    "DistributionAccumulator",
    "Features",
    "add_reference_clips",
    "choose_reference_clips",
    "find_features",
]
