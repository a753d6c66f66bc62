"""What is made of scores: shards, people, statistics, plans. Decides by the rules."""
