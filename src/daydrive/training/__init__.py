"""Training: the loop, and the modules that it is built from."""
