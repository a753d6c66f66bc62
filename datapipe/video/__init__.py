"""Videos read by time: what they show and when, as a careful player would show it."""
