"""HarmoView-Bench: a suite of cases, metrics that show their bias, tables, a human study."""
