"""Where a run's figures go. No other room knows TensorBoard or W&B."""

from daydrive.training.logging.run_logger import RunLogger

__all__ = ["RunLogger"]
