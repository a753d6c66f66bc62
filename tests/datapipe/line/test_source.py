"""Blocks hold half a second of work, and the listing stays near the work."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datapipe.errors import UserError
from datapipe.line import source
from datapipe.line.source import BlockSizer
from datapipe.record import Sample, Source


async def asked(some, number):
    """The size of a block, or None where the listing has to wait for it."""
    try:
        return await asyncio.wait_for(some.size(number), 0.01)
    except TimeoutError:
        return None


async def handed_out(some):
    """How many blocks the listing gets before it has to wait."""
    number = 0
    while await asked(some, number) is not None:
        number += 1
    return number


class Clock:
    """Time that passes when told to."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@given(
    seconds=st.floats(1e-6, 100.0),
    workers=st.integers(0, 1000),
    most=st.integers(1, 64),
)
def test_a_block_holds_half_a_second_of_work_or_what_the_driver_needs(seconds, workers, most):
    """Once the line runs steadily, between one sample and the most."""

    async def check():
        some = BlockSizer(most)
        for worker in range(workers):
            await some.started(0, str(worker), 2, False)
        for _ in range(8):
            await some.finished(10, 10 * seconds)
        wanted = max(source.WORK, workers / source.BLOCKS) / seconds
        assert await some.size(0) == pytest.approx(min(max(1, int(wanted)), most), abs=1)

    asyncio.run(check())


def test_blocks_shrink_at_once_when_samples_turn_slow():
    """As after a rerun's first samples, whose candidates were stored already."""

    async def check():
        some = BlockSizer()
        for _ in range(10):
            await some.finished(100, 0.1)
        assert await some.size(0) == source.MOST
        await some.finished(3, 60.0)
        assert await some.size(1) == 1

    asyncio.run(check())


def test_the_last_samples_are_shared_out_evenly():
    """No worker gets a full block while others have nothing left."""

    async def check():
        some = BlockSizer()
        for worker in range(4):
            await some.started(0, str(worker), 2, False)
        for _ in range(10):
            await some.finished(100, 0.1)
        sizes = [await some.size(number, left) for number, left in enumerate((1000, 100, 20, 3))]
        assert sizes == [source.MOST, 25, 5, 1]

    asyncio.run(check())


def test_the_listing_waits_for_the_work():
    """It is a few blocks ahead of the last pool, and of what each worker holds."""

    async def check():
        some = BlockSizer()
        assert await handed_out(some) == source.AHEAD
        await some.started(0, "first", 2, False)
        assert await handed_out(some) == source.AHEAD + 2
        await some.started(0, "last", 4, True)
        assert await handed_out(some) == source.AHEAD + 7
        await some.started(9, "last", 4, True)
        assert await handed_out(some) == source.AHEAD + 16

    asyncio.run(check())


def test_a_listing_that_starts_again_gets_the_same_blocks():
    """After a lost node Ray counts on it."""

    async def check():
        some, sizes = BlockSizer(), []
        for number in range(40):
            await some.started(number, "w", 2, True)
            await some.finished(2**number, 1e-3)
            sizes.append(await some.size(number))
        assert len(set(sizes)) > 2
        assert [await some.size(number) for number in range(40)] == sizes

    asyncio.run(check())


def test_lost_blocks_do_not_stop_the_listing(monkeypatch):
    """When nothing starts for long, what was handed out is taken for lost."""
    monkeypatch.setattr(source, "PATIENCE", 0.01)

    async def check():
        some = BlockSizer()
        for number in range(3 * source.AHEAD):
            await asyncio.wait_for(some.size(number), 1.0)

    asyncio.run(check())


def test_a_worker_not_heard_of_for_long_no_longer_counts():
    """Nodes come and go for weeks."""

    async def check():
        clock = Clock()
        some = BlockSizer(clock=clock)
        await some.started(0, "gone", 100, False)
        assert await asked(some, source.AHEAD - 1) is not None
        clock.now += source.FORGOTTEN + 1
        assert await handed_out(some) == source.AHEAD

    asyncio.run(check())


@pytest.mark.parametrize("most", [1, 5])
def test_a_block_never_exceeds_the_most(most):
    """One for the last try, so that no sample pays for another."""

    async def check():
        some = BlockSizer(most)
        for number in range(20):
            await some.started(number, "w", 1, True)
            await some.finished(1000, 1e-6)
            assert await some.size(number) <= most

    asyncio.run(check())


@given(
    count=st.integers(0, 60),
    sizes=st.lists(st.integers(1, 9), min_size=1),
    broken=st.booleans(),
)
def test_every_sample_is_handed_out_once_in_blocks_as_asked(count, sizes, broken):
    """Only the last block may be smaller; what broke the listing off comes after all of them."""
    samples = [Sample(f"k{number}", Source("x.mp4", ".mp4")) for number in range(count)]
    lefts = []

    def listing():
        yield from samples
        if broken:
            raise UserError("the store is away")

    def size(number, left):
        lefts.append(left)
        return sizes[number % len(sizes)]

    found = list(source.blocks(listing, size))
    *whole, failure = found if broken else [*found, ([], "the store is away")]
    assert failure == ([], "the store is away")
    assert [sample for block, _ in whole for sample in block] == samples
    assert all(why == "" for _, why in whole)
    lengths = [len(block) for block, _ in whole]
    assert lengths[:-1] == [sizes[number % len(sizes)] for number in range(len(lengths))][:-1]
    assert all(left is None or left <= count for left in lefts)


def test_a_listing_is_not_read_far_ahead_of_single_samples():
    """Each is handed out as soon as it is found, however slowly the next one comes."""
    taken = []
    listing = (taken.append(n) or Sample(f"k{n}", Source("x.mp4", ".mp4")) for n in range(9))
    for number, _ in enumerate(source.blocks(lambda: listing, lambda *_: 1)):
        assert len(taken) == number + 1
