"""Equivalent to `daydrive train`."""

from daydrive.cli import main

if __name__ == "__main__":
    main("train")
