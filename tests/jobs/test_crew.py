"""Crews of Ray actors: whichever process is lost, every video is made."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

from datapipe.errors import UserError
from harmoview.orders import Order, Sampling
from jobs.options.crew import RESTARTS, Crew, VideoMaker, make_all


@pytest.mark.ray
@pytest.mark.slow
def test_a_crew_that_loses_a_process_is_replaced_by_another(tmp_path):
    """Its order is begun again, though the other process fails in the midst of an exchange; where
    that happens again and again, the command ends in a sentence."""
    import ray

    from datapipe.line.cluster import connect

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

    connect(None, log_to_driver=False)
    model = SimpleNamespace(sampling=Sampling(device="cpu"))
    actor = ray.remote(num_cpus=0.5)(Falters)
    orders = [Order(f"v{k}", "a walk", ()) for k in range(3)]

    def all_made(ends):
        for k in range(ends):
            (tmp_path / f"end{k}").touch()
        told = []
        make_all(orders, 1, lambda: Crew([actor.remote(model, tmp_path) for _ in range(2)]),
                 lambda: told.append(1))  # fmt: skip
        return len(told)

    assert all_made(1) == 3
    assert {path.name for path in tmp_path.iterdir()} == {"v0", "v1", "v2"}
    with pytest.raises(UserError, match="run this again"):
        all_made(RESTARTS + 1)
