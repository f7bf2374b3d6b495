"""The learning-rate finder (Smith 2017)."""
