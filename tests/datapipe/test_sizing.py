"""Pools never ask for more than the cluster has."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datapipe.errors import UserError
from datapipe.sizing import LISTING_CPUS, plan_pools
from datapipe.stage import Resources


class Needs:
    def __init__(self, name, cpus=0.0, gpus=0.0):
        self.name, self.resources = name, Resources(cpus, gpus)


@given(
    weights=st.lists(st.floats(0.1, 8), min_size=1, max_size=4),
    cpus=st.floats(1, 4096),
    workers=st.none() | st.integers(1, 5000),
)
def test_cpu_pools_leave_room_for_the_listing(weights, cpus, workers):
    """An actor that does not fit waits for ever, so the sum stays below the cluster."""
    stages = [Needs(f"s{k}", weight) for k, weight in enumerate(weights)]
    pools = plan_pools(stages, cpus, 0, workers)
    held = sum(pool.workers * pool.resources.num_cpus for pool in pools)
    assert held + LISTING_CPUS <= cpus + 1e-6
    assert all(pool.workers >= 1 and pool.resources.num_cpus > 0 for pool in pools)


@given(gpus=st.integers(1, 512), each=st.sampled_from([0.25, 0.5, 1.0]))
def test_gpu_pools_share_the_gpus(gpus, each):
    """Every GPU is used and none is asked for twice."""
    stages = [Needs("prepare", cpus=1), Needs("synthesize", gpus=each)]
    _, pool = plan_pools(stages, 64, gpus)
    assert pool.workers == int(gpus / each)


def test_a_line_that_can_never_fit_is_an_error():
    """Instead of waiting for ever."""
    with pytest.raises(UserError, match=r"needs 1 GPUs.*the cluster has 0"):
        plan_pools([Needs("prepare", cpus=1), Needs("synthesize", gpus=1)], 8, 0)
