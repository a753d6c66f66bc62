"""Scores and rules in, shards out; and reading shards back."""
