"""The report: every case with all methods side by side, as a page that opens from disk."""
