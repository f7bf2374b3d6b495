"""Data pipeline from raw drives to batches: sources → prepare → store → clips → loader."""
