"""The video model: Wan with reference views, proxy tokens, injected features and Jump-RoPE."""
