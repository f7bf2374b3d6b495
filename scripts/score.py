"""Equivalent to `daydrive score`."""

from daydrive.cli import main

if __name__ == "__main__":
    main("score")
