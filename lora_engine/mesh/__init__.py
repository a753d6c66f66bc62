"""The mesh engine: a portrait lifted onto a textured head and rendered at any angle, on a CPU."""
