"""From packed shards to encoded ones: latents, text embeddings and vision features."""
