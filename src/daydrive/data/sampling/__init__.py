"""Clips of a store, their order, and batches of them."""
