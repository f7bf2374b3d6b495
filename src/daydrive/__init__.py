"""daydrive: world models of driving, trained from recorded drives and measured honestly."""

__version__ = "0.1.0"
