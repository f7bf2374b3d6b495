"""Visualizations of a model's rollouts, one module per kind, as images or videos; see docs/VISUALIZE.md."""
