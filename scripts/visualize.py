"""Equivalent to `daydrive visualize`."""

from daydrive.cli import main

if __name__ == "__main__":
    main("visualize")
