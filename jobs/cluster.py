"""Connecting to a Ray cluster, the same way for every command that uses one directly."""

from __future__ import annotations

import os


def connect(address: str | None, *, quiet: bool) -> None:
    """To `address`, to the cluster that this process runs in, or to a local one made now."""
    import ray

    if not ray.is_initialized():
        # "local" by name: without it Ray may join a cluster that happens to run on this machine
        where = address or os.environ.get("RAY_ADDRESS", "local")
        ray.init(where, include_dashboard=False, log_to_driver=not quiet)
