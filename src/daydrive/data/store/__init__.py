"""The store: a Lance table of frames and actions, and what its rows mean."""
