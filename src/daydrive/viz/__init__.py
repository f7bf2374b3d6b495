"""Drawing: images and videos, charts, colormaps, SVG, pages; `gallery` for drives, `views` for what a model does."""
