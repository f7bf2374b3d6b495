"""Periodic smooth noise and deterministic hashing to uniform numbers."""

from __future__ import annotations

import cv2
import numpy as np

MASK = (1 << 64) - 1


def smooth_noise(rng: np.random.Generator, height: int, width: int, rows: int, columns: int) -> np.ndarray:
    """Noise in about [0, 1], float32 (height, width), from a random grid of rows x columns, periodic on both axes."""
    grid = rng.random((rows, columns), dtype=np.float32)
    x = ((np.arange(width) + 0.5) * columns / width - 0.5).astype(np.float32)
    y = ((np.arange(height) + 0.5) * rows / height - 0.5).astype(np.float32)
    padded = np.pad(grid, 3, mode="wrap")
    result = np.empty((height, width), np.float32)
    for start in range(0, width, 16_384):
        grid_columns = np.broadcast_to(x[start : start + 16_384] + 3, (height, len(x[start : start + 16_384])))
        grid_rows = np.broadcast_to(y[:, None] + 3, grid_columns.shape)
        result[:, start : start + 16_384] = cv2.remap(
            padded, np.ascontiguousarray(grid_columns), np.ascontiguousarray(grid_rows), cv2.INTER_CUBIC
        )
    return result


def fractal(rng: np.random.Generator, height: int, width: int, rows: int, columns: int, octaves: int) -> np.ndarray:
    """Sum of `octaves` of smooth noise, each at twice the frequency and half the amplitude, scaled to about [0, 1]."""
    total = np.zeros((height, width), np.float32)
    weight = 0.0
    for octave in range(octaves):
        gain = 0.5**octave
        total += gain * smooth_noise(rng, height, width, rows << octave, columns << octave)
        weight += gain
    return total / weight


def hash_uniform(*keys: int) -> float:
    """A uniform number in [0, 1) that is a pure function of its integer keys (splitmix64)."""
    state = 0x9E3779B97F4A7C15
    for key in keys:
        state = (state ^ (key & MASK)) * 0xBF58476D1CE4E5B9 & MASK
        state = (state ^ (state >> 27)) * 0x94D049BB133111EB & MASK
        state ^= state >> 31
    return (state >> 11) / (1 << 53)
