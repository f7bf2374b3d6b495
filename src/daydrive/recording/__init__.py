"""Drives recorded from environments, in the layout that the sources `folder` and `carla` read."""
