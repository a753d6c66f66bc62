"""The trainer of the Progressive View Curriculum."""
