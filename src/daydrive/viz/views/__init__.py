"""Seeing what a model does: each kind of image in its own file, as a still or as a video; see docs/VISUALIZE.md."""
