"""The line takes what the cluster has, follows it, and says what it lacks."""

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from datapipe.errors import UserError
from datapipe.line.cluster import connect, pools
from datapipe.line.line import RayLine
from datapipe.record import Sample, Source
from datapipe.stage import Resources

pytestmark = [pytest.mark.slow, pytest.mark.ray]


class Where:
    """Logs the node it runs on."""

    name = "where"

    def __init__(self, log, resources):
        self.log, self.resources = log, resources

    def setup(self):
        pass

    def __call__(self, sample):
        import ray

        time.sleep(0.1)
        node = ray.get_runtime_context().get_node_id()
        with self.log.open("a") as file:
            file.write(f"{node}\n")
        return replace(sample, caption=node)


@dataclass(frozen=True)
class UntilNodes:
    """A listing that ends some time after so many nodes have worked, or after five minutes."""

    log: Path
    nodes: int

    def __call__(self):
        end = time.monotonic() + 300
        for number in range(100_000):
            seen = set(self.log.read_text().split()) if self.log.exists() else set()
            if len(seen) >= self.nodes or time.monotonic() > end:
                return
            yield Sample(f"k{number}", Source(f"{number}.mp4", ".mp4"))


def test_a_node_that_joins_while_the_line_runs_gets_work(cluster, tmp_path):
    """Nobody need start the run again."""
    log, seen = tmp_path / "nodes", set()
    line = RayLine([Where(log, Resources(num_cpus=1))], cluster.address)
    for sample in line.run(UntilNodes(log, 2)):
        if not seen:
            cluster.add_node(num_cpus=1)
        seen.add(sample.caption)
    assert len(seen) == 2


def test_what_a_cluster_lacks_is_told_and_not_waited_for(cluster, tmp_path):
    """Its message names the stage and the option that gives nodes more time."""
    stages = [Where(tmp_path / "nodes", Resources(num_gpus=1))]
    connect(cluster.address)
    with pytest.raises(UserError, match=r"needs 1 GPUs.*\(where 1\).*has 0.*--wait-for-nodes"):
        pools(stages, None, wait=1.0)


def test_nodes_may_join_a_little_later_than_the_driver(cluster, tmp_path):
    """As on a cluster that a batch system starts node by node."""
    stages = [Where(tmp_path / "nodes", Resources(num_gpus=1))]
    connect(cluster.address)
    with ThreadPoolExecutor() as executor:
        planned = executor.submit(pools, stages, None, 300.0)
        cluster.add_node(num_cpus=0, num_gpus=2)
        (pool,) = planned.result()
    assert pool.workers == 2


WAIT = """
import sys
from pathlib import Path
import ray
from datapipe.line.cluster import pools
from datapipe.stage import Resources
from tests.datapipe.line.test_cluster import Where
ray.init(sys.argv[1], log_to_driver=False)
pools([Where(Path(), Resources(num_cpus=1)), Where(Path(), Resources(num_gpus=1))], None, 300.0)
"""


def asked_for(address, wanted):
    """Wait until this is what the cluster's autoscaler, if it had one, would be asked for."""
    from ray.autoscaler.v2.sdk import get_cluster_status

    end = time.monotonic() + 120
    while True:
        demands = get_cluster_status(address).resource_demands
        groups = demands.placement_group_demand
        found = sorted(str(one.bundle) for group in groups for one in group.bundles_by_count)
        if found == wanted:
            return
        assert time.monotonic() < end, found
        time.sleep(0.5)


@pytest.mark.proof
def test_nodes_are_asked_for_while_a_driver_waits_and_no_longer(cluster):
    """Whatever another job's Ray Data requests of the same cluster; also where it is killed."""
    from ray.autoscaler.sdk import request_resources

    connect(cluster.address)
    command = [sys.executable, "-c", WAIT, cluster.address]
    with subprocess.Popen(command) as waiting:
        asked_for(cluster.address, ["{'CPU': 1.0}", "{'GPU': 1.0}"])
        request_resources(bundles=[])
        asked_for(cluster.address, ["{'CPU': 1.0}", "{'GPU': 1.0}"])
        waiting.kill()
    asked_for(cluster.address, [])
