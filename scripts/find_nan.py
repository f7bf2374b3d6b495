"""Equivalent to `daydrive find-nan`."""

from daydrive.cli import main

if __name__ == "__main__":
    main("find-nan")
