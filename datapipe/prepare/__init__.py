"""Prepare: from a video to the frontal references of up to two identities."""
