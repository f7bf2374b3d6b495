"""The same as `daydrive record`."""

from daydrive.cli import main

if __name__ == "__main__":
    main("record")
