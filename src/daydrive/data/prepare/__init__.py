"""Preparation: converts recorded drives into a store."""
