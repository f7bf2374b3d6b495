"""Fréchet distances between predicted and real frames, with filter features and with published networks (FID, FVD)."""

from daydrive.evaluation.frechet.accumulator import FrechetAccumulator, add_reference_clips, choose_reference_clips
from daydrive.evaluation.frechet.features import FILTERS, Features, find_features

__all__ = [
    "FILTERS",
    "Features",
    "FrechetAccumulator",
    "add_reference_clips",
    "choose_reference_clips",
    "find_features",
]
