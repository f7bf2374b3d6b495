"""Recordings of Udacity's self-driving-car simulator."""

from daydrive.data.sources.udacity.source import UdacitySource

__all__ = ["UdacitySource"]
