"""Measuring views (scores) and deciding on them (rules)."""
