"""The HarmoView video model and its trainer."""
