"""The corpus as a Ray Data source: one task lists it as it goes, a batch of samples per block."""

from __future__ import annotations

import pickle
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pyarrow as pa
import ray
from ray.data import Datasource, ReadTask
from ray.data.block import BlockMetadata

from datapipe.errors import UserError
from datapipe.record import Sample

WINDOW = 1024
"""Samples listed beyond the block at hand, where blocks hold several: to know when the end is near,
and cut it into small ones that leave no worker idle."""


class CorpusSource(Datasource):  # type: ignore[misc]  # Ray ships no types
    """Streams a listing, so that work starts with the first sample and nothing holds them all."""

    def __init__(self, listing: Callable[[], Iterable[Sample]], pace: Any) -> None:
        """`pace` is the handle of a `datapipe.line.pace.Pace`."""
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
