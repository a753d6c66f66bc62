"""What a whole corpus will give and cost, from a pilot of some of its videos."""
