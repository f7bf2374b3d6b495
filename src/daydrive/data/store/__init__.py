"""The store: a Lance table of frames and actions, with metadata."""
