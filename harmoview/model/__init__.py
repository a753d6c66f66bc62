"""The model: Wan with references, proxies, injected features and Jump-RoPE."""
