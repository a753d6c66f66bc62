"""From encoded shards to batches, in an order that any number of workers can resume."""
