"""Crews of Ray actors: whichever process is lost, every video is made."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

from datapipe.errors import UserError
from datapipe.line.cluster import connect
from harmoview.orders import Order, Sampling
from jobs.options.crew import Crew, VideoMaker, make_all


class Falters(VideoMaker):
    """Ends its process in the second video, as often as it is told to."""

    def make(self, order):
        from torch import distributed

        distributed.barrier()
        left = sorted(self._folder.glob("end*")) if order.name == "v1" else []
        if distributed.get_rank() == 1 and left:
            left[0].unlink()
            os._exit(1)
        distributed.barrier()
        if distributed.get_rank() == 0:
            (self._folder / order.name).touch()


class Ends(VideoMaker):
    """Ends its process in every video."""

    def make(self, order):
        os._exit(1)


@pytest.mark.ray
@pytest.mark.slow
def test_a_crew_that_loses_a_process_is_replaced_by_another(cluster, tmp_path, monkeypatch):
    """Its order is begun again, though the other process fails in the midst of an exchange; where
    that happens again and again, the command ends in a sentence."""
    import ray

    connect(cluster.address, log_to_driver=False)
    model = SimpleNamespace(sampling=Sampling(device="cpu"))
    orders = [Order(f"v{k}", "a walk", ()) for k in range(3)]
    told, started = [], []

    def make(maker, size):
        actor = ray.remote(num_cpus=0.5)(maker)

        def start():
            started.append(maker)
            return Crew([actor.remote(model, tmp_path) for _ in range(size)])

        make_all(orders, 1, start, lambda: told.append(maker))

    (tmp_path / "end").touch()
    make(Falters, 2)
    assert told == [Falters] * 3
    assert {path.name for path in tmp_path.iterdir()} == {"v0", "v1", "v2"}
    monkeypatch.setattr("jobs.options.crew.RESTARTS", 1)
    with pytest.raises(UserError, match="run this again"):
        make(Ends, 1)
    assert started == [Falters, Falters, Ends, Ends]
