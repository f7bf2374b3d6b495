"""What can be checked before the first step."""
