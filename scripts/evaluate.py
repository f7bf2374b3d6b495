"""Equivalent to `daydrive evaluate`."""

from daydrive.cli import main

if __name__ == "__main__":
    main("evaluate")
