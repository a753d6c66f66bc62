"""The Ray cluster that tests share: a head node with two CPUs; what a test adds goes with it."""

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
    """A `ray.cluster_utils.Cluster` of the head node alone; nobody has joined it yet."""
    from ray.cluster_utils import Cluster

    os.environ.setdefault("RAY_gcs_server_port_wait_time_s", "120")
    for left in reversed(range(TRIES)):
        made = Cluster()
        try:
            made.add_node(num_cpus=CPUS)
            break
        except Exception as slow:  # Ray has no class of its own for it
            made.shutdown()
            if not left or "timed out" not in str(slow):
                raise
    try:
        yield made
    finally:
        made.shutdown()


@contextmanager
def alone(cluster: Any) -> Iterator[None]:
    """Afterwards this process has left the cluster, and its head node is the only one again."""
    import ray

    ray.shutdown()
    try:
        yield
    finally:
        ray.shutdown()
        if cluster.worker_nodes:
            for node in list(cluster.worker_nodes):
                cluster.remove_node(node)
            cluster.wait_for_nodes(120)
