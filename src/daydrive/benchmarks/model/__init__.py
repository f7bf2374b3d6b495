"""What dreaming costs: seconds, memory, arithmetic and energy of a model, of other people's, and of the baselines."""

from daydrive.benchmarks.model.long_rollout import dream_speed
from daydrive.benchmarks.model.suite import benchmark_model

__all__ = ["benchmark_model", "dream_speed"]
