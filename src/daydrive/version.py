"""The version of daydrive."""

__version__ = "0.1.0"
