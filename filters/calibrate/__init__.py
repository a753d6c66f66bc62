"""Thresholds from measurements: pure functions of embeddings and scores, numpy and scipy only."""
