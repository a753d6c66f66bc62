"""Virtual people as a suite, and methods with known defects: every metric is tested on truth."""
