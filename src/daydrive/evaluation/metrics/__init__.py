"""What is measured of a rollout, beside its baselines, with intervals over drives."""
