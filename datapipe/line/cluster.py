"""The cluster that a line runs on: joining it, and what can be had of it."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping, Sequence

from datapipe.errors import UserError
from datapipe.line.sizing import Pool, plan_pools, promised
from datapipe.stage import Stage

JOINING = 30.0
"""Seconds that the nodes of a cluster without autoscaler have to join it."""

log = logging.getLogger(__name__)


def connect(address: str | None) -> float:
    """To `address`, to the cluster this process runs in, or to a local one made now.

    Returns the seconds to wait for missing nodes: none where the cluster is this machine.
    """
    import ray

    # "local" by name: without it Ray tries the address file of a cluster long dead first
    where = address or os.environ.get("RAY_ADDRESS", "local")
    if not ray.is_initialized():
        ray.init(address=where, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    return 0.0 if where == "local" else JOINING


def pools(stages: Sequence[Stage], workers: int | None, wait: float) -> list[Pool]:
    """The line's pools, planned with what the cluster has or its autoscaler may add.

    Raises UserError when something is missing that no autoscaler promises, after `wait` seconds.
    """
    import ray
    from ray._private.state import state  # what Ray Data itself asks; there is no public way

    until = time.monotonic() + wait
    while True:
        now = _cpus_gpus(ray.cluster_resources())
        most = _cpus_gpus(state.get_max_resources_from_cluster_config() or {})
        planned = promised(stages, now, most)
        try:
            found = plan_pools(stages, *planned, workers)
        except UserError:
            if time.monotonic() > until:
                raise
            time.sleep(1.0)
            continue
        if planned != now:
            log.warning("waiting for nodes that the cluster's autoscaler adds")
        return found


def _cpus_gpus(resources: Mapping[str, float]) -> tuple[float, float]:
    return resources.get("CPU", 0.0), resources.get("GPU", 0.0)
