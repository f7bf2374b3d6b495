"""Equivalent to `daydrive dream-speed`."""

from daydrive.cli import main

if __name__ == "__main__":
    main("dream-speed")
