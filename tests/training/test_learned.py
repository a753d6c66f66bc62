"""A checkpoint goes on as what was saved, and is there whole or not at all."""

import multiprocessing
import os
import resource
import signal
import time

import pytest
import torch

from datapipe.errors import UserError
from tests.processes import forked
from tests.training.checkpoints import tensors
from training import optimizer
from training.learned import SKIPPED, LearnedWeights, checkpoints
from training.parallel import process_group


@pytest.fixture(autouse=True)
def alone():
    """torch.distributed for one process."""
    with process_group(torch.device("cpu")):
        yield


def adamw(parameters):
    return optimizer.adamw([(0.1, parameters)], 0.1)


def adamw8bit(parameters):
    pytest.importorskip("bitsandbytes")
    return optimizer.adamw([(0.1, parameters)], 0.01, "adamw8bit")


def learned(make=adamw, size=4, seed=0, steps=2, **more):
    """Weights after some steps at a falling rate; bitsandbytes has 8 bits from 4,096 numbers on."""
    torch.manual_seed(seed)
    parameters = {name: torch.nn.Parameter(torch.randn(size, 3)) for name in ("a", "b.c")}
    made = make(list(parameters.values()))
    schedule = torch.optim.lr_scheduler.ExponentialLR(made, 0.9)
    one = LearnedWeights(parameters, made, schedule, **{"ema": 0.9, "clip": 1.0, **more})
    for _ in range(steps):
        step(one)
    return one


def step(one, names=("a", "b.c")):
    sum((one.parameters[name] ** 2).sum() for name in names).backward()
    return one.step()


def same(one, other):
    pairs = [(one.parameters[name], other.parameters[name]) for name in one.parameters]
    pairs += zip(one.averages.shadow_params, other.averages.shadow_params, strict=True)
    return all(torch.equal(*pair) for pair in pairs)


@pytest.mark.parametrize(("make", "size"), [(adamw, 4), (adamw8bit, 4), (adamw8bit, 2000)])
def test_what_is_loaded_goes_on_as_what_was_saved(tmp_path, make, size):
    """Weights, moments, averages and rate continue bit for bit, in a learner that was elsewhere."""
    one, other = learned(make, size), learned(make, size, seed=9, steps=5)
    one.save(tmp_path, 2)
    other.load(tmp_path, 2)
    for _ in range(3):
        assert step(one) == step(other)
    assert same(one, other)


def test_a_weight_without_a_gradient_so_far_begins_as_it_would_have(tmp_path):
    """It has no moments before the checkpoint and none after it."""
    one, other = learned(steps=0), learned(seed=9)
    step(one, ["a"])
    one.save(tmp_path, 1)
    other.load(tmp_path, 1)
    for each in (one, other):
        step(each)
    assert same(one, other)


def test_weights_alone_go_on_with_a_fresh_optimiser(tmp_path):
    """As at the beginning of a phase: the rate and the moments are those of a first step."""
    one, fresh = learned(), learned(steps=0)
    one.save(tmp_path, 2)
    fresh.load(tmp_path, 2, weights_only=True)
    assert same(one, fresh)
    assert not fresh.optimizer.state
    assert step(fresh)["lr"] == 0.1


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_changes_no_weight(bad):
    """Nor an average or a moment: a run that skips such a step ends as one that had none."""
    one, other = learned(ema=0.9), learned(ema=0.9)
    one.schedule, other.schedule = (rate_that_stays(each) for each in (one, other))
    one.parameters["a"].grad = torch.full((4, 3), bad)
    assert one.step()["skipped"] == 1
    assert all(parameter.grad is None for parameter in one.parameters.values())
    assert step(one) == step(other)
    assert same(one, other)


def rate_that_stays(one):
    return optimizer.rates(one.optimizer, "constant", 0, 100)


def test_a_run_that_has_diverged_ends():
    """After some steps in a row without a finite gradient, but not where a good one is between."""
    one = learned()
    for good in (*[False] * (SKIPPED - 1), True, *[False] * (SKIPPED - 1)):
        one.parameters["a"].grad = torch.full((4, 3), 0.1 if good else float("nan"))
        assert one.step()["skipped"] == (not good)
    one.parameters["a"].grad = torch.full((4, 3), float("nan"))
    with pytest.raises(UserError, match="not finite"):
        one.step()


def test_averages_take_the_weights_place_within_the_block_only():
    """Bit for bit, there and back; without averages the weights stay."""
    one = learned()
    before, averages = ([t.detach().clone() for t in ts] for ts in
                        (one.parameters.values(), one.averages.shadow_params))  # fmt: skip
    assert not torch.equal(before[0], averages[0])
    with one.averaged():
        assert all(map(torch.equal, one.parameters.values(), averages))
    assert all(map(torch.equal, one.parameters.values(), before))
    plain = learned(ema=0.0)
    with plain.averaged():
        assert all(map(torch.equal, plain.parameters.values(), before))


def test_the_last_two_checkpoints_stay(tmp_path):
    """Older ones are deleted, and they are found in order."""
    one = learned()
    for done in (2, 10, 100, 1_000_000):
        one.save(tmp_path, done)
    assert checkpoints(tmp_path) == [100, 1_000_000]


def test_a_checkpoint_that_finds_no_room_is_a_sentence_and_leaves_the_former(tmp_path):
    """Here the system refuses to let a file grow; then there is room again."""
    one = learned(size=400)
    one.save(tmp_path, 1)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(UserError, match="make room"):
            one.save(tmp_path, 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert checkpoints(tmp_path) == [1]
    one.save(tmp_path, 2)
    assert checkpoints(tmp_path) == [1, 2]


def test_a_checkpoint_of_other_weights_is_refused(tmp_path):
    """Of other shapes or other names, before anything is changed."""
    learned().save(tmp_path, 2)
    other = learned(size=5)
    with pytest.raises(UserError, match="other weights"):
        other.load(tmp_path, 2)
    other = learned()
    other.parameters["d"] = other.parameters.pop("a")
    with pytest.raises(UserError, match="other weights"):
        other.load(tmp_path, 2)


SIZE = 50_000


def write_forever(folder):
    """Checkpoints of some MB, so that a kill is likely to fall into a write."""
    torch.set_num_threads(1)
    with process_group(torch.device("cpu")):
        one, parent = learned(size=SIZE), multiprocessing.parent_process()
        for done in range(checkpoints(folder)[-1] + 1, 10**6):
            if not parent.is_alive():
                return
            one.save(folder, done)


@pytest.mark.slow
def test_sigkill_while_writing_leaves_whole_checkpoints(tmp_path):
    """Whenever it is killed, every checkpoint in the folder loads; there is one from before."""
    one = learned(size=SIZE)
    one.save(tmp_path, 1)
    for i in range(3):
        worker = forked().Process(target=write_forever, args=(tmp_path,))
        worker.start()
        begun, deadline = checkpoints(tmp_path)[-1], time.monotonic() + 60
        while checkpoints(tmp_path)[-1] < begun + 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.017 * i)
        os.kill(worker.pid, signal.SIGKILL)
        worker.join()
        found = checkpoints(tmp_path)
        assert found[-1] >= begun + 2
        for done in found:
            one.load(tmp_path, done)
            assert tensors(tmp_path, done)
