"""From raw drives to batches: sources → prepare → store → clips → loader."""
