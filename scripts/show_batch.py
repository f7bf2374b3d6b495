"""Equivalent to `daydrive show-batch`."""

from daydrive.cli import main

if __name__ == "__main__":
    main("show-batch")
