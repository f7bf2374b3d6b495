"""Sampling of clips: index, order, weights, loading and augmentation."""
