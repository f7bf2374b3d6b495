"""Donkeycar tubs."""

from daydrive.data.sources.donkeycar.source import DonkeycarSource

__all__ = ["DonkeycarSource"]
