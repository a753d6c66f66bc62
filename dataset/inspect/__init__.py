"""What became of a run: counts and pictures."""
