"""The action report card: does a dream obey its driver, and does a long one hold?"""

from daydrive.evaluation.controllability.branches import Fork, forks, road_forks
from daydrive.evaluation.controllability.egomotion import Estimators, calibrate
from daydrive.evaluation.controllability.long_rollout import long_dream
from daydrive.evaluation.controllability.report_card import report_card
from daydrive.evaluation.controllability.training_index import Memory

__all__ = [
    "Estimators",
    "Fork",
    "Memory",
    "calibrate",
    "forks",
    "long_dream",
    "report_card",
    "road_forks",
]
