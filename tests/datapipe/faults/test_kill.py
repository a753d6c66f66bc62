"""Whatever is killed, a rerun ends as if nothing had been."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from benchmarks.kills import Campaign, KillsBenchmark
from tests.datapipe.fast_line import calls, contents, session_workers, work

COUNT = 60
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """The oracle: one process, one sample after the other."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    work(folder / "run", COUNT, folder / "calls", ray=False)
    return contents(folder / "run")


def test_a_run_in_parts_is_the_same_run(tmp_path, uninterrupted):
    """The listing is handed out a part at a time; nothing is lost or done twice between them."""
    work(tmp_path / "run", COUNT, tmp_path / "calls", ray=False, part=7)
    assert contents(tmp_path / "run") == uninterrupted
    assert len(calls(tmp_path / "calls")) == COUNT


@pytest.mark.proof
def test_drivers_killed_at_random_lose_and_repeat_nothing(tmp_path):
    """The short version of `python -m benchmarks.kills`, which does some hundred kills."""
    campaign = Campaign(tmp_path, KillsBenchmark(samples=COUNT, seed=5))
    tally = campaign.until(25, campaign.drivers)  # compares each run with the uninterrupted one
    assert tally.kills >= 25
    assert tally.again == 0


@pytest.mark.proof
@pytest.mark.ray
def test_a_driver_on_ray_killed_at_random_moments_loses_and_repeats_nothing(
    tmp_path, uninterrupted
):
    """Same candidates, same tables, and no stored candidate is synthesised again."""
    run, log = tmp_path / "run", tmp_path / "calls"
    command = [sys.executable, "-m", "tests.datapipe.fast_line", run, str(COUNT), "ray", log]
    moments = random.Random(7)
    for _ in range(4):
        driver = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
        try:
            driver.wait(moments.uniform(5, 13))
        except subprocess.TimeoutExpired:
            driver.send_signal(signal.SIGKILL)
            driver.wait()
    subprocess.run(command, cwd=ROOT, check=True)
    assert contents(run) == uninterrupted
    assert {kind for _, kind in calls(log)} == {"first"}


@pytest.mark.proof
@pytest.mark.ray
def test_killed_workers_cost_nothing_but_time(tmp_path, uninterrupted):
    """Two actors die; the run goes on and ends with the same bytes.

    A third might die with the same sample, which would then be an error by itself.
    """
    run, log = tmp_path / "run", tmp_path / "calls"
    command = [sys.executable, "-m", "tests.datapipe.fast_line", run, str(COUNT), "ray", log]
    driver = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
    killed = 0
    while driver.poll() is None:
        time.sleep(1.5)
        victims = session_workers(driver.pid)
        if log.exists() and victims and killed < 2:
            os.kill(victims[killed % len(victims)], signal.SIGKILL)
            killed += 1
    assert driver.returncode == 0
    assert killed == 2
    assert contents(run) == uninterrupted
    assert {kind for _, kind in calls(log)} == {"first"}


@pytest.mark.proof
@pytest.mark.ray
@pytest.mark.parametrize("notice", [False, True])
def test_a_lost_node_costs_only_what_was_in_flight(tmp_path, uninterrupted, cluster, notice):
    """A node is killed with its workers, at once or some seconds after Ray was given notice as of a
    spot machine; the rest of the cluster finishes the run.

    Each worker of the lost node was at one sample at most: only these are synthesised twice.
    """
    run, log = tmp_path / "run", tmp_path / "calls"
    doomed = cluster.add_node(num_cpus=2)
    cluster.wait_for_nodes(120)
    lost_at = []

    def kill_when_busy():
        while not log.exists() or len(calls(log)) < 12:
            time.sleep(0.1)
        if notice:
            _give_notice(cluster.address, doomed.node_id, 2)
            time.sleep(2)
        lost_at.append(len(calls(log)))
        cluster.remove_node(doomed, allow_graceful=False)

    killer = threading.Thread(target=kill_when_busy)
    killer.start()
    outcomes = work(run, COUNT, log, ray=True, address=cluster.address, pause=0.4)
    killer.join()
    assert outcomes == {"candidate": COUNT}
    assert lost_at[0] < COUNT
    assert contents(run) == uninterrupted
    assert {kind for _, kind in calls(log)} == {"first"}
    assert len(calls(log)) <= COUNT + 2


def _give_notice(address, node, seconds):
    """What an autoscaler tells Ray when a spot machine will be taken away."""
    from ray._raylet import GcsClient
    from ray.core.generated import autoscaler_pb2

    preempted = autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
    deadline = int(1000 * (time.time() + seconds))
    accepted, why = GcsClient(address=address).drain_node(node, preempted, "taken away", deadline)
    assert accepted, why
