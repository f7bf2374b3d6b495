"""What dreaming costs: seconds, memory, arithmetic and energy of a model, of other people's, and of the floors."""

from daydrive.evaluation.benchmark.long_dream import dream_speed
from daydrive.evaluation.benchmark.suite import benchmark_model

__all__ = ["benchmark_model", "dream_speed"]
