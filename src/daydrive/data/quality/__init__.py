"""Inspection of stores: statistics, damaged rows, the doctor, difficulty scores."""
