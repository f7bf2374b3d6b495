"""The action report card: does a dream obey its driver, and does a long one hold?"""

from daydrive.evaluation.card.branches import Fork, forks, road_forks
from daydrive.evaluation.card.egomotion import Estimators, calibrate
from daydrive.evaluation.card.long import long_dream
from daydrive.evaluation.card.markdown import card_markdown
from daydrive.evaluation.card.report import report_card

__all__ = [
    "Estimators",
    "Fork",
    "calibrate",
    "card_markdown",
    "forks",
    "long_dream",
    "report_card",
    "road_forks",
]
