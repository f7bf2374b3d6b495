"""Loggers of training metrics. No other module uses TensorBoard or W&B."""

from daydrive.training.logging.run_logger import RunLogger

__all__ = ["RunLogger"]
