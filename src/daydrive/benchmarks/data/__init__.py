"""Benchmark of the data loader: clips per CPU second, against JPEG folders, other loaders and decoding alone."""

from daydrive.benchmarks.data.suite import benchmark_data

__all__ = ["benchmark_data"]
