"""The corpus as a Ray Data source: one task lists it as it goes, a batch of samples per block."""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

import pyarrow as pa
import ray
from ray.data import Datasource, ReadTask
from ray.data.block import BlockMetadata

from datapipe.errors import UserError
from datapipe.record import Sample


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
            number, batch, failure = 0, list[Sample](), ""
            samples = _until_broken(listing)
            while not failure:
                size = ray.get(pace.size.remote(number))
                batch = []
                for sample in islice(samples, size):
                    if isinstance(sample, str):
                        failure = sample
                    else:
                        batch.append(sample)
                if not batch:
                    break
                yield _block(number, batch)
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
