"""From recorded drives to a store."""
