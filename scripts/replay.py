"""Equivalent to `daydrive replay`."""

from daydrive.cli import main

if __name__ == "__main__":
    main("replay")
