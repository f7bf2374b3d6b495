"""Environments: what can be driven step by step."""
