"""The action report card: does a dream obey its driver, and does a long one hold?"""

from daydrive.evaluation.card.branches import Fork, forks, road_forks
from daydrive.evaluation.card.egomotion import Estimators, calibrate
from daydrive.evaluation.card.long import long_dream
from daydrive.evaluation.card.markdown import card_markdown, long_markdown
from daydrive.evaluation.card.memory import Memory
from daydrive.evaluation.card.report import report_card
from daydrive.evaluation.card.words import long_sentence

__all__ = [
    "Estimators",
    "Fork",
    "Memory",
    "calibrate",
    "card_markdown",
    "forks",
    "long_dream",
    "long_markdown",
    "long_sentence",
    "report_card",
    "road_forks",
]
