"""Optimizers, parameter groups, schedules, and the moving average of the weights."""
