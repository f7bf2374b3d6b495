"""Metrics of rollouts and their baselines, with confidence intervals over drives."""
