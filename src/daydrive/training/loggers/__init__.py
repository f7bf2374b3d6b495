"""Where a run's figures go. No other room knows TensorBoard or W&B."""

from daydrive.training.loggers.run import RunLogger

__all__ = ["RunLogger"]
