"""The corpus as a Ray Data source: one task lists it as it goes, a batch of samples per block.

How much the listing hands out at once, and how far ahead of the work it may run.
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
import ray
from ray.data import Datasource, ReadTask
from ray.data.block import BlockMetadata

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


class Pace:
    """One actor beside the driver that the listing asks before each block.

    A block that the listing is asked for again, after a lost node, has the size it had before.
    """

    def __init__(self, most: int = MOST, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._clock = most, clock
        self._size = 1
        self._sizes: dict[int, int] = {}
        self._arrived = -1
        """The number of the newest block that the line's last pool has begun."""
        self._workers: dict[str, tuple[int, float]] = {}
        self._news = asyncio.Event()
        self._samples = self._seconds = 0.0
        self._listed: dict[int, int] = {}
        self._finished = 0
        self._ended: dict[str, str] = {}

    async def size(self, number: int, left: int | None = None) -> int:
        """Samples of block `number`; returns when the work has come near enough to it.

        `left`: how many samples there are still, where that is known; the last ones are shared out
        evenly.
        """
        while number not in self._sizes:
            if number - self._arrived <= self._allowed():
                share = self._most if left is None else left // max(1, len(self._slots()))
                self._sizes[number] = max(1, min(self._size, share))
                break
            self._news.clear()
            try:
                await asyncio.wait_for(self._news.wait(), PATIENCE)
            except TimeoutError:  # those on their way were lost with their workers
                self._arrived += 1
        return self._sizes[number]

    async def started(self, number: int, worker: str, slots: int, last: bool) -> None:
        """A worker that holds up to `slots` blocks began one; `last`: it is of the last pool."""
        self._workers[worker] = slots, self._clock()
        if last:
            self._arrived = max(self._arrived, number)
        self._news.set()

    async def listed(self, number: int, samples: int) -> None:
        """Block `number` was handed out."""
        self._listed[number] = samples

    async def finished(self, samples: int, seconds: float) -> int:
        """So many more samples came out, after so many seconds of work in all stages.

        Returns how many were handed out and did not come out yet.
        """
        kept = 0.5 ** (samples / MEMORY)
        self._samples = self._samples * kept + samples
        self._seconds = self._seconds * kept + seconds
        work = max(WORK, self._in_hand() / BLOCKS)
        wanted = work * self._samples / max(self._seconds, 1e-9)
        # at most twice the last: the first few samples tell little
        self._size = max(1, int(min(wanted, 2 * self._size, self._most)))
        self._finished += samples
        return sum(self._listed.values()) - self._finished

    async def ended(self, keys: Sequence[str], reason: str) -> None:
        """A worker is about to end itself because of these samples."""
        self._ended.update(dict.fromkeys(keys, reason))

    async def endings(self) -> dict[str, str]:
        """Why workers ended themselves, by the sample."""
        return self._ended

    def _allowed(self) -> int:
        """Blocks between the listing and the last pool."""
        return AHEAD + sum(self._slots())

    def _in_hand(self) -> int:
        """Samples that are worked on at once: of a worker's slots one only waits."""
        return sum(slots - 1 for slots in self._slots())

    def _slots(self) -> list[int]:
        oldest = self._clock() - FORGOTTEN
        return [slots for slots, seen in self._workers.values() if seen > oldest]


WINDOW = 1024
"""Samples listed beyond the block at hand, where blocks hold several: to know when the end is near,
and cut it into small ones that leave no worker idle."""


class CorpusSource(Datasource):  # type: ignore[misc]  # Ray ships no types
    """Streams a listing, so that work starts with the first sample and nothing holds them all."""

    def __init__(self, listing: Callable[[], Iterable[Sample]], pace: Any) -> None:
        """`pace` is the handle of a `datapipe.line.source.Pace`."""
        self._listing = listing
        self._pace = pace

    def get_name(self) -> str:
        return "Corpus"

    def estimate_inmemory_data_size(self) -> int | None:
        return None

    def get_read_tasks(self, *_: Any, **__: Any) -> list[ReadTask]:
        listing, pace = self._listing, self._pace

        def read() -> Iterator[pa.Table]:
            samples, ahead = _until_broken(listing), deque[Sample]()
            number, ended, failure = 0, False, ""
            while ahead or not ended:
                size = ray.get(pace.size.remote(number, len(ahead) if ended else None))
                enough = 1 if size == 1 else min(WINDOW, len(ahead) + 4 * size)
                while not ended and len(ahead) < max(size, enough):
                    sample = next(samples, None)
                    ended = not isinstance(sample, Sample)
                    if isinstance(sample, Sample):
                        ahead.append(sample)
                    else:
                        failure = sample or ""
                if ahead:
                    pace.listed.remote(number, min(size, len(ahead)))
                    yield _block(number, [ahead.popleft() for _ in range(min(size, len(ahead)))])
                    number += 1
            if failure:
                yield _block(number, [], failure)

        unknown = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
        return [ReadTask(read, unknown)]


def _until_broken(listing: Callable[[], Iterable[Sample]]) -> Iterator[Sample | str]:
    """The samples, then what ends the run if the listing broke off."""
    try:
        yield from listing()
    except UserError as wrong:
        yield str(wrong)
    except Exception:  # noqa: BLE001 - Ray would drop the rest of the corpus without a word
        yield (
            f"the corpus could not be listed to its end:\n{traceback.format_exc()}"
            "What came before it is recorded; run the same command again: it continues"
        )


def _block(number: int, samples: list[Sample], failure: str = "") -> pa.Table:
    """One row as the line's workers take it: samples, or what ends the run."""
    return pa.table({"number": [number], "failure": [failure], "samples": [pickle.dumps(samples)]})
