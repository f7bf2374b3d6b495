"""Vehicle motion and driver actions: resampling, signal processing, ego motion, GPS tracks."""
