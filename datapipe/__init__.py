"""What flows through the line, where it comes from, how it is run, stored and counted."""
