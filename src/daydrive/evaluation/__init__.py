"""Measurement: how far predictions stay true, whether the model obeys the wheel, how it compares with baselines."""

from daydrive.evaluation.config import EvaluateConfig
from daydrive.evaluation.controllability.counterfactual import counterfactual
from daydrive.evaluation.metrics.frame_metrics import Dream
from daydrive.evaluation.model_loading import EvaluatedModel
from daydrive.evaluation.pipeline import evaluate, evaluate_model

__all__ = ["Dream", "EvaluateConfig", "EvaluatedModel", "counterfactual", "evaluate", "evaluate_model"]
