"""What daydrive itself costs: models, loading and training, timed beside what they are compared with."""
