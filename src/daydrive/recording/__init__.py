"""Recording of drives from CARLA and Gymnasium environments, in the layout of the sources `folder` and `carla`."""
