"""Equivalent to `daydrive find-lr`."""

from daydrive.cli import main

if __name__ == "__main__":
    main("find-lr")
