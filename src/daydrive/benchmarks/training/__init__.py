"""The training benchmark: speed, memory and overhead as ratios, each with its target and what is behind it."""

from daydrive.benchmarks.training.suite import benchmark_training

__all__ = ["benchmark_training"]
