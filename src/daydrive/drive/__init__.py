"""Driving by hand in a browser: in a world model, in the road simulator, or in both side by side."""
