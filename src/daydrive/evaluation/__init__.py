"""Evaluation: rollout accuracy against baselines, distances of distributions and controllability."""

from daydrive.evaluation.config import EvaluateConfig
from daydrive.evaluation.controllability.counterfactual import counterfactual
from daydrive.evaluation.metrics.frame_metrics import RolloutFunction
from daydrive.evaluation.model_loading import EvaluatedModel
from daydrive.evaluation.pipeline import evaluate, evaluate_model

__all__ = ["EvaluateConfig", "EvaluatedModel", "RolloutFunction", "counterfactual", "evaluate", "evaluate_model"]
