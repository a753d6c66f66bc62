"""The Ray cluster of the tests: a head node with two CPUs, and what a test adds."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
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


class SharedHead:
    """The head node that tests use one after the other, started when the first one asks for it.

    A start costs four seconds of CPU time, which most tests on Ray would otherwise spend.
    """

    def __init__(self) -> None:
        self._started = ExitStack()
        self._made: Any = None

    @contextmanager
    def lent(self, *, fresh: bool) -> Iterator[Any]:
        """The cluster for one test, which nobody has joined; `fresh` is one of a new head node.

        Afterwards this process has left it, and the nodes that were added are gone.
        """
        import ray

        if fresh:
            self.end()
        if self._made is None:
            self._made = self._started.enter_context(head_node())
        ray.shutdown()
        yield self._made
        ray.shutdown()
        for node in list(self._made.worker_nodes):
            self._made.remove_node(node)
        self._made.wait_for_nodes(120)

    def end(self) -> None:
        """End the head node."""
        self._made = None
        self._started.close()
