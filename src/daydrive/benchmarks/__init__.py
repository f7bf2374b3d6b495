"""Benchmarks of models, data loading and training against baselines."""
