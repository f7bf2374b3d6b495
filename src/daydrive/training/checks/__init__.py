"""Checks that run before the first step."""
