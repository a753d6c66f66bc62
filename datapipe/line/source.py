"""The corpus as a source of Ray Data: listed while the line runs, and handed out block by block.

Two things tell how many samples a block gets, and when: what a sample was found to cost, and how
near the work has come. Both are known to one actor beside the driver, the `BlockSizer`, which the
listing asks before each block. Ray itself is imported only where a source is made.
"""

from __future__ import annotations

import asyncio
import pickle
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa

from datapipe.errors import UserError
from datapipe.record import Sample

WORK = 0.5
"""Seconds of work that a block holds at least: handing over a block costs some 10 ms."""
BLOCKS = 10.0
"""Blocks that reach the driver in a second, at most: it spends some 5 ms on each in each pool."""
MOST = 32
"""Samples of a block, at most: what one worker does alone while others may run dry."""
AHEAD = 8
"""Blocks listed ahead of the work before any worker is known."""
PATIENCE = 60.0
"""Seconds without news after which a block is handed out all the same: none may start it."""
MEMORY = 100.0
"""Samples after which an older measurement has lost half its weight."""
FORGOTTEN = 3600.0
"""Seconds after which a worker that takes no block no longer counts."""
WINDOW = 1024
"""Samples listed beyond the block at hand, where blocks hold several: to know when the end is near,
and cut it into small ones that leave no worker idle."""


def corpus_source(listing: Callable[[], Iterable[Sample]], sizer: Any) -> Any:
    """A Ray Data source with one task that lists, so that work starts with the first sample and
    nothing holds them all; `sizer` is the handle of a `BlockSizer` actor.
    """
    import ray
    from ray.data import Datasource, ReadTask
    from ray.data.block import BlockMetadata

    def sized(number: int, left: int | None) -> int:
        return int(ray.get(sizer.size.remote(number, left)))

    def read() -> Iterator[pa.Table]:
        for number, (samples, failure) in enumerate(blocks(listing, sized)):
            sizer.listed.remote(number, len(samples))
            row = {"number": [number], "failure": [failure], "samples": [pickle.dumps(samples)]}
            yield pa.table(row)

    class ListedSamples(Datasource):  # type: ignore[misc]  # Ray ships no types
        def estimate_inmemory_data_size(self) -> int | None:
            return None

        def get_read_tasks(self, *_: Any, **__: Any) -> list[ReadTask]:
            sizes = {"num_rows": None, "size_bytes": None, "input_files": None, "exec_stats": None}
            return [ReadTask(read, BlockMetadata(**sizes))]

    return ListedSamples()


def blocks(
    listing: Callable[[], Iterable[Sample]], size: Callable[[int, int | None], int]
) -> Iterator[tuple[list[Sample], str]]:
    """The samples in blocks; last of all an empty one with what ends the run, if anything does.

    `size` tells, and waits until, a block may be handed out: see `BlockSizer.size`.
    """
    samples, ahead = _until_broken(listing), deque[Sample]()
    number, ended, failure = 0, False, ""
    while ahead or not ended:
        wanted = size(number, len(ahead) if ended else None)
        enough = 1 if wanted == 1 else min(WINDOW, len(ahead) + 4 * wanted)
        while not ended and len(ahead) < max(wanted, enough):
            sample = next(samples, "")
            if isinstance(sample, Sample):
                ahead.append(sample)
            else:
                ended, failure = True, sample
        if ahead:
            yield [ahead.popleft() for _ in range(min(wanted, len(ahead)))], ""
            number += 1
    if failure:
        yield [], failure


def _until_broken(listing: Callable[[], Iterable[Sample]]) -> Iterator[Sample | str]:
    """The samples; and why there are no more, if the listing broke off."""
    try:
        yield from listing()
    except UserError as wrong:
        yield str(wrong)
    except Exception:  # noqa: BLE001 - Ray would drop the rest of the corpus without a word
        yield (
            f"the corpus could not be listed to its end:\n{traceback.format_exc()}"
            "What came before it is recorded; run the same command again: it continues"
        )


class BlockSizer:
    """Tells how large the next block is, once the work has come near enough to need it.

    It is one actor beside the driver; the listing, the workers and the driver tell it how they get
    on. A block that the listing asks for again, after a lost node, has the size it had before. The
    driver also learns here why workers ended themselves.
    """

    def __init__(self, most: int = MOST, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._clock = most, clock
        self._size = 1
        self._sizes: dict[int, int] = {}
        self._arrived = -1
        """The number of the newest block that the line's last pool has begun."""
        self._workers: dict[str, tuple[int, float]] = {}
        """How many blocks each holds at most, and when it was heard of last."""
        self._news = asyncio.Event()
        self._samples = self._seconds = 0.0
        self._listed: dict[int, int] = {}
        self._finished = 0
        self._ended: dict[str, str] = {}

    async def size(self, number: int, left: int | None = None) -> int:
        """Samples of block `number`; returns when the work has come near enough to it.

        `left` is how many samples there are still, where that is known: the last ones are shared
        out evenly.
        """
        while number not in self._sizes:
            if number - self._arrived <= AHEAD + sum(self._slots()):
                share = self._most if left is None else left // max(1, len(self._slots()))
                self._sizes[number] = max(1, min(self._size, share))
                break
            self._news.clear()
            try:
                await asyncio.wait_for(self._news.wait(), PATIENCE)
            except TimeoutError:  # those on their way were lost with their workers
                self._arrived += 1
        return self._sizes[number]

    async def listed(self, number: int, samples: int) -> None:
        """Hear from the listing that block `number` was handed out."""
        self._listed[number] = samples

    async def started(self, number: int, worker: str, slots: int, last: bool) -> None:
        """Hear from a worker, which holds up to `slots` blocks, that it began block `number`.

        `last` tells that it is of the line's last pool.
        """
        self._workers[worker] = slots, self._clock()
        if last:
            self._arrived = max(self._arrived, number)
        self._news.set()

    async def finished(self, samples: int, seconds: float) -> int:
        """Hear from the driver that so many more samples came out, which took so many seconds in
        all stages together. Returns how many are listed and have not come out yet.
        """
        kept = 0.5 ** (samples / MEMORY)
        self._samples = self._samples * kept + samples
        self._seconds = self._seconds * kept + seconds
        in_hand = sum(slots - 1 for slots in self._slots())  # of a worker's slots one only waits
        work = max(WORK, in_hand / BLOCKS)
        wanted = work * self._samples / max(self._seconds, 1e-9)
        # at most twice the last: the first few samples tell little
        self._size = max(1, int(min(wanted, 2 * self._size, self._most)))
        self._finished += samples
        return sum(self._listed.values()) - self._finished

    async def ended(self, keys: Sequence[str], reason: str) -> None:
        """Hear from a worker that it is about to end itself because of these samples."""
        self._ended.update(dict.fromkeys(keys, reason))

    async def endings(self) -> dict[str, str]:
        """Why workers ended themselves, by the sample's key."""
        return self._ended

    def _slots(self) -> list[int]:
        """Of each worker that has been heard of."""
        oldest = self._clock() - FORGOTTEN
        return [slots for slots, seen in self._workers.values() if seen > oldest]
