"""Virtual subjects: invented people who turn their heads, with the exact pose of every frame."""
