"""Benchmark of rollouts: latency, throughput, memory, FLOPs and energy of models and of baselines."""

from daydrive.benchmarks.model.long_rollout import rollout_speed
from daydrive.benchmarks.model.suite import benchmark_model

__all__ = ["benchmark_model", "rollout_speed"]
