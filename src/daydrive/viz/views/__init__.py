"""Seeing what a model does: each kind of picture in its own file, as a still or as a film; see docs/VISUALIZE.md."""
