"""Equivalent to `daydrive prepare-dataset`."""

from daydrive.cli import main

if __name__ == "__main__":
    main("prepare-dataset")
