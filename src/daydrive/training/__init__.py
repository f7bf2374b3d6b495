"""Training: a loop one reads top to bottom, and the rooms around it."""
