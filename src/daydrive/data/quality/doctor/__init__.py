"""The doctor: diagnoses problems of a store. Each module checks one kind of problem and reports evidence and fix."""
