"""Equivalent to `daydrive drive`."""

from daydrive.cli import main

if __name__ == "__main__":
    main("drive")
