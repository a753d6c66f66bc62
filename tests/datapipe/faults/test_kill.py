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


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.parametrize("engine", ["local", "ray"])
def test_a_driver_killed_at_random_moments_loses_and_repeats_nothing(
    tmp_path, uninterrupted, engine
):
    """Same candidates, same tables, and no stored candidate is synthesised again."""
    run, log = tmp_path / "run", tmp_path / "calls"
    command = [sys.executable, "-m", "tests.datapipe.fast_line", run, str(COUNT), engine, log]
    moments = random.Random(7)
    for _ in range(4):
        driver = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
        try:
            driver.wait(moments.uniform(1, 9) + (4 if engine == "ray" else 0))
        except subprocess.TimeoutExpired:
            driver.send_signal(signal.SIGKILL)
            driver.wait()
    subprocess.run(command, cwd=ROOT, check=True)
    assert contents(run) == uninterrupted
    assert {kind for _, kind in calls(log)} == {"first"}


@pytest.mark.slow
@pytest.mark.ray
def test_killed_workers_cost_nothing_but_time(tmp_path, uninterrupted):
    """Actors die now and then; the run goes on and ends with the same bytes."""
    run, log = tmp_path / "run", tmp_path / "calls"
    command = [sys.executable, "-m", "tests.datapipe.fast_line", run, str(COUNT), "ray", log]
    driver = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
    killed = 0
    while driver.poll() is None:
        time.sleep(1.5)
        victims = session_workers(driver.pid)
        if log.exists() and victims and killed < 5:
            os.kill(victims[killed % len(victims)], signal.SIGKILL)
            killed += 1
    assert driver.returncode == 0
    assert killed >= 2
    assert contents(run) == uninterrupted
    assert {kind for _, kind in calls(log)} == {"first"}


@pytest.mark.slow
@pytest.mark.ray
def test_a_lost_node_costs_only_what_was_in_flight(tmp_path, uninterrupted):
    """A node of a cluster is killed with its workers; the rest of the cluster finishes the run.

    Each worker of the lost node was at one sample at most: only these are synthesised twice.
    """
    import ray
    from ray.cluster_utils import Cluster

    if ray.is_initialized():
        ray.shutdown()
    run, log = tmp_path / "run", tmp_path / "calls"
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
    doomed = cluster.add_node(num_cpus=4)
    cluster.wait_for_nodes()
    ray.init(address=cluster.address, log_to_driver=False)

    def kill_when_busy():
        while not log.exists() or len(calls(log)) < 12:
            time.sleep(0.2)
        cluster.remove_node(doomed, allow_graceful=False)

    killer = threading.Thread(target=kill_when_busy)
    killer.start()
    try:
        outcomes = work(run, COUNT, log, ray=True, address=cluster.address)
        killer.join()
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert outcomes == {"candidate": COUNT}
    assert contents(run) == uninterrupted
    assert {kind for _, kind in calls(log)} == {"first"}
    assert len(calls(log)) <= COUNT + 4
