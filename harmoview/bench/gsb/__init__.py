"""The human study: good, same or bad, judged blind side by side."""
