"""Honest measurement: how far a dream stays true, whether it obeys the wheel, how fast it is."""

from daydrive.evaluation.benchmark import dream_speed
from daydrive.evaluation.controllability import counterfactual
from daydrive.evaluation.horizon import Dream
from daydrive.evaluation.report import (
    long_dreams_sentence,
    margins_markdown,
    margins_table,
    report_markdown,
    usable_sentence,
    verdict_sentence,
)
from daydrive.evaluation.run import evaluate, evaluate_dream

__all__ = [
    "Dream",
    "counterfactual",
    "dream_speed",
    "evaluate",
    "evaluate_dream",
    "long_dreams_sentence",
    "margins_markdown",
    "margins_table",
    "report_markdown",
    "usable_sentence",
    "verdict_sentence",
]
