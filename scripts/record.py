"""Equivalent to `daydrive record`."""

from daydrive.cli import main

if __name__ == "__main__":
    main("record")
