"""Visualization: images and videos, charts, colormaps, SVG, HTML; `gallery` shows drives, `views` model rollouts."""
