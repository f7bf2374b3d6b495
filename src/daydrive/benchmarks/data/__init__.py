"""The loader's benchmark: clips a CPU second, against folders of JPEGs, other loaders and the decoder alone."""

from daydrive.benchmarks.data.suite import benchmark_data

__all__ = ["benchmark_data"]
