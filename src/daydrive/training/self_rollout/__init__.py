"""Training on the model's own ongoing rollouts: the lanes, the critic and their losses."""
