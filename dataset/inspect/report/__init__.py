"""The report of a run: one HTML file with pictures, charts and thresholds that can be moved."""
