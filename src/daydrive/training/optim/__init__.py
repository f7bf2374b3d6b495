"""Optimizers, their parameter groups and schedules, and the average of the weights."""
