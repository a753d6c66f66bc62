"""The Ray cluster of a test: a head node with two CPUs, and what the test adds."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

CPUS = 2
TRIES = 3
"""Ray gives a node 30 s to start, which a machine at load 20 may exceed."""


@contextmanager
def head_node() -> Iterator[Any]:
    """A `ray.cluster_utils.Cluster` of the head node alone; nobody has joined it yet.

    Afterwards this process has left it, and all of it has ended.
    """
    import ray
    from ray.cluster_utils import Cluster

    ray.shutdown()
    os.environ.setdefault("RAY_gcs_server_port_wait_time_s", "120")
    for left in reversed(range(TRIES)):
        made = Cluster()
        try:
            made.add_node(num_cpus=CPUS, include_dashboard=False)
            break
        except Exception as slow:  # Ray has no class of its own for it
            made.shutdown()
            if not left or "timed out" not in str(slow):
                raise
    try:
        yield made
    finally:
        ray.shutdown()
        made.shutdown()
