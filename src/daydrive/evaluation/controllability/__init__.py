"""Controllability: whether rollouts follow the actions, and whether long rollouts stay stable."""

from daydrive.evaluation.controllability.branches import BranchSet, drive_branches, road_branches
from daydrive.evaluation.controllability.egomotion import Estimators, calibrate
from daydrive.evaluation.controllability.horizon_quality import measure_horizons
from daydrive.evaluation.controllability.long_rollout import measure_long_rollouts
from daydrive.evaluation.controllability.scorecard import road_moments, score_controllability
from daydrive.evaluation.controllability.training_index import TrainingIndex

__all__ = [
    "BranchSet",
    "Estimators",
    "TrainingIndex",
    "calibrate",
    "drive_branches",
    "measure_horizons",
    "measure_long_rollouts",
    "road_branches",
    "road_moments",
    "score_controllability",
]
