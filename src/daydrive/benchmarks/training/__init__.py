"""Benchmark of training: speed, memory and overhead as ratios with targets."""

from daydrive.benchmarks.training.suite import benchmark_training

__all__ = ["benchmark_training"]
