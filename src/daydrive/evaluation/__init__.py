"""Honest measurement: how far a dream stays true, whether it obeys the wheel, how fast it is."""

from daydrive.evaluation.controllability.counterfactual import counterfactual
from daydrive.evaluation.metrics.frame_metrics import Dream
from daydrive.evaluation.pipeline import evaluate, evaluate_dream
from daydrive.report.markdown import (
    long_dreams_sentence,
    margins_markdown,
    margins_table,
    report_markdown,
    usable_sentence,
    verdict_sentence,
)

__all__ = [
    "Dream",
    "counterfactual",
    "evaluate",
    "evaluate_dream",
    "long_dreams_sentence",
    "margins_markdown",
    "margins_table",
    "report_markdown",
    "usable_sentence",
    "verdict_sentence",
]
