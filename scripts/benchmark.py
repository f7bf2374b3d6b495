"""Equivalent to `daydrive benchmark`."""

from daydrive.cli import main

if __name__ == "__main__":
    main("benchmark")
