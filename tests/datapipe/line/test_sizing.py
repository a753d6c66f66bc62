"""Pools never ask for more than the cluster has."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datapipe.errors import UserError
from datapipe.line.cluster import gpus_held, plan_pools
from datapipe.stage import Resources


class Needs:
    def __init__(self, name, cpus=0.0, gpus=0.0, threads=1):
        self.name, self.resources = name, Resources(cpus, gpus, threads)


@given(
    gpu=st.lists(st.booleans(), min_size=1, max_size=5),
    cpus=st.floats(1, 4096),
    gpus=st.floats(8, 512),
    workers=st.none() | st.integers(1, 5000),
)
def test_pools_never_ask_for_more_than_the_cluster_has(gpu, cpus, gpus, workers):
    """An actor that does not fit waits for ever."""
    stages = [
        Needs(f"s{k}", gpus=1.0) if on else Needs(f"s{k}", cpus=1) for k, on in enumerate(gpu)
    ]
    pools = plan_pools(stages, cpus, gpus, workers)
    assert sum(p.workers * p.resources.num_cpus for p in pools) <= cpus + 1e-6
    assert sum(p.workers * p.resources.num_gpus for p in pools) <= gpus
    assert all(1 <= p.least <= p.workers <= (p.most or p.workers) for p in pools)
    assert [stage for p in pools for stage in p.stages] == stages


@given(cpus=st.integers(1, 256))
def test_a_line_of_cpu_stages_is_one_pool_with_a_worker_per_cpu(cpus):
    """So that its stages never wait for each other."""
    (pool,) = plan_pools([Needs("a", cpus=1), Needs("b", cpus=1), Needs("c", cpus=1)], cpus, 0)
    assert (pool.workers, pool.least, pool.most) == (cpus, cpus, None)


@given(cpus=st.integers(1, 256), workers=st.integers(1, 256))
def test_the_users_bound_on_workers_holds_however_the_cluster_grows(cpus, workers):
    """Also for pools that share it."""
    (alone,) = plan_pools([Needs("a", cpus=1)], cpus, 8, workers)
    assert alone.most == min(workers, cpus)
    shared = plan_pools(
        [Needs("a", cpus=1), Needs("b", gpus=1), Needs("c", cpus=1)], cpus, 8, workers
    )
    assert shared[0].most + shared[2].most <= max(2, min(workers, cpus))


def test_cpu_pools_that_compete_may_shrink_to_one_worker_and_gpu_pools_keep_theirs():
    """An idle CPU worker makes room for another pool; a GPU worker takes minutes to load."""
    stages = [Needs("a", cpus=1), Needs("b", gpus=1), Needs("c", cpus=1)]
    assert [pool.least for pool in plan_pools(stages, 16, 8)] == [1, 8, 1]


def test_a_pool_has_as_many_threads_as_its_stage_with_the_most():
    """A scorer after FLUX shares its worker and is entered by one thread at a time."""
    stages = [Needs("a", cpus=1), Needs("b", gpus=1, threads=3), Needs("c", gpus=0.25)]
    assert [pool.resources.threads for pool in plan_pools(stages, 16, 8)] == [1, 3]


@given(gpus=st.integers(1, 512), each=st.sampled_from([0.25, 0.5, 1.0]))
def test_gpu_pools_use_every_gpu(gpus, each):
    """And ask for none twice."""
    stages = [Needs("prepare", cpus=1), Needs("synthesize", gpus=each)]
    _, pool = plan_pools(stages, 64, gpus)
    assert pool.workers == int(gpus / each)


@given(gpus=st.integers(1, 512))
def test_a_worker_of_several_gpu_stages_holds_what_the_largest_needs(gpus):
    """Ray takes no 1.25 GPUs; synthesis and scoring on one GPU take turns."""
    stages = [Needs("prepare", cpus=1), Needs("synthesize", gpus=1), Needs("score", gpus=0.25)]
    _, pool = plan_pools(stages, 64, gpus)
    assert (pool.workers, pool.resources.num_gpus) == (gpus, 1.0)


def test_a_line_that_can_never_fit_is_an_error():
    """Instead of waiting for ever."""
    with pytest.raises(UserError, match=r"needs 1 GPUs.*the cluster has 0"):
        plan_pools([Needs("prepare", cpus=1), Needs("synthesize", gpus=1)], 8, 0)


def test_a_worker_holds_what_the_largest_of_its_stages_needs():
    """All the while, also in its smaller stages; so does the pool that it belongs to."""
    stages = [Needs("a", cpus=1), Needs("b", gpus=1), Needs("c", gpus=0.25)]
    assert gpus_held(stages) == {"a": 0.0, "b": 1.0, "c": 1.0}
    held = {
        s.name: pool.resources.num_gpus for pool in plan_pools(stages, 4, 2) for s in pool.stages
    }
    assert gpus_held(stages) == held
