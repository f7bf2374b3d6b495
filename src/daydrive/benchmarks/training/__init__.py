"""The training's benchmark: speed, memory and upkeep as ratios, each with its target and the figures behind it."""

from daydrive.benchmarks.training.suite import benchmark_training

__all__ = ["benchmark_training"]
