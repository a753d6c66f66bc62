"""Training processes on Ray: what they are given, and how their mistakes come back."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from datapipe.errors import FinalError, UserError
from datapipe.line.cluster import LOCAL, connect
from harmoview.encode.settings import EncodeSettings
from jobs.encode import EncodeJobSettings, share_out
from jobs.options.launch import Launch, _worker, on_gpus, on_ray
from tests.datapipe.line.test_cluster import asked_for

ENCODE = EncodeJobSettings("shards", "out", EncodeSettings(base="wan", vit="none"), workers=2)


@pytest.fixture
def _one_cpu(monkeypatch):
    monkeypatch.setattr("tests.ray_cluster.CPUS", 1)


@pytest.mark.ray
@pytest.mark.usefixtures("_one_cpu", "cluster")
def test_a_users_mistake_in_a_worker_comes_back_as_one(tmp_path, monkeypatch):
    """Not as Ray's report of a failed worker; every worker knows its rank and the others.

    Two share the one CPU there is. What would come again is met once: a next try of Ray's ends
    before it. Relative paths are the command's. Ctrl-C then does what it did before: Ray Train's
    own handler, which would start a cluster, is gone.
    """
    monkeypatch.chdir(tmp_path)
    before = signal.getsignal(signal.SIGINT)

    def work(_) -> None:
        from training import parallel

        with Path(f"{parallel.rank()} of {parallel.processes()}").open("a") as met:
            met.write("once ")
        parallel.wait_for_all()
        raise FinalError("the checkpoint is of another model")

    with pytest.raises(UserError, match="of another model"):
        on_ray(Launch(workers=2, max_failures=0), work, Path(), "cpu", quiet=True)
    assert signal.getsignal(signal.SIGINT) is before
    with pytest.raises(FinalError, match="of another model"):
        _worker({"work": work, "folder": tmp_path, "out": tmp_path})
    met = {path.name: path.read_text() for path in tmp_path.glob("* of *")}
    assert met == {"0 of 2": "once ", "1 of 2": "once "}


@pytest.mark.parametrize("bad", [{"workers": 0}, {"address": "auto"}, {"max_failures": -1}])
def test_settings_that_cannot_be_are_refused(bad):
    """No workers, a cluster for none, a negative number of losses."""
    with pytest.raises(ValueError, match="--"):
        Launch(**bad)


@pytest.mark.proof
@pytest.mark.ray
def test_gpus_that_come_later_are_asked_and_waited_for(cluster):
    """By training and by encoding: a cluster that has scaled its GPU nodes down has GPUs."""
    connect(cluster.address)
    with ThreadPoolExecutor() as pool:
        training = pool.submit(on_gpus, Launch(workers=2), None, cluster.address)
        encoding = pool.submit(share_out, ENCODE, cluster.address, 8)
        asked_for(cluster.address, ["{'GPU': 1.0}"] * 2)
        cluster.add_node(num_cpus=0, num_gpus=2)
        assert training.result()
        assert encoding.result() == (2, "cuda", {"num_gpus": 1.0})
    asked_for(cluster.address, [])


@pytest.mark.ray
def test_cpus_are_taken_where_no_gpu_is_coming(cluster, monkeypatch, capsys):
    """Which is said; it is a mistake where GPUs were asked for, or are too few."""
    monkeypatch.setattr("datapipe.line.cluster.WAIT", 1.0)
    connect(cluster.address)
    assert not on_gpus(Launch(workers=2), None, cluster.address)
    assert "training on CPUs" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"--workers 2: .* has 0"):
        on_gpus(Launch(workers=2), "cuda", cluster.address)
    with pytest.raises(UserError, match="--device cuda"):
        share_out(replace(ENCODE, device="cuda"), cluster.address, 8)
    cluster.add_node(num_cpus=0, num_gpus=1)
    with pytest.raises(UserError, match=r"--workers 2: .* has 1"):
        on_gpus(Launch(workers=2), None, cluster.address)


@pytest.mark.ray
def test_nothing_is_waited_for_on_cpus(cluster, monkeypatch):
    """Neither where CPUs were asked for nor on this machine's own cluster."""
    monkeypatch.setattr("datapipe.line.cluster.WAIT", float("inf"))
    connect(cluster.address)
    assert not on_gpus(Launch(workers=2), "cpu", cluster.address)
    assert not on_gpus(Launch(workers=2), None, LOCAL)
    assert share_out(replace(ENCODE, device="cpu"), cluster.address, 8)[1] == "cpu"
    assert share_out(ENCODE, LOCAL, 8)[1] == "cpu"
